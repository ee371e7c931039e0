"""The promise of ``--offline``: nothing is asked of the network, whichever package would."""

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
    """What would be asked of the network is not: to other packages as if the network were gone."""


@contextmanager
def offline() -> Iterator[None]:
    """Within it every attempt of this process to reach an address, or to look one up, raises ``OfflineError``.

    The interpreter announces such attempts before they are made, other packages' too. Sockets that have a file's name,
    by which processes of one machine speak to each other, stay open.
    """
    if not _state["watching"]:
        sys.addaudithook(_refuse)  # for good: none can be taken back
        _state["watching"] = True
    before, _state["offline"] = _state["offline"], True
    try:
        yield
    finally:
        _state["offline"] = before


def is_offline() -> bool:
    """Whether the network is being refused."""
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
    raise OfflineError(f"--offline asks for nothing from the network, and {host} was to be reached")
