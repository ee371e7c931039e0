"""MobileNetV1 (Howard et al. 2017, arXiv 1704.04861)."""

from __future__ import annotations

from torch import Tensor, nn

from benchmark.backbones.network import Backbone, run_stages
from benchmark.errors import InputError

STAGES = (64,), (128, 128), (256, 256), (512,) * 6, (1024, 1024)
"""Channels of the blocks of each stage. The first block of every stage but the first halves the size."""


class MobileNetV1(Backbone):
    """Depthwise separable convolutions for 224 x 224 images, as in REFILLED's code (njulus/GKD).

    Stages ``stage1`` to ``stage5`` are the outputs at 1/2, 1/4, ... 1/32 of the image's size (one pixel in ``stage5``
    for 32 x 32 images). The embedding is the spatial mean of the last stage.

    All weights start as PyTorch draws them: that code defines another start and never calls it.

    Args:
        channels: channels of the images.
        size: side of the images in pixels; any size is accepted.
        width: factor of the paper's channels.
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
                out = int(full * width)
                layers += _convolution(before, before, 3, 2 if number and not block else 1, groups=before)
                layers += _convolution(before, out, 1, 1)
                before = out
            self.stages.append(nn.Sequential(*layers))
        self.dim = before

    def forward(self, images: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Map images B x C x H x W to ``(stages, embedding)``."""
        stages = run_stages(self.stem(images), self.stages)
        return stages, stages["stage5"].mean((2, 3))


def _convolution(channels: int, width: int, kernel: int, stride: int, groups: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(channels, width, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [convolution, nn.BatchNorm2d(width), nn.ReLU()]
