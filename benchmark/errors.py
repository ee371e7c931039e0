"""Errors that a user can correct, such as wrong names, values and files, and parts of their messages."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """A request that cannot be carried out; the message is one line that names the cause and the remedy."""


class DoesNotApply(InputError):
    """A request whose parts are valid but do not go together, such as a method and a protocol."""


class UnusablePlugIn(DoesNotApply):
    """A request for a plug-in that cannot be loaded, or whose name is taken."""


def did_you_mean(name: str, known: Iterable[str], *, count: int = 1, cutoff: float = 0.6) -> str:
    """Return the end of a message about an unknown name: the nearest known names, or all names if none is near.

    Args:
        name: the unknown name.
        known: all known names.
        count: the largest number of near names.
        cutoff: the least similarity of a near name, in [0, 1], as in ``difflib.get_close_matches``.
    """
    known = list(known)
    near = difflib.get_close_matches(name, known, n=count, cutoff=cutoff)
    return f"did you mean {' or '.join(map(repr, near))}?" if near else f"known: {', '.join(known) or 'none'}"


def os_reason(error: OSError) -> str:
    """Return the reason of a failed system call, without its number: ``No space left on device``."""
    return error.strerror or str(error)
