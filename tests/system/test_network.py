from __future__ import annotations

import socket
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from benchmark.errors import InputError
from benchmark.system.network import is_offline, offline


def test_offline_refuses_every_connection_before_it_is_made() -> None:
    """The listener here would take a connection; names would be looked up."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        with socket.socket() as caller, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as letters, offline():
            for reach in (
                lambda: socket.create_connection(address),
                lambda: caller.connect(address),
                lambda: letters.sendto(b"x", address),
                lambda: socket.getaddrinfo("example.org", 443),
                lambda: socket.gethostbyname("example.org"),
                lambda: urllib.request.urlopen(f"http://127.0.0.1:{address[1]}/"),
            ):
                with pytest.raises(
                    (InputError, urllib.error.URLError),
                    match=r"--offline refuses all network access, .*(127\.0\.0\.1|example\.org)",
                ):
                    reach()
        with socket.create_connection(address):
            listener.accept()[0].close()


def test_offline_ends_with_the_outer_block() -> None:
    assert not is_offline()
    with offline():
        with offline():
            assert is_offline()
        assert is_offline()
    assert not is_offline()


def test_offline_allows_unix_sockets(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as caller:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        with offline():
            caller.connect(str(tmp_path / "s"))
