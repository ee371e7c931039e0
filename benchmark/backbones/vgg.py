"""VGG with batch norm for small images (Simonyan and Zisserman 2014, arXiv 1409.1556) in the form of RepDistiller."""

from __future__ import annotations

from torch import Tensor, nn

from benchmark.backbones.network import Backbone, initialise, tapped
from benchmark.errors import InputError

WIDTHS = 64, 128, 256, 512, 512


class VGG(Backbone):
    """Five blocks of 64, 128, 256, 512 and 512 channels, of one (vgg8) or two (vgg13) 3 x 3 convolutions each.

    Max-pooling halves the size after each of the first three blocks; the last two share a size. The first block is the
    stem; stages ``stage1`` to ``stage4`` are the others' outputs, numbered as RepDistiller's; the embedding is the mean
    over the last map. One linear head follows in place of the paper's three layers.
    """

    def __init__(self, *, channels: int, size: int, depth: int) -> None:
        super().__init__()
        if depth not in (8, 13):
            raise InputError(f"vgg{depth} is not here; there are vgg8 and vgg13, and others as timm:vgg16_bn")
        if size < 8:
            raise InputError(f"vgg{depth} takes images of 8 x 8 at the least, got {size} x {size}")
        self.blocks = nn.ModuleList()
        before = channels
        for number, width in enumerate(WIDTHS):
            layers: list[nn.Module] = [nn.MaxPool2d(2)] if number in (1, 2, 3) else []
            for _ in range(1 if depth == 8 else 2):
                layers += [nn.Conv2d(before, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
                before = width
            self.blocks.append(nn.Sequential(*layers))
        self.dim = before
        initialise(self)

    def forward(self, images: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Images B x C x H x W to ``(stages, embedding)``."""
        stem, *blocks = self.blocks
        stages = tapped(stem(images), blocks)
        return stages, stages["stage4"].mean((2, 3))
