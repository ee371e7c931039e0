"""The fields of a record as pydantic models: kinds, ranges, and what must be there.

Fields that a model does not name are allowed: plug-ins and later versions add some.
"""

from __future__ import annotations

import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter

from benchmark.statistics import Kind

_Count = Annotated[int, Field(ge=0)]
_Amount = Annotated[float, Field(ge=0)]
_Share = Annotated[float, Field(ge=0, le=1)]
_Name = Annotated[str, Field(min_length=1)]
_Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
_Scalar = str | int | float | bool | None


def _date(text: str) -> str:
    datetime.datetime.fromisoformat(text)
    return text


class _Model(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")


class _Spread(_Model):
    half_width: _Amount | None
    n: _Count


class _Score(_Model):
    value: _Share
    intervals: dict[Kind, _Spread]


class _Named(_Model):
    name: _Name


class _Dataset(_Named):
    fingerprint: str


class _Network(_Model):
    backbone: _Name


class _Training(_Model):
    precision: str = "auto"


class _Config(_Model):
    protocol: _Named
    dataset: _Dataset
    method: _Named
    student: _Network
    teacher: _Network | None = None
    """None if the run reads no teacher."""
    training: _Training
    seed: _Count
    versions: dict[str, int]


class _Beside(_Model):
    teacher: _Network


class _Environment(_Model):
    cpu: str
    gpu: str | None
    device: _Name
    threads: Annotated[int, Field(ge=1)]
    precision: _Name


class _Facts(_Model):
    queries_per_episode: Annotated[int, Field(ge=1)] | None = None


class _StudentFacts(_Network):
    start: _Name
    steps: _Count
    seconds: _Amount


class _Point(_Model):
    __pydantic_extra__: dict[str, float] = Field(init=False)

    stage: str
    step: _Amount


class _Record(_Model):
    key: _Sha256
    sha256: _Sha256
    status: Literal["done", "failed"]
    provenance: Literal["measured"]
    protocol: _Name
    dataset: _Name
    preset: _Name
    method: _Name
    backbone: _Name
    teacher: _Name
    seed: _Count
    data: _Named
    config: _Config
    beside: _Beside | None = None
    """The teacher that was measured beside a run that reads none; it is no part of the key."""
    environment: _Environment
    started: Annotated[str, AfterValidator(_date)]
    method_sha256: _Sha256 | None = None
    """The sha256 of the source file of the method's class; None where it has none, as in a notebook."""


class _FailedRecord(_Record):
    error: str


class _FinishedRecord(_Record):
    metric: _Name
    value: _Share
    n: _Count
    intervals: dict[Kind, _Spread]
    references: dict[str, _Score]
    student_facts: _StudentFacts
    teacher_facts: dict[str, _Scalar]
    facts: _Facts
    history: list[_Point]
    seconds: _Amount
    peak_memory_mb: _Amount
    arrays: _Name | None = None
    arrays_sha256: _Sha256 | None = None


_MODELS: dict[str, TypeAdapter[Any]] = {
    "done": TypeAdapter(_FinishedRecord),
    "failed": TypeAdapter(_FailedRecord),
}


def model_of(status: object) -> TypeAdapter[Any]:
    """Return the model of a record of that status; the one of failed records for a status that does not exist."""
    return _MODELS.get(status if isinstance(status, str) else "", _MODELS["failed"])
