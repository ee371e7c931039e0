"""What one run is: typed settings, frozen, with a key made of their content."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt

from benchmark.errors import InputError
from benchmark.hashing import content_key
from benchmark.settings import ADDED_LATER, to_config

if TYPE_CHECKING:
    from benchmark.backbones.pretrained import Pretrained


@dataclass(frozen=True)
class Training:
    """How a network is trained. Within a protocol these are the same for every method."""

    steps: Annotated[int, Ge(1), Le(1_000_000_000)] = 600
    batch_size: Annotated[int, Ge(2), Le(1_000_000)] = 64
    sampler: Literal["uniform", "balanced"] = "uniform"
    classes_per_batch: Annotated[int, Ge(2)] = 16
    """Balanced sampler only: a batch holds this many classes, each with batch_size / classes_per_batch images."""
    lr: Annotated[float, Gt(0)] = 0.1
    momentum: Annotated[float, Ge(0), Lt(1)] = 0.9
    weight_decay: Annotated[float, Ge(0)] = 5e-4
    warmup: Annotated[float, Ge(0), Lt(1)] = 0.05
    """Share of a stage's steps over which the rate rises linearly from zero."""
    crop_padding: Annotated[int, Ge(0), Le(64)] = 4
    """Pixels of background around an image before a random crop of its size; 0 turns cropping off."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    milestones: str = field(default="", metadata=ADDED_LATER)
    """Shares of a stage, with commas between, at which the rate is multiplied by ``decay``; empty: a cosine to 0."""
    decay: Annotated[float, Gt(0), Le(1)] = field(default=0.1, metadata=ADDED_LATER)
    nesterov: bool = field(default=True, metadata=ADDED_LATER)
    crop: Literal["padded", "resized"] = field(default="padded", metadata=ADDED_LATER)
    """``padded``: a random crop of the image within ``crop_padding``; ``resized``: of a random 8 to 100 % of the image,
    sides between 3:4 and 4:3, brought to the input's size."""
    input_size: Annotated[int, Ge(0)] = field(default=0, metadata=ADDED_LATER)
    """Pixels of a side of what networks see: judged is the centre of the image; 0: the whole image."""
    normalisation: Literal["data", "cifar100", "imagenet"] = field(default="data", metadata=ADDED_LATER)
    """Channel statistics: of the images trained on, or the ones that papers on that data set use."""

    def __post_init__(self) -> None:
        self.decays()

    @property
    def balanced_classes(self) -> int | None:
        """Classes per batch of the balanced sampler; None for the uniform one."""
        return self.classes_per_batch if self.sampler == "balanced" else None

    def decays(self) -> tuple[float, ...]:
        """The milestones as numbers; what are no ascending shares between 0 and 1 raises ``InputError``."""
        try:
            shares = tuple(float(part) for part in self.milestones.split(",")) if self.milestones else ()
        except ValueError:
            shares = (math.nan,)
        if list(shares) != sorted(set(shares)) or not all(0 < share < 1 for share in shares):
            raise InputError(
                f"training.milestones = {self.milestones!r}: not ascending shares of a stage between 0 and 1, as "
                "0.25,0.5,0.75"
            )
        return shares


@dataclass(frozen=True)
class Student:
    """The network a method trains, and how it starts where the method takes either start."""

    backbone: str = "conv4-16"
    start: Literal["fresh", "teacher"] = "fresh"


@dataclass(frozen=True)
class Teacher:
    """The network that guides it. Its seed is its own: by default every run meets the same teacher.

    A pretrained one, for classes of its own, is not trained: the rest but its size does not apply.
    """

    backbone: str = "conv4-64"
    seed: Annotated[int, Ge(0)] = 0
    steps: Annotated[int, Ge(1), Le(1_000_000_000)] = 600
    batch_size: Annotated[int, Ge(2), Le(1_000_000)] = 64
    lr: Annotated[float, Gt(0)] = 0.1
    weight_decay: Annotated[float, Ge(0)] = 5e-4
    size: Annotated[int, Ge(0)] = 0
    """Pretrained only: pixels of a side that images are brought to; 0: its own."""


@dataclass(frozen=True)
class RunSpec:
    """One fully resolved run.

    ``protocol_settings`` and ``method_settings`` are instances of the protocol's and the method's own frozen
    ``Settings``; ``versions`` holds the protocol's, method's and training code's version; ``fingerprint`` is the
    sha256 of the data. ``preset`` is a label for tables: what it set is in the settings. ``pretrained`` is the teacher
    where it is not trained here.
    """

    protocol: str
    dataset: str
    method: str
    seed: int
    preset: str
    protocol_settings: Any
    method_settings: Any
    student: Student
    teacher: Teacher
    training: Training
    versions: Mapping[str, int] = field(default_factory=dict)
    fingerprint: str = ""
    pretrained: Pretrained | None = None

    def config(self) -> dict[str, Any]:
        """Everything that determines the result, as plain JSON values; nothing about device, paths or workers."""
        return {
            "protocol": {"name": self.protocol, **to_config(self.protocol_settings)},
            "dataset": {"name": self.dataset, "fingerprint": self.fingerprint},
            "method": {"name": self.method, **to_config(self.method_settings)},
            "student": to_config(self.student),
            **self._teacher(),
            "training": to_config(self.training),
            "seed": self.seed,
            "versions": dict(self.versions),
        }

    def _teacher(self) -> dict[str, Any]:
        settings = to_config(self.teacher)
        if self.pretrained is None:
            del settings["size"]  # of a pretrained one
            return {"teacher": settings}
        named = {"backbone": self.pretrained.name, "size": self.pretrained.size}
        return {"teacher": named, "pretrained": self.pretrained.config()}

    @property
    def key(self) -> str:
        """sha256 of the canonical JSON of ``config``, in hexadecimal."""
        return content_key(self.config())
