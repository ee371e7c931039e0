"""Downloads from a local server that can break off, send wrong content, fail and send parts of a file."""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmark.data.download import Download, download_file
from benchmark.errors import InputError
from benchmark.system.network import offline
from benchmark.system.progress import Silent

CONTENT = bytes(i * 31 % 251 for i in range(1_000_000))
MD5 = hashlib.md5(CONTENT).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Answers requests by ``plan``, one entry for each request; the last entry answers all further requests."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.plan: list[dict[str, Any]] = [{}]
        self.requests: list[dict[str, str | None]] = []

    @property
    def download(self) -> Download:
        return Download(f"http://127.0.0.1:{self.server_address[1]}/set.tgz", "set.tgz", MD5)


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.requests.append({name: self.headers.get(name) for name in ("Range", "If-Range")})
        plan = self.server.plan.pop(0) if len(self.server.plan) > 1 else self.server.plan[0]
        content, tag = plan.get("content", CONTENT), plan.get("tag", '"one"')
        requested = self.headers.get("Range")
        if "status" in plan:
            self.send_response(plan["status"])
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start = 0
        if requested and plan.get("ranges", True) and self.headers.get("If-Range") == tag:
            start = int(requested.removeprefix("bytes=").removesuffix("-"))
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
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def get(server: Server, folder: Path, **options: Any) -> Path:
    return download_file(server.download, folder, Silent(), **{"pause": 0.0, **options})


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {".set.tgz.lock"}


def test_download_happens_once(server: Server, tmp_path: Path) -> None:
    path = get(server, tmp_path / "new" / "folder")
    assert path.read_bytes() == CONTENT
    assert names(path.parent) == {"set.tgz"}
    assert get(server, path.parent) == path
    assert len(server.requests) == 1


def test_download_resumes_after_a_broken_connection(server: Server, tmp_path: Path) -> None:
    server.plan = [{"stop": 300_000}, {"stop": 700_000}, {}]
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert [request["Range"] for request in server.requests] == [None, "bytes=300000-", "bytes=700000-"]
    assert names(tmp_path) == {"set.tgz"}


def test_download_resumes_in_a_later_call(server: Server, tmp_path: Path) -> None:
    server.plan = [{"stop": 400_000}, {"status": 500}]
    with pytest.raises(InputError, match=r"answers 500 .* repeat the command to continue, or get the file by hand as"):
        get(server, tmp_path)
    assert len(server.requests) == 4
    assert not (tmp_path / "set.tgz").exists()
    server.requests.clear()
    server.plan = [{}]
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert server.requests == [{"Range": "bytes=400000-", "If-Range": '"one"'}]


@pytest.mark.parametrize("plan", [{"tag": '"two"'}, {"ranges": False}])
def test_download_starts_afresh_if_it_cannot_resume(server: Server, tmp_path: Path, plan: dict[str, Any]) -> None:
    server.plan = [{"stop": 400_000}, plan]
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert len(server.requests) == 2


def test_download_never_joins_parts_of_unknown_editions(server: Server, tmp_path: Path) -> None:
    server.plan = [{"stop": 400_000, "tag": ""}, {"tag": ""}]
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert [request["Range"] for request in server.requests] == [None, None]


def test_complete_part_is_only_verified(server: Server, tmp_path: Path) -> None:
    (tmp_path / "set.tgz.part").write_bytes(CONTENT)
    (tmp_path / "set.tgz.part.json").write_text(json.dumps({"edition": '"one"'}))
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert names(tmp_path) == {"set.tgz"}


def test_part_longer_than_the_file_is_discarded(server: Server, tmp_path: Path) -> None:
    (tmp_path / "set.tgz.part").write_bytes(CONTENT + b"more")
    (tmp_path / "set.tgz.part.json").write_text(json.dumps({"edition": '"one"'}))
    assert get(server, tmp_path).read_bytes() == CONTENT


def test_download_with_a_wrong_checksum_is_deleted(server: Server, tmp_path: Path) -> None:
    server.plan = [{"content": b"<html>Sign in</html>"}]
    with pytest.raises(InputError, match=r"did not send the published file set.tgz .* deleted: get the file by hand"):
        get(server, tmp_path)
    assert names(tmp_path) == set()
    server.plan = [{}]
    assert get(server, tmp_path).read_bytes() == CONTENT


def test_dead_link_is_not_retried(server: Server, tmp_path: Path) -> None:
    server.plan = [{"status": 404}]
    with pytest.raises(InputError, match="answers 404"):
        get(server, tmp_path)
    assert len(server.requests) == 1


def test_unreachable_server_is_reported(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot download http://127\.0\.0\.1:1/x"):
        download_file(Download("http://127.0.0.1:1/x", "x", MD5), tmp_path, Silent(), pause=0.0)


def test_offline_download_sends_no_request(server: Server, tmp_path: Path) -> None:
    with offline(), pytest.raises(InputError, match="--offline"):
        get(server, tmp_path)
    assert server.requests == []
    get(server, tmp_path)
    server.requests.clear()
    with offline():
        assert get(server, tmp_path).read_bytes() == CONTENT
        (tmp_path / "set.tgz").write_bytes(CONTENT[:-1])
        with pytest.raises(InputError, match=r"has md5 .*, published is .*: remove it"):
            get(server, tmp_path)
    assert server.requests == []


def test_interrupted_download_keeps_its_part(server: Server, tmp_path: Path) -> None:
    class Interrupted(Silent):
        def advance(self, done: int, facts: str) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download_file(server.download, tmp_path, Interrupted())
    assert names(tmp_path) == {"set.tgz.part", "set.tgz.part.json"}
    assert 0 < (tmp_path / "set.tgz.part").stat().st_size < len(CONTENT)
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert server.requests[-1]["Range"] is not None


def test_unwritable_folder_is_reported(server: Server) -> None:
    with pytest.raises(InputError, match=r"cannot keep set\.tgz in /dev/null/x .* --data"):
        get(server, Path("/dev/null/x"))
