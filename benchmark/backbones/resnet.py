"""Residual networks for small images (He et al., CVPR 2016, arXiv 1512.03385) in the form of RepDistiller."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.backbones.network import Backbone, initialise_he, run_stages
from benchmark.errors import InputError


class _Block(nn.Module):
    """Two 3 x 3 convolutions with batch norm and a shortcut, which is a 1 x 1 convolution if the shape changes."""

    relu = True
    """Whether the block ends in ReLU."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.shortcut = nn.Sequential()
        if stride > 1 or channels != width:
            self.shortcut.extend([nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width)])

    def forward(self, features: Tensor) -> Tensor:
        inner = F.relu(self.norm1(self.conv1(features)))
        outer = self.norm2(self.conv2(inner)) + self.shortcut(features)
        return F.relu(outer) if self.relu else outer


class ResNet(Backbone):
    """A stem and three groups of basic blocks. The second and third group halve the size.

    Stages ``stage1`` to ``stage3`` are the groups' outputs after ReLU, as in RepDistiller. The embedding is the spatial
    mean of the last stage. A shortcut that changes shape is a 1 x 1 convolution; the paper's CIFAR networks have none
    there, which makes them 2,752 parameters smaller.

    Convolutions start normal with variance 2 / fan-out, the head as PyTorch draws it, as in RepDistiller's code
    (models/resnet.py).

    Args:
        channels: channels of the images.
        size: side of the images in pixels; any size is accepted.
        depth: number of layers, 6 n + 2 for n blocks in a group.
        widths: channels of the stem and of the three groups.
        last_relu: if False, the last block ends without ReLU, so that the embedding has both signs.
    """

    def __init__(
        self, *, channels: int, size: int, depth: int, widths: tuple[int, int, int, int] = (16, 16, 32, 64),
        last_relu: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        blocks, remainder = divmod(depth - 2, 6)
        if remainder or blocks < 1:
            raise InputError(
                f"a ResNet for small images has 6 n + 2 layers, not {depth}; for ImageNet's, take timm:resnet{depth}"
            )
        stem, *groups = widths
        self.stem = nn.Sequential(nn.Conv2d(channels, stem, 3, padding=1, bias=False), nn.BatchNorm2d(stem), nn.ReLU())
        self.groups = nn.ModuleList()
        for number, width in enumerate(groups):
            strides = [2 if number else 1] + [1] * (blocks - 1)
            inputs = [widths[number]] + [width] * (blocks - 1)
            self.groups.append(nn.Sequential(*map(_Block, inputs, [width] * blocks, strides)))
        self.groups[-1][-1].relu = last_relu  # type: ignore[index]
        self.dim = widths[-1]
        initialise_he(self)

    def forward(self, images: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Map images B x C x H x W to ``(stages, embedding)``."""
        stages = run_stages(self.stem(images), self.groups)
        return stages, stages["stage3"].mean((2, 3))


def resnet_signed(*, channels: int, size: int, depth: int) -> ResNet:
    """Build the network of LUCIR's cosine methods: the last block has no ReLU, the embedding has both signs.

    iCaRL's network has no last ReLU either, but shortcuts without parameters.
    """
    return ResNet(channels=channels, size=size, depth=depth, last_relu=False)


def resnet_x4(*, channels: int, size: int, depth: int) -> ResNet:
    """Build RepDistiller's ``resnet{depth}x4``: groups four times as wide, the stem twice as wide."""
    return ResNet(channels=channels, size=size, depth=depth, widths=(32, 64, 128, 256))
