"""The hash of a method's source: a record says by which code it was measured."""

from __future__ import annotations

import hashlib
import inspect
from pathlib import Path


def source_sha256(method: type) -> str | None:
    """Return the sha256 of the file that a method's class is written in; None if there is none, as in a notebook."""
    try:
        file = inspect.getsourcefile(method)
        return None if file is None else hashlib.sha256(Path(file).read_bytes()).hexdigest()
    except (OSError, TypeError):
        return None
