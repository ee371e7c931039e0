"""Errors that a user can correct, such as wrong names, values and files, and parts of their messages."""

from __future__ import annotations

import difflib
import re
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


def damage(error: Exception) -> str:
    """Return the end of a message about a file that cannot be read: the reason, and to get it again if that helps."""
    return f"({os_reason(error)})" if isinstance(error, OSError) else f"({error}); get it again"


_COMMAND = re.compile(r"(python -m benchmark [^;`]*)")
_OPTION = re.compile(
    r"--set (?P<setting>[a-z]+\.\w+)=(?P<set_to>[^\s,;()]+)|--(?P<choice>mode|device) (?P<chosen>[a-z][a-z-]*)|"
    r"--(?P<name>[a-z][a-z-]*)(?: (?P<value>[A-Z]+\b|-?[0-9]+\b))?"
)
_RENAMED = {"set": "settings", "allow_overlap": "allow_overlap=True"}


def in_python(message: str) -> str:
    """Return a message with arguments of Python in place of options: ``mode="force"`` for ``--mode force``.

    Whole command lines stay as they are.
    """
    parts = _COMMAND.split(message)
    parts[::2] = [_OPTION.sub(_argument, part) for part in parts[::2]]
    return "".join(parts)


def _argument(option: re.Match[str]) -> str:
    if option["setting"]:
        return f'settings={{"{option["setting"]}": "{option["set_to"]}"}}'
    if option["choice"]:
        return f'{option["choice"]}="{option["chosen"]}"'
    name = option["name"].replace("-", "_")
    return f"{name}={option['value']}" if option["value"] else _RENAMED.get(name, name)
