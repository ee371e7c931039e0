"""What one run is: typed settings, frozen, with a key made of their content."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from annotated_types import Ge, Gt, Le, Lt

from benchmark.errors import InputError

if TYPE_CHECKING:
    from pydantic import TypeAdapter

    from benchmark.backbones.pretrained import Pretrained

S = TypeVar("S")

SECTIONS = ("protocol", "method", "student", "teacher", "training")

ADDED: Mapping[str, bool] = {"added": True}
"""Metadata of a settings field that came after the first records: ``field(default=..., metadata=ADDED)``.

At its default such a field is left out of configs, and so of keys: what was recorded before it existed, when every run
had what is now the default, keeps its key.
"""


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
    milestones: str = field(default="", metadata=ADDED)
    """Shares of a stage, with commas between, at which the rate is multiplied by ``decay``; empty: a cosine to 0."""
    decay: Annotated[float, Gt(0), Le(1)] = field(default=0.1, metadata=ADDED)
    nesterov: bool = field(default=True, metadata=ADDED)
    crop: Literal["padded", "resized"] = field(default="padded", metadata=ADDED)
    """``padded``: a random crop of the image within ``crop_padding``; ``resized``: of a random 8 to 100 % of the image,
    sides between 3:4 and 4:3, brought to the input's size."""
    input_size: Annotated[int, Ge(0)] = field(default=0, metadata=ADDED)
    """Pixels of a side of what networks see: judged is the centre of the image; 0: the whole image."""
    normalisation: Literal["data", "cifar100", "imagenet"] = field(default="data", metadata=ADDED)
    """Channel statistics: of the images trained on, or the ones that papers on that data set use."""

    def __post_init__(self) -> None:
        self.decays()

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
            "protocol": {"name": self.protocol, **plain(self.protocol_settings)},
            "dataset": {"name": self.dataset, "fingerprint": self.fingerprint},
            "method": {"name": self.method, **plain(self.method_settings)},
            "student": plain(self.student),
            **self._teacher(),
            "training": plain(self.training),
            "seed": self.seed,
            "versions": dict(self.versions),
        }

    def _teacher(self) -> dict[str, Any]:
        settings = plain(self.teacher)
        if self.pretrained is None:
            del settings["size"]  # of a pretrained one
            return {"teacher": settings}
        named = {"backbone": self.pretrained.name, "size": self.pretrained.size}
        return {"teacher": named, "pretrained": self.pretrained.config()}

    @property
    def key(self) -> str:
        """sha256 of the canonical JSON of ``config``, in hexadecimal."""
        return content_key(self.config())


def plain(settings: Any) -> dict[str, Any]:
    """A settings dataclass as plain values for a config, without the ``ADDED`` fields that have their default."""
    values = dataclasses.asdict(settings)
    for part in dataclasses.fields(settings):
        if part.metadata.get("added") and values[part.name] == part.default:
            del values[part.name]
    return values


def canonical_json(value: Any) -> str:
    """JSON with sorted keys, no spaces and no NaN, the same text for the same content."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def content_key(value: Any) -> str:
    """sha256 of ``canonical_json(value)``, in hexadecimal."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def derive_seed(seed: int, *purpose: str | int) -> int:
    """A 63-bit seed for one purpose of one run: streams of different purposes do not touch each other."""
    digest = hashlib.sha256(canonical_json([seed, *purpose]).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def parse_overrides(items: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Read ``section.name=value`` items, as given to ``--set``, into one mapping per section."""
    overrides: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    for item in items:
        path, equals, value = item.partition("=")
        section, _, name = path.strip().partition(".")
        if not equals or not name.isidentifier():
            raise InputError(f"--set {item!r} is not of the form section.name=value, as in method.margin=0.1")
        if section not in overrides:
            raise InputError(f"--set {item!r}: no section {section!r}; {_near(section, SECTIONS)}")
        if name in overrides[section]:
            raise InputError(f"{section}.{name} is given twice")
        overrides[section][name] = value.strip()
    return overrides


def parse_seeds(text: str) -> list[int]:
    """Read seeds such as ``3``, ``0,1,2`` or ``0-4``."""
    seeds: list[int] = []
    for part in text.split(",") if text.isascii() else [""]:
        first, dash, last = part.strip().partition("-")
        if not (first.isdecimal() and (last.isdecimal() if dash else True)) or len(first + last) > 18:
            raise InputError(f"seeds {text!r} are not of the form 3 or 0,1,2 or 0-4")
        low, high = int(first), int(last) if dash else int(first)
        if high < low or high - low >= 10_000:
            raise InputError(f"seeds {text!r}: the range {part.strip()} is empty or has more than 10,000 seeds")
        seeds.extend(range(low, high + 1))
    if len(set(seeds)) < len(seeds):
        raise InputError(f"seeds {text!r} name a seed twice")
    return seeds


def build_settings(cls: type[S], values: Mapping[str, Any], section: str) -> S:
    """An instance of the dataclass ``cls`` from ``values`` over its defaults.

    Text is converted to the field's type; an unknown name, a wrong type, a value out of bounds or one that is
    not finite raises ``InputError`` naming ``section.name``.
    """
    from pydantic import ValidationError

    known = [f.name for f in dataclasses.fields(cls)]  # type: ignore[arg-type]
    for name in values:
        if name not in known:
            raise InputError(f"no setting {_quoted(f'{section}.{name}')}; {_near(name, known)}")
    try:
        built: S = _adapter(cls).validate_python(dict(values))  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors()[0]
        refused = first.get("ctx", {}).get("error")
        if isinstance(refused, InputError):
            raise refused from None
        name = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{section}.{name} = {str(first['input'])!r}: {first['msg'].lower()}") from None
    for name in known:
        value = getattr(built, name)
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"{section}.{name} = {value}: not a finite number")
    return built


@cache
def _adapter(cls: type[Any]) -> TypeAdapter[Any]:
    """What validates a dataclass; making it takes longer than all else in a plan."""
    from pydantic import TypeAdapter

    return TypeAdapter(cls)


def _quoted(name: str) -> str:
    return name if name.isprintable() else repr(name)


def _near(name: str, known: Iterable[str]) -> str:
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known) or 'none'}"
