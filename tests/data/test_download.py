"""Against a server on this machine that can break off, lie, fail and answer for parts of a file."""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmark.data.download import Download, fetch
from benchmark.errors import InputError
from benchmark.system.network import offline
from benchmark.system.progress import Silent

CONTENT = bytes(i * 31 % 251 for i in range(1_000_000))
MD5 = hashlib.md5(CONTENT).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """``plan``: what to do with each request in turn, the last for ever."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.plan: list[dict[str, Any]] = [{}]
        self.asked: list[dict[str, str | None]] = []

    @property
    def download(self) -> Download:
        return Download(f"http://127.0.0.1:{self.server_address[1]}/set.tgz", "set.tgz", MD5)


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append({name: self.headers.get(name) for name in ("Range", "If-Range")})
        plan = self.server.plan.pop(0) if len(self.server.plan) > 1 else self.server.plan[0]
        content, tag = plan.get("content", CONTENT), plan.get("tag", '"one"')
        wanted = self.headers.get("Range")
        if "status" in plan:
            self.send_response(plan["status"])
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start = 0
        if wanted and plan.get("ranges", True) and self.headers.get("If-Range") == tag:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        if tag:
            self.send_header("ETag", tag)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start : plan.get("stop", len(content))])

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def get(server: Server, folder: Path, **options: Any) -> Path:
    return fetch(server.download, folder, Silent(), **{"pause": 0.0, **options})


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {".set.tgz.lock"}


def test_a_file_is_fetched_once(server: Server, tmp_path: Path) -> None:
    path = get(server, tmp_path / "new" / "folder")
    assert path.read_bytes() == CONTENT
    assert names(path.parent) == {"set.tgz"}
    assert get(server, path.parent) == path
    assert len(server.asked) == 1


def test_a_broken_connection_is_gone_on_with_from_where_it_broke(server: Server, tmp_path: Path) -> None:
    server.plan = [{"stop": 300_000}, {"stop": 700_000}, {}]
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert [asked["Range"] for asked in server.asked] == [None, "bytes=300000-", "bytes=700000-"]
    assert names(tmp_path) == {"set.tgz"}


def test_a_later_call_goes_on(server: Server, tmp_path: Path) -> None:
    server.plan = [{"stop": 400_000}, {"status": 500}]
    with pytest.raises(InputError, match=r"answers 500 .* goes on from there; or get the file by hand as"):
        get(server, tmp_path)
    assert len(server.asked) == 4
    assert not (tmp_path / "set.tgz").exists()
    server.asked.clear()
    server.plan = [{}]
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert server.asked == [{"Range": "bytes=400000-", "If-Range": '"one"'}]


@pytest.mark.parametrize("plan", [{"tag": '"two"'}, {"ranges": False}])
def test_another_edition_and_a_server_without_parts_start_afresh(
    server: Server, tmp_path: Path, plan: dict[str, Any]
) -> None:
    server.plan = [{"stop": 400_000}, plan]
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert len(server.asked) == 2


def test_without_an_edition_nothing_is_joined(server: Server, tmp_path: Path) -> None:
    server.plan = [{"stop": 400_000, "tag": ""}, {"tag": ""}]
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert [asked["Range"] for asked in server.asked] == [None, None]


def test_a_part_that_is_whole_is_only_checked(server: Server, tmp_path: Path) -> None:
    (tmp_path / "set.tgz.part").write_bytes(CONTENT)
    (tmp_path / "set.tgz.part.json").write_text(json.dumps({"edition": '"one"'}))
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert names(tmp_path) == {"set.tgz"}


def test_a_part_longer_than_the_file_starts_afresh(server: Server, tmp_path: Path) -> None:
    (tmp_path / "set.tgz.part").write_bytes(CONTENT + b"more")
    (tmp_path / "set.tgz.part.json").write_text(json.dumps({"edition": '"one"'}))
    assert get(server, tmp_path).read_bytes() == CONTENT


def test_a_wrong_checksum_gives_the_file_no_name(server: Server, tmp_path: Path) -> None:
    server.plan = [{"content": b"<html>Sign in</html>"}]
    with pytest.raises(InputError, match=r"not the published file set.tgz .* thrown away: get the file by hand"):
        get(server, tmp_path)
    assert names(tmp_path) == set()
    server.plan = [{}]
    assert get(server, tmp_path).read_bytes() == CONTENT


def test_a_dead_link_is_not_tried_again(server: Server, tmp_path: Path) -> None:
    server.plan = [{"status": 404}]
    with pytest.raises(InputError, match="answers 404"):
        get(server, tmp_path)
    assert len(server.asked) == 1


def test_a_server_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot fetch http://127\.0\.0\.1:1/x"):
        fetch(Download("http://127.0.0.1:1/x", "x", MD5), tmp_path, Silent(), pause=0.0)


def test_offline_asks_nothing(server: Server, tmp_path: Path) -> None:
    with offline(), pytest.raises(InputError, match="--offline"):
        get(server, tmp_path)
    assert server.asked == []
    get(server, tmp_path)
    server.asked.clear()
    with offline():
        assert get(server, tmp_path).read_bytes() == CONTENT
        (tmp_path / "set.tgz").write_bytes(CONTENT[:-1])
        with pytest.raises(InputError, match=r"has md5 .*, published is .*: remove it"):
            get(server, tmp_path)
    assert server.asked == []


def test_an_interrupted_fetch_keeps_its_part(server: Server, tmp_path: Path) -> None:
    class Interrupted(Silent):
        def advance(self, done: int, facts: str) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(server.download, tmp_path, Interrupted())
    assert names(tmp_path) == {"set.tgz.part", "set.tgz.part.json"}
    assert 0 < (tmp_path / "set.tgz.part").stat().st_size < len(CONTENT)
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert server.asked[-1]["Range"] is not None


def test_a_folder_that_cannot_be_written_is_told(server: Server) -> None:
    with pytest.raises(InputError, match=r"cannot keep set\.tgz in /dev/null/x .* --data"):
        get(server, Path("/dev/null/x"))
