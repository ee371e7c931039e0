"""``--offline``: network access is refused, including that of other packages."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmark.errors import InputError

_TO_AN_ADDRESS = ("socket.connect", "socket.sendto", "socket.sendmsg")
_TO_A_NAME = ("socket.getaddrinfo", "socket.gethostbyname")
_state = {"watching": False, "offline": False}


class OfflineError(InputError, ConnectionError):
    """An attempt to reach the network; other packages see a ``ConnectionError``."""


@contextmanager
def offline() -> Iterator[None]:
    """Raise ``OfflineError`` within the block at each attempt of this process to reach or look up an address.

    An audit hook of the interpreter sees the attempts of all packages before they are made. Unix sockets, which connect
    processes of one machine, stay open.
    """
    if not _state["watching"]:
        sys.addaudithook(_refuse)  # for good: an audit hook cannot be removed
        _state["watching"] = True
    before, _state["offline"] = _state["offline"], True
    try:
        yield
    finally:
        _state["offline"] = before


def is_offline() -> bool:
    """Return whether network access is refused."""
    return _state["offline"]


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    if not _state["offline"]:
        return
    if event in _TO_AN_ADDRESS and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    elif event in _TO_A_NAME:
        host = arguments[0]
    else:
        return
    raise OfflineError(f"--offline refuses all network access, and something tried to reach {host}")
