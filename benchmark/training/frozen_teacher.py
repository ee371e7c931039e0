"""The teacher as the training of its students sees it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from benchmark.backbones.network import Network, Outputs
from benchmark.data.augmentation import Crops, Normalisation, ResizedCrops
from benchmark.data.image_set import IntArray
from benchmark.training.device import Device
from benchmark.training.embedding_cache import EmbeddingCache
from benchmark.training.output_cache import TeacherOutputCache

_BOTH = "embedding", "logits"


class FrozenTeacher:
    """A frozen network in eval mode, asked without gradient about pixels that are normalised for a student.

    theirs, ours: the statistics of its own input and of the student's. views: what it has made of views before.
    passes: what it has made of whole batches before, for ``identity``, a JSON value that says which network looks at
    which data. Both are asked only where the network's stages are not.
    """

    def __init__(
        self, network: Network, theirs: Normalisation, ours: Normalisation, device: Device, *,
        views: EmbeddingCache | None = None, passes: TeacherOutputCache | None = None, identity: Any = None,
    ) -> None:  # fmt: skip
        self._see = device.ready(network)
        self._retune = _retuner(ours, theirs, device)
        self._device = device
        self._views = views
        self.passes = TeacherOutputCache(0) if passes is None else passes
        self._identity = [identity, *map(dataclasses.asdict, (theirs, ours))]

    def __call__(self, images: IntArray, seen: Crops | ResizedCrops, pixels: Tensor, *, stages: bool) -> Outputs:
        """Its outputs for a batch, in float32: of ``images`` by index into the data, cut to ``pixels`` as ``seen``.

        stages: whether they are read; where they are not, there may be none.
        """
        with torch.no_grad(), self._device.autocast():
            if stages or isinstance(seen, ResizedCrops):
                outputs: Outputs = self._see(self._retune(pixels)).float()
                return outputs
            if self._views is not None:
                return self._views.outputs(images, seen).float()
            parts = self.passes.get(self._device, self._identity, (images, *seen), lambda: self._both(pixels))
        return Outputs({}, *parts)

    def crops(self, images: IntArray, seen: Sequence[Crops], pixels: Tensor) -> Outputs:
        """Its embedding and logits of V views of each image, as pixels P x V x C x H x W: P x V x D, P x V x classes.

        The pixels are taken as they are.
        """
        if self._views is not None:
            with torch.no_grad(), self._device.autocast():
                each = [self._views.outputs(images, view).float() for view in seen]
            self._views.save()
            return Outputs({}, *(torch.stack([getattr(part, tap) for part in each], 1) for tap in _BOTH))

        def compute() -> tuple[Tensor, ...]:
            with torch.inference_mode(), self._device.autocast():
                parts = [self._see(x).float() for x in pixels.flatten(0, 1).split(64)]
            return tuple(torch.cat([getattr(part, tap) for part in parts]).clone() for tap in _BOTH)

        drawn = [part for view in seen for part in view]
        both = self.passes.get(self._device, ["crops", *self._identity], (images, *drawn), compute)
        return Outputs({}, *(x.unflatten(0, pixels.shape[:2]) for x in both))

    def _both(self, pixels: Tensor) -> tuple[Tensor, ...]:
        outputs = self._see(self._retune(pixels)).float()
        return outputs.embedding, outputs.logits


def _retuner(ours: Normalisation, theirs: Normalisation, device: Device) -> Callable[[Tensor], Tensor]:
    """From pixels normalised for the student to pixels normalised for the teacher."""
    if theirs == ours:
        return lambda pixels: pixels
    shape = (1, -1, 1, 1)
    scale = torch.tensor([a / b for a, b in zip(ours.std, theirs.std, strict=True)], device=device.torch).view(shape)
    shift = torch.tensor(
        [(a - b) / s for a, b, s in zip(ours.mean, theirs.mean, theirs.std, strict=True)], device=device.torch
    ).view(shape)
    return lambda pixels: pixels * scale + shift
