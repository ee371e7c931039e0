"""The teacher during the training of its students."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from benchmark.backbones.network import Network, Outputs
from benchmark.data.augmentation import Crops, Normalisation, ResizedCrops
from benchmark.data.image_set import IntArray
from benchmark.training.cost_clock import CostClock
from benchmark.training.device import Device
from benchmark.training.embedding_cache import EmbeddingCache
from benchmark.training.output_cache import TeacherOutputCache


class FrozenTeacher:
    """A network in eval mode that computes outputs for pixels normalised for a student, without gradients."""

    def __init__(
        self, network: Network, teacher_norm: Normalisation, student_norm: Normalisation, device: Device, *,
        embedding_cache: EmbeddingCache | None = None, output_cache: TeacherOutputCache | None = None,
        identity: Any = None,
    ) -> None:  # fmt: skip
        """Keep the network; the caches are used only for outputs without stages.

        Args:
            network: Network in eval mode.
            teacher_norm: Input statistics of the teacher.
            student_norm: Input statistics of the student.
            device: Device and precision.
            embedding_cache: Embeddings by image and crop.
            output_cache: Outputs by batch.
            identity: JSON value that names network and data in ``output_cache``.
        """
        self._forward = device.ready(network)
        self._renormalise = _renormaliser(student_norm, teacher_norm, device)
        self._device = device
        self._embedding_cache = embedding_cache
        self._output_cache = TeacherOutputCache(0) if output_cache is None else output_cache
        self._identity = [identity, *map(dataclasses.asdict, (teacher_norm, student_norm))]

    @property
    def clock(self) -> CostClock:
        """Clock of the costs of a training with this teacher."""
        return self._output_cache.clock

    def __call__(self, images: IntArray, crops: Crops | ResizedCrops, pixels: Tensor, *, stages: bool) -> Outputs:
        """Compute the outputs for a batch, in float32.

        Args:
            images: B indices into the data.
            crops: Crops of the images.
            pixels: B x C x H x W, the crops normalised for the student.
            stages: Whether the stages are read; if not, they may be missing.
        """
        with torch.no_grad(), self._device.autocast():
            if stages or isinstance(crops, ResizedCrops):
                outputs: Outputs = self._forward(self._renormalise(pixels)).float()
                return outputs
            if self._embedding_cache is not None:
                return self._embedding_cache.outputs(images, crops).float()
            embedding, logits = self._output_cache.get(
                self._device, self._identity, (images, *crops), lambda: self._embedding_and_logits(pixels)
            )
        return Outputs({}, embedding, logits)

    def outputs_of_crops(self, images: IntArray, crops: Sequence[Crops], pixels: Tensor) -> Outputs:
        """Compute embeddings P x V x D and logits P x V x classes for V crops of each of P images.

        Args:
            images: P indices into the data.
            crops: V crops, each of all images.
            pixels: P x V x C x H x W, normalised as the teacher expects; they are not renormalised.
        """
        if self._embedding_cache is not None:
            with torch.no_grad(), self._device.autocast():
                by_crop = [self._embedding_cache.outputs(images, crop).float() for crop in crops]
            self._embedding_cache.save()
            return Outputs(
                {}, torch.stack([x.embedding for x in by_crop], 1), torch.stack([x.logits for x in by_crop], 1)
            )

        def compute() -> tuple[Tensor, ...]:
            with torch.inference_mode(), self._device.autocast():
                parts = [self._forward(x).float() for x in pixels.flatten(0, 1).split(64)]
            return torch.cat([x.embedding for x in parts]).clone(), torch.cat([x.logits for x in parts]).clone()

        arrays = (images, *(part for crop in crops for part in crop))
        outputs = self._output_cache.get(self._device, ["crops", *self._identity], arrays, compute)
        return Outputs({}, *(x.unflatten(0, pixels.shape[:2]) for x in outputs))

    def _embedding_and_logits(self, pixels: Tensor) -> tuple[Tensor, ...]:
        outputs = self._forward(self._renormalise(pixels)).float()
        return outputs.embedding, outputs.logits


def _renormaliser(
    student_norm: Normalisation, teacher_norm: Normalisation, device: Device
) -> Callable[[Tensor], Tensor]:
    """Return the map from pixels normalised for the student to pixels normalised for the teacher."""
    if teacher_norm == student_norm:
        return lambda pixels: pixels
    shape = (1, -1, 1, 1)
    scale = torch.tensor([a / b for a, b in zip(student_norm.std, teacher_norm.std, strict=True)], device=device.torch)
    shift = torch.tensor(
        [(a - b) / s for a, b, s in zip(student_norm.mean, teacher_norm.mean, teacher_norm.std, strict=True)],
        device=device.torch,
    )
    scale, shift = scale.view(shape), shift.view(shape)
    return lambda pixels: pixels * scale + shift
