"""Modules that bridge a student's features to a teacher's."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.errors import InputError
from benchmark.losses.feature_maps import pooled


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


class VariationalRegressor(nn.Module):
    """From a student map to the mean of a Gaussian over a teacher map, with a learnt scale per channel.

    Three 1 x 1 convolutions without bias, ReLU between them; the larger map is average-pooled to the smaller. The scale
    starts at a variance of 5. Ahn et al. 2019 in RepDistiller's form.
    """

    def __init__(self, student: tuple[int, int, int], teacher: tuple[int, int, int]) -> None:
        super().__init__()
        channels, out = student[0], teacher[0]
        self.size = min(student[1], teacher[1]), min(student[2], teacher[2])
        self.layers = nn.Sequential(
            nn.Conv2d(channels, out, 1, bias=False), nn.ReLU(),
            nn.Conv2d(out, out, 1, bias=False), nn.ReLU(),
            nn.Conv2d(out, out, 1, bias=False),
        )  # fmt: skip
        self.log_scale = nn.Parameter(torch.full((out,), math.log(math.exp(5 - 1e-5) - 1)))

    def forward(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """Both maps to the mean and the teacher's map, of one shape: B x C_t x H x W."""
        return self.layers(pooled(student, self.size)), pooled(teacher, self.size)


class ContrastiveMemory(nn.Module):
    """Linear heads of both networks to unit vectors of one width, and for each a memory of all training images.

    Memories, normaliser and the generator of negatives are part of the module's state. Tian et al. 2020.
    """

    student_memory: Tensor
    teacher_memory: Tensor
    log_normalizer: Tensor

    def __init__(self, student: int, teacher: int, width: int) -> None:
        super().__init__()
        self.student = nn.Linear(student, width)
        self.teacher = nn.Linear(teacher, width)
        self.generator = torch.Generator()
        self._seed = int(torch.randint(1 << 62, ()))
        self.register_buffer("student_memory", torch.empty(0, width))
        self.register_buffer("teacher_memory", torch.empty(0, width))
        self.register_buffer("log_normalizer", torch.full((2,), math.nan))

    def reserve(self, rows: int, device: torch.device) -> None:
        """Draw both memories, uniform within +-sqrt(3 / width): the same on every device."""
        width = self.student.out_features
        draw = torch.Generator().manual_seed(self._seed)
        memories = (2 * torch.rand(2, rows, width, generator=draw) - 1) * math.sqrt(3 / width)
        self.student_memory, self.teacher_memory = memories.to(device).clone().unbind()
        self.log_normalizer = self.log_normalizer.to(device)
        self.generator = torch.Generator(device).manual_seed(self._seed + 1)

    def forward(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings B x D_s and B x D_t to unit rows B x width."""
        return F.normalize(self.student(student), dim=1), F.normalize(self.teacher(teacher), dim=1)

    def get_extra_state(self) -> Tensor:
        """The generator's state."""
        return self.generator.get_state()

    def set_extra_state(self, state: Tensor) -> None:
        """Put the generator back."""
        self.generator.set_state(state)
