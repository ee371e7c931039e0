"""Inputs and values of golden.json: the values come from running public reference implementations in float64."""

import json
import math
from pathlib import Path

import pytest
import torch

_DATA = json.loads(Path(__file__).with_name("golden.json").read_text())
VALUES: dict[str, float] = _DATA["values"]
TUPLES: dict[str, int] = _DATA["tuples"]
_SPEC = _DATA["inputs"]
TEMPERATURE: float = _SPEC["temperature"]


def field(*shape: int, phase: float, scale: float = 1.0) -> torch.Tensor:
    i = torch.arange(math.prod(shape), dtype=torch.float64)
    return (scale * torch.sin(0.7 * i + phase + 0.001 * i * i)).reshape(shape)


_B, _K, _S, _T, _H, _P = (_SPEC[key] for key in ("B", "K", "student_dim", "teacher_dim", "map", "phases"))
LABELS = torch.tensor(_SPEC["labels"])
STUDENT_LOGITS, TEACHER_LOGITS = field(_B, _K, phase=_P[0], scale=3.0), field(_B, _K, phase=_P[1], scale=5.0)
STUDENT, TEACHER = field(_B, _S, phase=_P[2]), field(_B, _T, phase=_P[3], scale=2.0)
STUDENT_MAP, TEACHER_MAP = field(_B, _S, _H, _H, phase=_P[4]), field(_B, _T, _H, _H, phase=_P[5])


def golden(name: str) -> object:
    return pytest.approx(VALUES[name], rel=1e-9)
