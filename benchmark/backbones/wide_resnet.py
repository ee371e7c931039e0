"""Wide residual networks (Zagoruyko and Komodakis 2016, arXiv 1605.07146) of two different families.

``wrn-{depth}-{width}`` is the network of REFILLED's code. ``wrn-{depth}-{width}-rd`` is RepDistiller's, whose numbers
the distillation literature compares. Do not compare published results of one family with the other. Both have three
groups of (depth - 4) / 6 blocks with 16, 32 and 64 times ``width`` channels.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.backbones.dropout import Dropout
from benchmark.backbones.network import Backbone, initialise_he, run_stages
from benchmark.errors import InputError

DROPOUT = 0.3


class _Block(nn.Module):
    """REFILLED's block: biases; dropout and stride at the second convolution; a shortcut from the raw input."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, width, 3, 1, 1)
        self.norm2 = nn.BatchNorm2d(width)
        self.dropout = Dropout(DROPOUT)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1)
        self.shortcut = nn.Sequential()
        if stride > 1 or channels != width:
            self.shortcut.append(nn.Conv2d(channels, width, 1, stride))

    def forward(self, features: Tensor) -> Tensor:
        inner = self.conv1(F.relu(self.norm1(features)))
        inner = self.conv2(self.dropout(F.relu(self.norm2(inner))))
        return inner + self.shortcut(features)


class _BlockRD(nn.Module):
    """RepDistiller's block: no bias, no dropout, stride at the first convolution, a shortcut after the first ReLU."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.shortcut = nn.Conv2d(channels, width, 1, stride, bias=False) if channels != width else None

    def forward(self, features: Tensor) -> Tensor:
        active = F.relu(self.norm1(features))
        inner = self.conv2(F.relu(self.norm2(self.conv1(active))))
        return inner + (features if self.shortcut is None else self.shortcut(active))


class WideResNet(Backbone):
    """The family of REFILLED's code: convolutions with bias, dropout 0.3, a last batch norm of momentum 0.9.

    Stages ``stage1`` to ``stage3`` are the groups' outputs before the next batch norm, as in RepDistiller. The
    embedding is the spatial mean of the last stage after batch norm and ReLU.

    All weights start as PyTorch draws them: that code (njulus/GKD) defines another start and never calls it.

    Args:
        channels: channels of the images.
        size: side of the images in pixels; any size is accepted.
        depth: number of layers, 6 n + 4 for n blocks in a group.
        width: factor of 16, 32 and 64 channels.
    """

    block: type[nn.Module] = _Block
    bias = True
    last_momentum = 0.9
    """Momentum (as in torch) of the last batch norm: its running statistics are nearly those of the last batch."""

    def __init__(self, *, channels: int, size: int, depth: int, width: int) -> None:
        super().__init__()
        blocks, remainder = divmod(depth - 4, 6)
        if remainder or blocks < 1 or width < 1:
            raise InputError(f"a wide ResNet has 6 n + 4 layers and a width of at least 1, not {depth} and {width}")
        self.stem = nn.Conv2d(channels, 16, 3, padding=1, bias=self.bias)
        self.groups = nn.ModuleList()
        before = 16
        for number in range(3):
            out = 16 * 2**number * width
            first = self.block(before, out, 2 if number else 1)
            self.groups.append(nn.Sequential(first, *(self.block(out, out, 1) for _ in range(blocks - 1))))
            before = out
        self.norm = nn.BatchNorm2d(before, momentum=self.last_momentum)
        self.dim = before

    def forward(self, images: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Map images B x C x H x W to ``(stages, embedding)``."""
        stages = run_stages(self.stem(images), self.groups)
        return stages, F.relu(self.norm(stages["stage3"])).mean((2, 3))


class WideResNetRD(WideResNet):
    """The family of RepDistiller: convolutions without bias, no dropout, torch's batch norm. Stages are the same.

    Convolutions start normal with variance 2 / fan-out, the head as PyTorch draws it with bias 0 (models/wrn.py).
    """

    block = _BlockRD
    bias = False
    last_momentum = 0.1

    def __init__(self, *, channels: int, size: int, depth: int, width: int) -> None:
        super().__init__(channels=channels, size=size, depth=depth, width=width)
        initialise_he(self)

    def initialise_head(self, head: nn.Linear) -> None:
        """Set the bias to 0."""
        nn.init.zeros_(head.bias)
