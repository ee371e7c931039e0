"""One fully resolved run: typed, frozen settings and the key of their content."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt

from benchmark.errors import InputError
from benchmark.hashing import content_key, content_name
from benchmark.settings import ADDED_LATER, to_config

if TYPE_CHECKING:
    from benchmark.backbones.pretrained import Pretrained


def shares_of_steps(setting: str, text: str) -> tuple[float, ...]:
    """Return the milestones in a text such as ``0.25,0.5,0.75``; none in an empty one.

    Args:
        setting: name of the setting, for the message.
        text: its value.

    Raises:
        InputError: they are not ascending shares between 0 and 1.
    """
    try:
        shares = tuple(float(part) for part in text.split(",")) if text else ()
    except ValueError:
        shares = (math.nan,)
    if list(shares) != sorted(set(shares)) or not all(0 < share < 1 for share in shares):
        raise InputError(f"{setting} = {text!r}: not ascending shares of a stage between 0 and 1, as 0.25,0.5,0.75")
    return shares


@dataclass(frozen=True)
class Training:
    """Training of a network. All methods of a protocol share these settings."""

    steps: Annotated[int, Ge(1), Le(1_000_000_000)] = 600
    batch_size: Annotated[int, Ge(2), Le(1_000_000)] = 64
    sampler: Literal["uniform", "balanced"] = "uniform"
    classes_per_batch: Annotated[int, Ge(2)] = 16
    """Classes in a batch of the balanced sampler, each with ``batch_size / classes_per_batch`` images."""
    lr: Annotated[float, Gt(0)] = 0.1
    momentum: Annotated[float, Ge(0), Lt(1)] = 0.9
    weight_decay: Annotated[float, Ge(0)] = 5e-4
    warmup: Annotated[float, Ge(0), Lt(1)] = 0.05
    """Share of a stage's steps in which the rate rises linearly from zero."""
    crop_padding: Annotated[int, Ge(0), Le(64)] = 4
    """Pixels of background added on each side before a random crop of the image's size; 0 disables cropping."""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Numbers of the networks' passes; losses are in float32. The same on every processor unless it is asked for."""
    milestones: str = field(default="", metadata=ADDED_LATER)
    """Comma-separated shares of a stage at which the rate is multiplied by ``decay``. Empty: a cosine to 0."""
    decay: Annotated[float, Gt(0), Le(1)] = field(default=0.1, metadata=ADDED_LATER)
    nesterov: bool = field(default=True, metadata=ADDED_LATER)
    crop: Literal["padded", "resized"] = field(default="padded", metadata=ADDED_LATER)
    """``padded``: a random crop of the image with ``crop_padding`` around it. ``resized``: a random crop of 8 to 100 %
    of the image, with sides between 3:4 and 4:3, resized to the input size."""
    input_size: Annotated[int, Ge(0)] = field(default=0, metadata=ADDED_LATER)
    """Side length of the network input in pixels. Evaluation uses the centre crop. 0 uses the whole image."""
    normalisation: Literal["data", "cifar100", "imagenet"] = field(default="data", metadata=ADDED_LATER)
    """Channel statistics: those of the training images, or those that papers on that data set use."""

    def __post_init__(self) -> None:
        shares_of_steps("training.milestones", self.milestones)

    @property
    def balanced_classes(self) -> int | None:
        """Classes per batch of the balanced sampler; None for the uniform sampler."""
        return self.classes_per_batch if self.sampler == "balanced" else None

    def decays(self) -> tuple[float, ...]:
        """Return the milestones as numbers."""
        return shares_of_steps("training.milestones", self.milestones)


@dataclass(frozen=True)
class Student:
    """The network that a method trains."""

    backbone: str = "conv4-16"
    start: Literal["fresh", "teacher"] = "fresh"
    """Initial weights if the method allows both: random ones, or those of the teacher."""


@dataclass(frozen=True)
class Teacher:
    """The network that guides the student.

    Its seed is independent of the run's: by default all runs share one teacher. A pretrained teacher knows classes of
    its own and is not trained; only ``backbone``, ``size`` and ``overlap`` apply to it.
    """

    backbone: str = "conv4-64"
    seed: Annotated[int, Ge(0)] = 0
    steps: Annotated[int, Ge(1), Le(1_000_000_000)] = 600
    batch_size: Annotated[int, Ge(2), Le(1_000_000)] = 64
    lr: Annotated[float, Gt(0)] = 0.1
    weight_decay: Annotated[float, Ge(0)] = 5e-4
    size: Annotated[int, Ge(0)] = 0
    """Input size of a pretrained teacher in pixels; 0 uses the teacher's own size."""
    overlap: Literal["none", "unknown", "allowed"] = field(default="none", metadata=ADDED_LATER)
    """Whether a pretrained teacher may know what is judged. ``allowed`` takes it even so; a run finds the others."""
    milestones: str = field(default="training", metadata=ADDED_LATER)
    """Shares of the steps at which the rate falls, as ``training.milestones``; ``training`` takes those."""
    decay: Annotated[float, Ge(0), Le(1)] = field(default=0.0, metadata=ADDED_LATER)
    """Factor of the rate at each milestone; 0 takes ``training.decay``."""
    loss: Literal["ce", "bce"] = field(default="ce", metadata=ADDED_LATER)
    """Cross-entropy, or ``bce``: binary cross-entropy of sigmoid outputs, as the first network of iCaRL learns."""

    def __post_init__(self) -> None:
        if self.milestones != "training":
            shares_of_steps("teacher.milestones", self.milestones)


@dataclass(frozen=True)
class RunSpec:
    """One fully resolved run: everything that determines its result."""

    protocol: str
    dataset: str
    method: str
    seed: int
    preset: str
    """A label for tables; its values are in the settings."""
    protocol_settings: Any
    """An instance of the protocol's ``Settings``."""
    method_settings: Any
    """An instance of the method's ``Settings``."""
    student: Student
    teacher: Teacher
    training: Training
    versions: Mapping[str, int] = field(default_factory=dict)
    """Versions of the protocol, the method and the training code."""
    fingerprint: str = ""
    """The sha256 of the data."""
    pretrained: Pretrained | None = None
    """The pretrained teacher; None if the teacher is trained here."""
    reads_teacher: bool = True
    """False if nothing of the teacher can change the student: it is measured beside it, and is no part of the key."""

    def config(self) -> dict[str, Any]:
        """Return everything that determines the result as JSON values; devices, paths and workers are no part of it."""
        return {
            "protocol": {"name": self.protocol, **to_config(self.protocol_settings)},
            "dataset": {"name": content_name(self.dataset), "fingerprint": self.fingerprint},
            "method": {"name": self.method, **to_config(self.method_settings)},
            "student": to_config(self.student),
            **(self.teacher_config() if self.reads_teacher else {}),
            "training": to_config(self.training),
            "seed": self.seed,
            "versions": dict(self.versions),
        }

    def teacher_config(self) -> dict[str, Any]:
        """Return everything that determines the teacher as JSON values."""
        settings = to_config(self.teacher)
        if self.pretrained is None:
            del settings["size"]  # applies to pretrained teachers only
            return {"teacher": settings}
        teacher = {"backbone": self.pretrained.name, "size": self.pretrained.size}
        if self.teacher.overlap != "none":
            teacher["overlap"] = self.teacher.overlap
        return {"teacher": teacher, "pretrained": self.pretrained.config()}

    @property
    def key(self) -> str:
        """The sha256 of the canonical JSON of ``config`` in hexadecimal."""
        return content_key(self.config())
