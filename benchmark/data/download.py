"""Files fetched from their publishers: gone on with after a break, and checked before they get their names."""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.errors import InputError
from benchmark.system.network import is_offline
from benchmark.system.progress import Progress

_BLOCK = 1 << 18
_TRIES = 4
_TIMEOUT = 30.0


@dataclass(frozen=True)
class Download:
    """A published file: where it is, what it is called here, and its published md5."""

    url: str
    filename: str
    md5: str


def fetch(download: Download, folder: Path, progress: Progress, *, pause: float = 1.0) -> Path:
    """The file in ``folder``, fetched unless it is there, with the published checksum.

    A broken connection or a server's error is tried again after ``pause`` seconds, then twice that, and so on; what has
    arrived is kept beside the file as ``.part`` and asked for no more.
    What cannot be had and what has another checksum raise ``InputError``.
    """
    from http.client import HTTPException

    import filelock

    target = folder / download.filename
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(folder / f".{download.filename}.lock"):
            if target.exists():
                _check(target, download)
                return target
            if is_offline():
                raise InputError(f"file {target} is not there, and --offline asks for nothing from the network")
            part = _Part(target)
            for attempt in range(_TRIES):
                try:
                    _receive(download, part, progress)
                    break
                except (OSError, HTTPException) as error:
                    reason, lasting = _why(error)
                    if lasting or attempt == _TRIES - 1:
                        raise InputError(
                            f"cannot fetch {download.url} ({reason}); what has arrived is kept, and the same command "
                            f"goes on from there; or get the file by hand as {target}"
                        ) from None
                    progress.say(f"{download.filename}: {reason}; trying again")
                    time.sleep(pause * 2**attempt)
            try:
                _check(part.path, download)
            except InputError:
                part.discard()
                raise InputError(
                    f"what {download.url} sent is not the published file {download.filename} (its md5 is not "
                    f"{download.md5}); it was thrown away: get the file by hand as {target}"
                ) from None
            os.replace(part.path, target)
            part.discard()
            return target
    except OSError as error:
        raise InputError(
            f"cannot keep {download.filename} in {folder} ({error.strerror or error}); choose another with --data"
        ) from None


class _Part:
    """What has arrived of a file, and which edition of it that is."""

    def __init__(self, target: Path) -> None:
        self.path = target.with_name(target.name + ".part")
        self._edition = target.with_name(target.name + ".part.json")

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    @property
    def edition(self) -> str | None:
        """What the server said of the file that the part is of; None where it cannot be told."""
        try:
            edition = json.loads(self._edition.read_text())["edition"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return edition if isinstance(edition, str) else None

    def begin(self, edition: str | None) -> None:
        self._edition.write_text(json.dumps({"edition": edition}))

    def discard(self) -> None:
        for path in (self.path, self._edition):
            path.unlink(missing_ok=True)


class _BrokenOffError(OSError):
    pass


def _receive(download: Download, part: _Part, progress: Progress) -> None:
    """Receive what is missing of a file, from where it broke off where the server can do that."""
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    headers = {"User-Agent": "distillation-benchmark", "Accept-Encoding": "identity"}
    have, edition = part.size, part.edition
    if have and edition is not None:
        headers |= {"Range": f"bytes={have}-", "If-Range": edition}
    try:
        response = urlopen(Request(download.url, headers=headers), timeout=_TIMEOUT)
    except HTTPError as error:
        error.close()
        if error.code == 416:  # nothing is left to send, or the file is another one
            if error.headers.get("Content-Range") == f"bytes */{have}":
                return
            part.discard()
            raise _BrokenOffError("the file has changed on its server") from None
        raise
    with response:
        goes_on = response.status == 206 and _range_start(response) == have
        if not goes_on:
            have = 0
            part.begin(response.headers.get("ETag") or response.headers.get("Last-Modified"))
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        progress.begin(f"fetch {download.filename}", max(1, (total or 0) >> 20))
        try:
            with part.path.open("ab" if goes_on else "wb") as file:
                while block := response.read(_BLOCK):
                    file.write(block)
                    have += len(block)
                    progress.advance(have >> 20, "MiB")
                file.flush()
                os.fsync(file.fileno())
        finally:
            progress.end()
    if total is not None and have < total:
        raise _BrokenOffError(f"broke off after {have:,} of {total:,} bytes")


def _range_start(response: Any) -> int | None:
    unit, _, span = (response.headers.get("Content-Range") or "").partition(" ")
    start = span.partition("-")[0]
    return int(start) if unit == "bytes" and start.isdecimal() else None


def _why(error: Exception) -> tuple[str, bool]:
    """What went wrong, and whether trying again would be in vain."""
    from urllib.error import HTTPError, URLError

    if isinstance(error, HTTPError):
        return f"the server answers {error.code} {error.reason}", error.code < 500 and error.code not in (408, 429)
    if isinstance(error, URLError):
        return str(error.reason), False
    return str(error) or type(error).__name__, isinstance(error, OSError) and error.errno == 28


def _check(path: Path, download: Download) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if found != download.md5:
        raise InputError(f"file {path} has md5 {found}, published is {download.md5}: remove it and fetch it again")
