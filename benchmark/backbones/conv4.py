"""Conv4, the four-layer network of the few-shot literature (Vinyals et al. 2016, arXiv 1606.04080)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmark.backbones.network import Backbone, tapped
from benchmark.errors import InputError


class Conv4(Backbone):
    """Four blocks of 3 x 3 convolution, batch norm, 2 x 2 max-pooling and ReLU, all of one width.

    Stages ``stage1`` to ``stage4`` are the blocks' outputs; the embedding is the last one flattened, as is the custom
    for this network: width * (size // 16)^2 numbers. Pooling stands before ReLU, which commutes with it and then
    touches a quarter of the elements.
    """

    def __init__(self, *, channels: int, size: int, width: int) -> None:
        super().__init__()
        if size < 16 or width < 1:
            raise InputError(
                f"conv4-{width} takes images of 16 x 16 and a width of 1 at the least, got {size} x {size}"
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
        """Images B x C x H x W to ``(stages, embedding)``."""
        stages = tapped(images, self.blocks)
        return stages, torch.flatten(stages["stage4"], 1)
