"""Canonical JSON, content keys, and seeds derived for a purpose."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any


def canonical_json(value: Any) -> str:
    """Return JSON with sorted keys, without spaces or NaN: equal content gives equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def content_key(value: Any) -> str:
    """Return the sha256 of ``canonical_json(value)`` in hexadecimal."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def derive_seed(seed: int, *purpose: str | int) -> int:
    """Return a 63-bit seed for one purpose of one run. Random streams of different purposes are independent."""
    digest = hashlib.sha256(canonical_json([seed, *purpose]).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def content_name(dataset: str) -> str:
    """Return a data set's label without a user's name of a folder, which cannot matter: ``folder:8c1115ce+size=32``."""
    return re.sub(r"^folder:.*\+([0-9a-f]{8}(\+[a-z_]+=[^+]*)*)$", r"folder:\1", dataset, flags=re.DOTALL)
