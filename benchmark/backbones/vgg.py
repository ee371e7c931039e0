"""VGG with batch norm for small images (Simonyan and Zisserman 2014, arXiv 1409.1556) in the form of RepDistiller."""

from __future__ import annotations

from torch import Tensor, nn

from benchmark.backbones.network import Backbone, initialise_he, run_stages
from benchmark.errors import InputError

WIDTHS = 64, 128, 256, 512, 512


class VGG(Backbone):
    """Five blocks of 64, 128, 256, 512 and 512 channels, of one (vgg8) or two (vgg13) 3 x 3 convolutions each.

    Max-pooling halves the size after each of the first three blocks; the last two blocks share a size. The first block
    is the stem. Stages ``stage1`` to ``stage4`` are the outputs of the others, numbered as in RepDistiller. The
    embedding is the spatial mean of the last stage. One linear head replaces the paper's three layers.

    Convolutions start normal with variance 2 / fan-out and bias 0, the head normal with deviation 0.01 and bias 0, as
    in RepDistiller's code (models/vgg.py).

    Args:
        channels: channels of the images.
        size: side of the images in pixels, at least 8.
        depth: 8 or 13.
    """

    def __init__(self, *, channels: int, size: int, depth: int) -> None:
        super().__init__()
        if depth not in (8, 13):
            raise InputError(f"vgg{depth} does not exist; use vgg8 or vgg13, or another VGG of timm, as timm:vgg16_bn")
        if size < 8:
            raise InputError(f"vgg{depth} takes images of at least 8 x 8, got {size} x {size}")
        self.blocks = nn.ModuleList()
        before = channels
        for number, width in enumerate(WIDTHS):
            layers: list[nn.Module] = [nn.MaxPool2d(2)] if number in (1, 2, 3) else []
            for _ in range(1 if depth == 8 else 2):
                layers += [nn.Conv2d(before, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
                before = width
            self.blocks.append(nn.Sequential(*layers))
        self.dim = before
        initialise_he(self)

    def forward(self, images: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Map images B x C x H x W to ``(stages, embedding)``."""
        stem, *blocks = self.blocks
        stages = run_stages(stem(images), blocks)
        return stages, stages["stage4"].mean((2, 3))

    def initialise_head(self, head: nn.Linear) -> None:
        """Draw the weights normal with deviation 0.01; the bias becomes 0."""
        nn.init.normal_(head.weight, 0.0, 0.01)
        nn.init.zeros_(head.bias)
