"""What a user can mend (bad names, values, files) as exceptions, and the words of their messages."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """A request that cannot be carried out as it stands; the message is one line naming the thing and the fix."""


class DoesNotApply(InputError):
    """A request whose parts are right each and do not go together, as a method and a protocol; the message says why."""


class UnusablePlugIn(DoesNotApply):
    """A request for another package's plug-in that cannot be loaded, or whose name is taken; the message says which."""


def did_you_mean(name: str, known: Iterable[str], *, count: int = 1, cutoff: float = 0.6) -> str:
    """The end of a message about an unknown name: the nearest known names, or all of them if none is near.

    Args:
        name: what was asked for.
        known: every name there is.
        count: how many near names to offer at most.
        cutoff: least similarity of a near name, in [0, 1], as in ``difflib.get_close_matches``.
    """
    known = list(known)
    near = difflib.get_close_matches(name, known, n=count, cutoff=cutoff)
    return f"did you mean {' or '.join(map(repr, near))}?" if near else f"known: {', '.join(known) or 'none'}"


def os_reason(error: OSError) -> str:
    """The reason of a failed system call, without its number: ``No space left on device``."""
    return error.strerror or str(error)
