"""ResNet-12 of the few-shot literature (TADAM, arXiv 1805.10123, with the widths of MetaOptNet, arXiv 1904.03758)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.backbones.network import Backbone, initialise_he, run_stages
from benchmark.errors import InputError

WIDTHS = 64, 160, 320, 640
SLOPE = 0.1


class _Block(nn.Module):
    """Three 3 x 3 convolutions with batch norm, a 1 x 1 shortcut, leaky ReLU and 2 x 2 max-pooling."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.LeakyReLU(SLOPE),
            nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.LeakyReLU(SLOPE),
            nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width),
        )  # fmt: skip
        self.shortcut = nn.Sequential(nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width))

    def forward(self, features: Tensor) -> Tensor:
        return F.max_pool2d(F.leaky_relu(self.layers(features) + self.shortcut(features), SLOPE), 2)


class ResNet12(Backbone):
    """Four residual blocks of 64, 160, 320 and 640 channels for 84 x 84 images, as in MetaOptNet and FEAT.

    Stages ``stage1`` to ``stage4`` are the blocks' outputs. The embedding is the spatial mean of the last stage, 640
    numbers, as in FEAT; MetaOptNet flattens the stage to 16,000 numbers. Both regularise by DropBlock and dropout 0.1;
    here is neither, as in Meta-Baseline (arXiv 2003.04390).

    Convolutions start normal with variance 2 / fan-out, as in the code of MetaOptNet and FEAT; the head starts as
    PyTorch draws it.

    Args:
        channels: channels of the images.
        size: side of the images in pixels, at least 16.
    """

    def __init__(self, *, channels: int, size: int) -> None:
        super().__init__()
        if size < 16:
            raise InputError(f"resnet12 takes images of at least 16 x 16, got {size} x {size}")
        self.blocks = nn.ModuleList(map(_Block, (channels, *WIDTHS[:-1]), WIDTHS))
        self.dim = WIDTHS[-1]
        initialise_he(self)

    def forward(self, images: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Map images B x C x H x W to ``(stages, embedding)``."""
        stages = run_stages(images, self.blocks)
        return stages, stages["stage4"].mean((2, 3))
