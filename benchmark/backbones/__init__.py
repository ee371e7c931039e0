"""Networks by name, one file for each family. A backbone returns named stage maps and a pooled embedding.

A row here names a constructor without importing it, so that listing networks does not import torch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from benchmark.registry import Registry

if TYPE_CHECKING:
    from benchmark.backbones.network import Backbone


class Constructor(Protocol):
    """Builds a backbone."""

    def __call__(self, *, channels: int, size: int, **fields: Any) -> Backbone:
        """Build the backbone.

        Args:
            channels: channels of the images.
            size: side of the images in pixels.
            **fields: fields of the name, such as ``depth``.
        """
        ...


BACKBONES: Registry[Constructor] = Registry("backbone", group="benchmark.backbones")

BACKBONES.register_lazy(
    "conv4-{width}",
    "benchmark.backbones.conv4:Conv4",
    help="Four 3 x 3 convolutions of that width, each with batch norm, max-pooling and ReLU (few-shot standard).",
    examples=("conv4-16", "conv4-32", "conv4-64"),
)
BACKBONES.register_lazy(
    "resnet12",
    "benchmark.backbones.resnet12:ResNet12",
    help="Four residual blocks of 64, 160, 320 and 640 channels (few-shot standard, for 84 x 84).",
)
BACKBONES.register_lazy(
    "resnet{depth}",
    "benchmark.backbones.resnet:ResNet",
    help="Residual network for small images, 6 n + 2 layers, 16, 32 and 64 channels (CIFAR standard).",
    examples=("resnet20", "resnet32", "resnet56", "resnet110"),
)
BACKBONES.register_lazy(
    "resnet{depth}x4",
    "benchmark.backbones.resnet:resnet_x4",
    help="As resnet{depth}, four times as wide.",
    examples=("resnet8x4", "resnet32x4"),
)
BACKBONES.register_lazy(
    "resnet{depth}-signed",
    "benchmark.backbones.resnet:resnet_signed",
    help="As resnet{depth}, without the last ReLU: the embedding has both signs (LUCIR's network).",
    examples=("resnet20-signed", "resnet32-signed"),
)
BACKBONES.register_lazy(
    "wrn-{depth}-{width}",
    "benchmark.backbones.wide_resnet:WideResNet",
    help="Wide residual network of REFILLED's code: biases, dropout 0.3; not RepDistiller's.",
    examples=("wrn-16-1", "wrn-16-2", "wrn-40-1", "wrn-40-2"),
)
BACKBONES.register_lazy(
    "wrn-{depth}-{width}-rd",
    "benchmark.backbones.wide_resnet:WideResNetRD",
    help="Wide residual network of RepDistiller; not REFILLED's.",
    examples=("wrn-16-1-rd", "wrn-16-2-rd", "wrn-40-1-rd", "wrn-40-2-rd"),
)
BACKBONES.register_lazy(
    "mobilenetv1-x{width:decimal}",
    "benchmark.backbones.mobilenet:MobileNetV1",
    help="Depthwise separable convolutions, the paper's channels times the width (for 224 x 224).",
    examples=("mobilenetv1-x1", "mobilenetv1-x0.75", "mobilenetv1-x0.5", "mobilenetv1-x0.25"),
)
BACKBONES.register_lazy(
    "vgg{depth}",
    "benchmark.backbones.vgg:VGG",
    help="Plain 3 x 3 convolutions with batch norm, for small images.",
    examples=("vgg8", "vgg13"),
)
BACKBONES.register_lazy(
    "timm:{name:text}",
    "benchmark.backbones.timm_model:timm_backbone",
    help="Any model of timm by its name there, untrained (extra `timm`).",
)

PRETRAINED: Registry[Callable[..., Any]] = Registry("pretrained teacher", group="benchmark.pretrained")
"""Pretrained teachers: functions of the name's fields that return a ``pretrained.Pretrained``."""

PRETRAINED.register_lazy(
    "efficientnet-lite0",
    "benchmark.backbones.efficientnet:efficientnet_lite0",
    help="EfficientNet-Lite0 with weights for ImageNet's 1000 classes (extra `pretrained`).",
)
PRETRAINED.register_lazy(
    "timm:{name:text}@{path:weights}",
    "benchmark.backbones.timm_model:timm_teacher",
    help="A model of timm with the weights in that file (extra `timm`).",
)
PRETRAINED.register_lazy(
    "{path:weights}",
    "benchmark.backbones.checkpoint:checkpoint",
    help="A teacher that this suite trained: its weights file.",
)
