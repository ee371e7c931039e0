"""Conv4, the four-layer network of the few-shot literature (Vinyals et al. 2016, arXiv 1606.04080)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmark.backbones.network import Backbone, run_stages
from benchmark.errors import InputError


class Conv4(Backbone):
    """Four blocks of 3 x 3 convolution, batch norm, 2 x 2 max-pooling and ReLU, all of one width.

    Stages ``stage1`` to ``stage4`` are the blocks' outputs. The embedding is the last stage flattened, as usual for
    this network: width * (size // 16)^2 numbers, 1600 for conv4-64 at 84 x 84. Pooling precedes ReLU: the result is the
    same, at a quarter of ReLU's cost.

    It is the network of Prototypical Networks' code: all weights start as PyTorch draws them. The convolutions have no
    bias, which batch norm would remove. PyTorch drew the scales of batch norm between 0 and 1 when that code was
    written; today they are 1. FEAT's Conv4 pools the last stage further, to 64 numbers.

    Args:
        channels: channels of the images.
        size: side of the images in pixels, at least 16.
        width: channels of every block.
    """

    def __init__(self, *, channels: int, size: int, width: int) -> None:
        super().__init__()
        if size < 16 or width < 1:
            raise InputError(
                f"conv4-{width} takes images of at least 16 x 16 and a width of at least 1, got {size} x {size}"
            )
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels if i == 0 else width, width, 3, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.MaxPool2d(2),
                nn.ReLU(),
            )
            for i in range(4)
        )
        self.dim = width * (size // 16) ** 2

    def forward(self, images: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Map images B x C x H x W to ``(stages, embedding)``."""
        stages = run_stages(images, self.blocks)
        return stages, torch.flatten(stages["stage4"], 1)
