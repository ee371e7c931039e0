"""MobileNetV1 (Howard et al. 2017, arXiv 1704.04861)."""

from __future__ import annotations

from torch import Tensor, nn

from benchmark.backbones.network import Backbone, initialise, tapped
from benchmark.errors import InputError

STAGES = (64,), (128, 128), (256, 256), (512,) * 6, (1024, 1024)
"""Channels of the blocks; the first block of every stage but the first halves the size."""


class MobileNetV1(Backbone):
    """Depthwise separable convolutions, ``width`` times the paper's channels; made for 224 x 224 images.

    Stages ``stage1`` to ``stage5`` are the outputs at 1/2, 1/4, ... 1/32 of the image's size (of a 32 x 32 image the
    last is one pixel); the embedding is the mean over the last one. As in REFILLED's code.
    """

    def __init__(self, *, channels: int, size: int, width: float) -> None:
        super().__init__()
        before = int(32 * width)
        if before < 1:
            raise InputError(
                f"mobilenetv1-x{width:g} has no channel left; the paper's widths are 1, 0.75, 0.5 and 0.25"
            )
        self.stem = nn.Sequential(*_convolution(channels, before, 3, 2))
        self.stages = nn.ModuleList()
        for number, widths in enumerate(STAGES):
            layers: list[nn.Module] = []
            for block, full in enumerate(widths):
                own = int(full * width)
                layers += _convolution(before, before, 3, 2 if number and not block else 1, groups=before)
                layers += _convolution(before, own, 1, 1)
                before = own
            self.stages.append(nn.Sequential(*layers))
        self.dim = before
        initialise(self)

    def forward(self, images: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Images B x C x H x W to ``(stages, embedding)``."""
        stages = tapped(self.stem(images), self.stages)
        return stages, stages["stage5"].mean((2, 3))


def _convolution(channels: int, width: int, kernel: int, stride: int, groups: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(channels, width, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [convolution, nn.BatchNorm2d(width), nn.ReLU()]
