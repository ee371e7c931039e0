"""Modules that map a student's features to the shape of a teacher's."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.errors import InputError
from benchmark.losses.feature_maps import pooled


class MapRegressor(nn.Module):
    """Maps a student map to the shape of a teacher map: one convolution, batch norm, ReLU. Romero et al. 2015.

    The convolution is 1 x 1 for equal sizes; 3 x 3 with stride 2 if the student's map is twice as large; transposed
    4 x 4 with stride 2 if it is half as large; valid with kernel 1 + s - t if it is larger otherwise.

    Args:
        student: shape (C_s, H_s, W_s) of the student map.
        teacher: shape (C_t, H_t, W_t) of the teacher map.

    Raises:
        InputError: no convolution maps these shapes.
    """

    def __init__(self, student: tuple[int, int, int], teacher: tuple[int, int, int]) -> None:
        super().__init__()
        (channels, size, width), (out, target, target_width) = student, teacher
        convolution: nn.Module
        if (size, width) == (target, target_width):
            convolution = nn.Conv2d(channels, out, 1)
        elif (size, width) == (2 * target, 2 * target_width):
            convolution = nn.Conv2d(channels, out, 3, stride=2, padding=1)
        elif (2 * size, 2 * width) == (target, target_width):
            convolution = nn.ConvTranspose2d(channels, out, 4, stride=2, padding=1)
        elif size >= target and width >= target_width:
            convolution = nn.Conv2d(channels, out, (1 + size - target, 1 + width - target_width))
        else:
            raise InputError(
                f"no regressor leads from a student map {student} to a teacher map {teacher}; choose another tap"
            )
        self.layers = nn.Sequential(convolution, nn.BatchNorm2d(out), nn.ReLU())

    def forward(self, features: Tensor) -> Tensor:
        """Map B x C_s x H_s x W_s to B x C_t x H_t x W_t."""
        mapped: Tensor = self.layers(features)
        return mapped


class VariationalRegressor(nn.Module):
    """Predicts a teacher map from a student map, as a Gaussian with a learnt scale for each channel.

    Three 1 x 1 convolutions without bias and with ReLU between them give the mean. The larger map is average-pooled to
    the smaller. The variance starts at 5. Ahn et al. 2019, in RepDistiller's form.

    Args:
        student: shape (C_s, H_s, W_s) of the student map.
        teacher: shape (C_t, H_t, W_t) of the teacher map.
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
        """Return the mean and the teacher's map at the smaller size.

        Args:
            student: B x C_s x H_s x W_s.
            teacher: B x C_t x H_t x W_t.

        Returns:
            Two maps B x C_t x H x W.
        """
        return self.layers(pooled(student, self.size)), pooled(teacher, self.size)


class ContrastiveMemory(nn.Module):
    """Projections of both networks' embeddings to unit vectors, and one memory of all training images for each network.

    Memories, normaliser and the generator of negatives are part of the module's state. Tian et al. 2020.

    Args:
        student: width of the student's embedding (D_s).
        teacher: width of the teacher's embedding (D_t).
        width: width of the unit vectors.
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
        """Draw both memories, uniform within +-sqrt(3 / width). The values are the same on every device.

        Args:
            rows: number of training images.
            device: where to keep the memories.
        """
        width = self.student.out_features
        draw = torch.Generator().manual_seed(self._seed)
        memories = (2 * torch.rand(2, rows, width, generator=draw) - 1) * math.sqrt(3 / width)
        self.student_memory, self.teacher_memory = memories.to(device).clone().unbind()
        self.log_normalizer = self.log_normalizer.to(device)
        self.generator = torch.Generator(device).manual_seed(self._seed + 1)

    def forward(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """Map embeddings B x D_s and B x D_t to unit rows B x width."""
        return F.normalize(self.student(student), dim=1), F.normalize(self.teacher(teacher), dim=1)

    def get_extra_state(self) -> Tensor:
        """Return the generator's state."""
        return self.generator.get_state()

    def set_extra_state(self, state: Tensor) -> None:
        """Restore the generator's state."""
        self.generator.set_state(state)
