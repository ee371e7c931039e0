"""The label of a run in tables: a preset's name and the settings that differ from it, ``quick+method.margin=0.1``."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from benchmark.settings import SECTIONS

NO_TEACHER = "none"
"""The teacher of a record whose run reads none: its config has no settings of one, the record says which one was
measured beside it."""


def networks(student: str, teacher: str) -> str:
    """Two networks in words: ``conv4-16 from conv4-64``."""
    return f"{student} without a teacher" if teacher == NO_TEACHER else f"{student} from {teacher}"


def format_label(preset: str, changed: Iterable[str]) -> str:
    """The label of a preset and of settings as ``section.name=value``, in alphabetical order."""
    return "+".join([preset, *sorted(changed)])


def file_label(stem: str, content: bytes) -> str:
    """The label of a file of settings: its name without ending, cleaned, and the first digits of its sha256."""
    return f"{re.sub('[^A-Za-z0-9._-]', '-', stem)[:60]}@{hashlib.sha256(content).hexdigest()[:8]}"


def is_file_label(preset: str) -> bool:
    """Whether a preset is the label of a file of settings."""
    return re.search("@[0-9a-f]{8}$", preset) is not None


def parse_label(label: str) -> tuple[str, list[str]]:
    """A label's preset and the settings that differ from it, as ``section.name=value``."""
    preset, *changed = re.split(rf"\+(?=(?:{'|'.join(SECTIONS)})\.\w+=)", label)
    return preset, changed


def changed_settings(default: Mapping[str, Any], settings: Mapping[str, Any]) -> list[str]:
    """The settings that differ from ``default``, as ``section.name=value``.

    Backbones are left out: tables have columns for them.

    Args:
        default: a settings dataclass for each section.
        settings: the same sections with the values of the run.
    """
    return [
        f"{section}.{field.name}={getattr(settings[section], field.name)}"
        for section in settings
        for field in dataclasses.fields(settings[section])
        if field.name != "backbone" and getattr(settings[section], field.name) != getattr(default[section], field.name)
    ]
