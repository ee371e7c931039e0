"""Downloads that resume (pooch has no Range requests) and whose checksum is verified before the file gets its name."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.errors import InputError, os_reason
from benchmark.system.network import is_offline
from benchmark.system.progress import Progress

_BLOCK_BYTES = 1 << 18
_TRIES = 4
_TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True)
class Download:
    """A published file.

    Attributes:
        url: address of the file.
        filename: name of the local copy.
        md5: published checksum.
    """

    url: str
    filename: str
    md5: str


def download_file(download: Download, folder: Path, progress: Progress, *, pause: float = 1.0) -> Path:
    """Download a file, unless it is there, and verify its published checksum.

    Broken connections and server errors are retried. The received part is kept as ``FILE.part``, and the next attempt
    or the next call continues it.

    Args:
        download: the file.
        folder: where to save it.
        progress: reports the download.
        pause: seconds before the first retry; every further pause is twice as long.

    Returns:
        The path of the file.

    Raises:
        InputError: the file cannot be downloaded or saved, or its checksum is wrong.
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
            part = _PartialFile(target)
            for attempt in range(_TRIES):
                try:
                    _receive(download, part, progress)
                    break
                except (OSError, HTTPException) as error:
                    reason, is_final = _failure(error)
                    if is_final or attempt == _TRIES - 1:
                        raise InputError(
                            f"cannot download {download.url} ({reason}); the received part is kept: repeat the command "
                            f"to continue, or get the file by hand as {target}"
                        ) from None
                    progress.say(f"{download.filename}: {reason}; trying again")
                    time.sleep(pause * 2**attempt)
            try:
                _check(part.path, download)
            except InputError:
                part.discard()
                raise InputError(
                    f"{download.url} did not send the published file {download.filename} (its md5 is not "
                    f"{download.md5}); the download was deleted: get the file by hand as {target}"
                ) from None
            os.replace(part.path, target)
            part.discard()
            return target
    except OSError as error:
        raise InputError(
            f"cannot keep {download.filename} in {folder} ({os_reason(error)}); choose another with --data"
        ) from None


class _PartialFile:
    """The received part of a file, and the edition of the file that the server named."""

    def __init__(self, target: Path) -> None:
        self.path = target.with_name(target.name + ".part")
        self._edition = target.with_name(target.name + ".part.json")

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    @property
    def edition(self) -> str | None:
        """ETag or modification time of the file when the part was received; None if unknown."""
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


def _receive(download: Download, part: _PartialFile, progress: Progress) -> None:
    """Receive the missing bytes of a file, or all of it if the server cannot continue."""
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    headers = {"User-Agent": "distillation-benchmark", "Accept-Encoding": "identity"}
    received, edition = part.size, part.edition
    if received and edition is not None:
        headers |= {"Range": f"bytes={received}-", "If-Range": edition}
    try:
        response = urlopen(Request(download.url, headers=headers), timeout=_TIMEOUT_SECONDS)
    except HTTPError as error:
        error.close()
        if error.code == 416:  # nothing is left to send, or the file has changed
            if error.headers.get("Content-Range") == f"bytes */{received}":
                return
            part.discard()
            raise _BrokenOffError("the file has changed on its server") from None
        raise
    with response:
        continues = response.status == 206 and _range_start(response) == received
        if not continues:
            received = 0
            part.begin(response.headers.get("ETag") or response.headers.get("Last-Modified"))
        length = response.headers.get("Content-Length")
        total = received + int(length) if length else None
        progress.begin(f"download {download.filename}", max(1, (total or 0) >> 20), "MiB")
        try:
            with part.path.open("ab" if continues else "wb") as file:
                while block := response.read(_BLOCK_BYTES):
                    file.write(block)
                    received += len(block)
                    progress.advance(received >> 20, "MiB")
                file.flush()
                os.fsync(file.fileno())
        finally:
            progress.end()
    if total is not None and received < total:
        raise _BrokenOffError(f"broke off after {received:,} of {total:,} bytes")


def _range_start(response: Any) -> int | None:
    unit, _, span = (response.headers.get("Content-Range") or "").partition(" ")
    start = span.partition("-")[0]
    return int(start) if unit == "bytes" and start.isdecimal() else None


def _failure(error: Exception) -> tuple[str, bool]:
    """The reason of a failed attempt, and True if a retry cannot help."""
    from urllib.error import HTTPError, URLError

    if isinstance(error, HTTPError):
        return f"the server answers {error.code} {error.reason}", error.code < 500 and error.code not in (408, 429)
    if isinstance(error, URLError):
        return str(error.reason), False
    return str(error) or type(error).__name__, isinstance(error, OSError) and error.errno == errno.ENOSPC


def _check(path: Path, download: Download) -> None:
    with path.open("rb") as file:
        md5 = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if md5 != download.md5:
        raise InputError(f"file {path} has md5 {md5}, published is {download.md5}: remove it and download it again")
