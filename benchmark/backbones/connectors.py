"""Modules that bridge a student's features to a teacher's."""

from __future__ import annotations

from torch import Tensor, nn

from benchmark.errors import InputError


class MapRegressor(nn.Module):
    """From a student map (C_s, H_s, W_s) to a teacher map (C_t, H_t, W_t): one convolution, batch norm, ReLU.

    Equal sizes: 1 x 1. Twice the size: 3 x 3, stride 2. Half the size: transposed 4 x 4, stride 2. Larger otherwise: a
    valid convolution of kernel 1 + s - t. Anything else raises ``InputError`` with both shapes. Romero et al. 2015.
    """

    def __init__(self, student: tuple[int, int, int], teacher: tuple[int, int, int]) -> None:
        super().__init__()
        (channels, size, width), (out, target, target_width) = student, teacher
        bridge: nn.Module
        if (size, width) == (target, target_width):
            bridge = nn.Conv2d(channels, out, 1)
        elif (size, width) == (2 * target, 2 * target_width):
            bridge = nn.Conv2d(channels, out, 3, stride=2, padding=1)
        elif (2 * size, 2 * width) == (target, target_width):
            bridge = nn.ConvTranspose2d(channels, out, 4, stride=2, padding=1)
        elif size >= target and width >= target_width:
            bridge = nn.Conv2d(channels, out, (1 + size - target, 1 + width - target_width))
        else:
            raise InputError(
                f"no regressor leads from a student map {student} to a teacher map {teacher}; choose another tap"
            )
        self.layers = nn.Sequential(bridge, nn.BatchNorm2d(out), nn.ReLU())

    def forward(self, features: Tensor) -> Tensor:
        """B x C_s x H_s x W_s to B x C_t x H_t x W_t."""
        mapped: Tensor = self.layers(features)
        return mapped
