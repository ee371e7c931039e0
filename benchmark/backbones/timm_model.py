"""Any model of timm (Wightman 2019, https://github.com/huggingface/pytorch-image-models) by its name in timm."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from benchmark.backbones.network import Backbone, Network
from benchmark.backbones.pretrained import Knowledge, Pretrained
from benchmark.backbones.weights import WeightsFile
from benchmark.errors import InputError, did_you_mean
from benchmark.system.optional_packages import load_extra

_IMAGENET_CLASSES = (1000, 1001, 10450, 11221, 11821, 12000, 21841, 21842, 21843)
"""Numbers of classes of ImageNet and its larger editions. Weights with as many are taken for weights of ImageNet."""


class TimmBackbone(Backbone):
    """A timm model without its classifier.

    Stages ``stage1``, ``stage2``, ... are the maps of timm's ``forward_intermediates`` (the blocks of a vision
    transformer). The embedding is the input of its classifier.

    Args:
        model: the timm model.
        name: its name in timm, for messages.
        channels: channels of the images.
        size: side of the images in pixels.

    Raises:
        InputError: the model does not accept such images or has no such maps.
    """

    def __init__(self, model: nn.Module, name: str, *, channels: int, size: int) -> None:
        super().__init__()
        self.model: Any = model
        training = model.training
        try:
            with torch.no_grad():
                self.dim = self.eval()(torch.zeros(1, channels, size, size))[1].shape[1]
        except (AssertionError, AttributeError, IndexError, RuntimeError, TypeError, ValueError) as error:
            reason = str(error).strip().split("\n", 1)[0]
            raise InputError(f"timm:{name} does not work on images of {size} x {size}: {reason}") from None
        self.train(training)

    def forward(self, images: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Map images B x C x H x W to ``(stages, embedding)``."""
        features, maps = self.model.forward_intermediates(images)
        stages = {f"stage{number}": features for number, features in enumerate(maps, 1)}
        return stages, self.model.forward_head(features, pre_logits=True)


def timm_backbone(*, channels: int, size: int, name: str) -> TimmBackbone:
    """Build a timm model with random initial weights. Nothing is downloaded.

    Args:
        channels: channels of the images.
        size: side of the images in pixels.
        name: name of the model in timm.
    """
    return TimmBackbone(_model(name, channels, size, classes=0), name, channels=channels, size=size)


def timm_teacher(*, name: str, path: str) -> Pretrained:
    """Open a timm model with weights from a file. Its input size and statistics are timm's for that name.

    Args:
        name: name of the model in timm.
        path: the weights file.

    Raises:
        InputError: the model or the file cannot be used.
    """
    _, config = _timm(name)
    file = WeightsFile.at(path)
    channels, size, _ = config.input_size

    def load(size: int) -> Network:
        tensors = file.tensors()
        weight = tensors.get(f"{config.classifier}.weight")
        if weight is None:
            raise InputError(f"{file.path} holds no classifier {config.classifier!r} of timm:{name}")
        model = _model(name, channels, size, classes=len(weight))
        file.fill(model, tensors, f"timm:{name}")
        head = model.get_classifier()
        if not isinstance(head, nn.Linear):
            raise InputError(f"timm:{name} has a head that is not one linear layer; choose another model")
        model.reset_classifier(0)
        network = Network(TimmBackbone(model, name, channels=channels, size=size), len(weight))
        network.head = head
        return network

    head = file.tensors().get(f"{config.classifier}.weight")
    imagenet = head is not None and len(head) in _IMAGENET_CLASSES
    return Pretrained(
        name=f"timm:{name}@{file.sha256[:8]}", weights=file.path.name, sha256=file.sha256,
        size=size, mean=tuple(config.mean), std=tuple(config.std), load=load,
        knows=Knowledge(dataset="imagenet" if imagenet else ""),
    )  # fmt: skip


def _timm(name: str) -> tuple[Any, Any]:
    """Return timm and its configuration of a model."""
    timm = load_extra("timm", "timm", f"timm:{name}")
    if not timm.is_model(name):
        longer = sorted((known for known in timm.list_models() if known.startswith(name)), key=lambda k: (len(k), k))
        if longer:
            raise InputError(f"timm has no model {name!r}; names that begin so: {', '.join(longer[:4])}")
        hint = did_you_mean(name, timm.list_models(), count=2, cutoff=0.55)
        if hint.startswith("known:"):  # more than a thousand names
            hint = "see timm.list_models()"
        raise InputError(f"timm has no model {name!r}; {hint}")
    try:
        return timm, timm.get_pretrained_cfg(name)
    except RuntimeError as error:
        raise InputError(f"timm:{name}: {error}") from None


def _model(name: str, channels: int, size: int, classes: int) -> Any:
    timm, config = _timm(name)
    fixed = {"img_size": size} if config.fixed_input_size else {}
    try:
        return timm.create_model(name, pretrained=False, num_classes=classes, in_chans=channels, **fixed)
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        reason = str(error).strip().split("\n", 1)[0]
        raise InputError(f"timm:{name} cannot be built for images of {size} x {size}: {reason}") from None
