"""Import a data set: decode its files once, in parallel, into the stored form. An interrupted import continues."""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from benchmark.data.decoding import RawImage, Undecodable, decode
from benchmark.data.image_format import ImageFormat
from benchmark.data.memory_map import MapIndex, MapWriter, chunk_rows
from benchmark.errors import InputError, os_reason
from benchmark.hashing import content_key
from benchmark.system.progress import Progress


class ImageSource(Protocol):
    """A sequence of N raw images, sliced from front to back: a list, an array, or a reader of a large file."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice) -> Sequence[RawImage] | npt.NDArray[np.uint8]: ...


@dataclass(frozen=True, eq=False)
class ImageList:
    """The images of a set before they are decoded.

    Attributes:
        images: N raw images.
        labels: N class indices into ``classes``.
        classes: names of the classes.
        image_format: format of the stored images.
        sources: files that hold labels or several images; a change of one starts the import afresh.
        boxes: N x 4, left, top, right and bottom of the part of each image to keep, in pixels; None keeps all.
        rotations: N, quarter turns against the clock, applied after resizing; None is no rotation.
        official_test: N flags of the published test images; None if there are none.
        facts: further facts for records.
        own: of a folder of the user, its ``path`` and its class split, for the index. Copies of an image then share a
            group, and count as test images if one of them is one.

    Raises:
        InputError: the numbers of images and labels differ, or a class has no image.
    """

    images: ImageSource
    labels: npt.NDArray[np.int64]
    classes: tuple[str, ...]
    image_format: ImageFormat
    sources: tuple[Path, ...] = ()
    boxes: npt.NDArray[np.float64] | None = None
    rotations: npt.NDArray[np.int64] | None = None
    official_test: npt.NDArray[np.bool_] | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    own: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if len(self.images) != len(self.labels) or not len(self.labels):
            raise InputError(f"there are {len(self.images)} images and {len(self.labels)} labels to import")
        counts = np.bincount(self.labels, minlength=len(self.classes))
        if (counts == 0).any():
            raise InputError(f"class {self.classes[int(counts.argmin())]!r} has no image; get the data again")


def expect_per_class(image_list: ImageList, count: int, folder: Path) -> ImageList:
    """Check that every class has the same known number of images.

    Args:
        image_list: the images.
        count: expected images of each class.
        folder: where they come from, for the message.

    Returns:
        ``image_list``.

    Raises:
        InputError: a class has another number of images.
    """
    counts = np.bincount(image_list.labels, minlength=len(image_list.classes))
    if (counts != count).any():
        c = int((counts != count).argmax())
        raise InputError(
            f"{folder} is not whole: class {image_list.classes[c]!r} has {counts[c]} images, not {count}; get it again"
        )
    return image_list


class ConcatImages:
    """Several image sources in sequence. A source is released when its last image has been read."""

    def __init__(self, *parts: ImageSource) -> None:
        self._parts = deque(parts)
        self._passed = 0
        self._length = sum(map(len, parts))

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, rows: slice) -> list[RawImage]:
        images: list[RawImage] = []
        start = rows.start
        while start < min(rows.stop, self._length):
            part = self._parts[0]
            if start >= self._passed + len(part):
                self._passed += len(self._parts.popleft())
                continue
            images.extend(part[start - self._passed : rows.stop - self._passed])  # += would add an array's pixels
            start = rows.start + len(images)
        return images


def import_images(
    image_list: ImageList,
    target: Path,
    *,
    name: str,
    settings: Mapping[str, Any],
    workers: int,
    progress: Progress,
    folder: Path,
) -> MapIndex:
    """Decode all images and write the stored form. Finished chunks survive an interruption and are not repeated.

    Args:
        image_list: the images.
        target: folder of the import.
        name: the set's name.
        settings: import settings, for the index.
        workers: threads that decode; the decoders release the interpreter's lock.
        progress: reports the work.
        folder: folder to build in; an interrupted import left there continues.

    Returns:
        The index of the import.

    Raises:
        InputError: an image does not decode; the message names its file.
    """
    count, image_format = len(image_list.labels), image_list.image_format
    shape = (count, image_format.size, image_format.size, image_format.channels)
    rows = chunk_rows(shape)
    spans = [slice(start, min(start + rows, count)) for start in range(0, count, rows)]
    writer = MapWriter(folder, shape)
    progress.begin(f"import {name}", count, "images")
    pool, stopped = ThreadPoolExecutor(max(1, workers)), Event()
    failures: list[Undecodable] = []
    try:
        keys = _chunk_keys(image_list, spans)
        done = writer.resume(keys)
        if done:
            progress.say(f"{name}: continuing after {spans[done - 1].stop:,} of {count:,} images")
        with warnings.catch_warnings():
            from PIL import Image

            warnings.simplefilter("error", Image.DecompressionBombWarning)
            chunks = _decoded_chunks(pool, stopped, image_list, spans[done:], keys[done:], 2 * workers)
            for span, key, pixels, failed in chunks:
                failures += failed
                if not failures:
                    writer.append(pixels, key)
                progress.advance(span.stop, "images")
        if failures:
            raise _undecodable(failures)
        groups, official_test = np.arange(count), image_list.official_test
        if image_list.own is not None:
            from benchmark.data.copies import group_copies

            groups = group_copies(writer.pixels())
            if official_test is not None:
                official_test = np.isin(groups, groups[official_test])
        return writer.finish(
            target, name=name, classes=image_list.classes, labels=image_list.labels, groups=groups,
            official_test=official_test, settings=settings, facts=image_list.facts, own=image_list.own,
        )  # fmt: skip
    finally:
        stopped.set()
        pool.shutdown(cancel_futures=True)
        progress.end()


_Decoded = tuple[npt.NDArray[np.uint8], list[Undecodable]]
"""The pixels of a chunk, and the errors of its images that do not decode."""


def _decoded_chunks(
    pool: ThreadPoolExecutor,
    stopped: Event,
    image_list: ImageList,
    spans: Sequence[slice],
    keys: Sequence[str],
    ahead: int,
) -> Iterator[tuple[slice, str, npt.NDArray[np.uint8], list[Undecodable]]]:
    """Yield decoded chunks in order, with up to ``ahead`` further chunks in the pool."""
    waiting: deque[tuple[slice, str, Future[_Decoded]]] = deque()
    for span, key in zip(spans, keys, strict=True):
        waiting.append((span, key, pool.submit(_decode_chunk, image_list, image_list.images[span], span, stopped)))
        if len(waiting) > ahead:
            first, first_key, decoded = waiting.popleft()
            yield first, first_key, *decoded.result()
    for first, first_key, decoded in waiting:
        yield first, first_key, *decoded.result()


def _decode_chunk(
    image_list: ImageList, images: Sequence[RawImage] | npt.NDArray[np.uint8], span: slice, stopped: Event
) -> _Decoded:
    """Decode the images of a chunk; one that does not decode stays black. Nothing more is decoded once stopped."""
    form = image_list.image_format
    decoded = np.zeros((span.stop - span.start, form.size, form.size, form.channels), np.uint8)
    failed = []
    for i, image in enumerate(images, span.start):
        if stopped.is_set():
            break
        box = image_list.boxes[i] if image_list.boxes is not None else None
        try:
            pixels = decode(image, form, box, f"number {i}")
        except Undecodable as error:
            failed.append(error)
            continue
        decoded[i - span.start] = pixels if image_list.rotations is None else np.rot90(pixels, image_list.rotations[i])
    return decoded, failed


def _undecodable(failures: Sequence[Undecodable]) -> InputError:
    """Return one error that names the images that do not decode, at most ten of them."""
    if len(failures) == 1:
        return failures[0]
    named = ", ".join(f"{failure.source} ({failure.reason})" for failure in failures[:10])
    more = f" and {len(failures) - 10:,} more" if len(failures) > 10 else ""
    return InputError(
        f"{len(failures):,} images do not decode: {named}{more}; replace or remove them, then repeat the command"
    )


def _chunk_keys(image_list: ImageList, spans: Sequence[slice]) -> list[str]:
    """For each chunk, a key of everything that determines its pixels."""
    sources = [_file_facts(path) for path in image_list.sources]
    image_format = list(dataclasses.astuple(image_list.image_format))
    keys = []
    for span in spans:
        boxes = image_list.boxes[span].tolist() if image_list.boxes is not None else None
        rotations = image_list.rotations[span].tolist() if image_list.rotations is not None else None
        images = image_list.images[span] if isinstance(image_list.images, list) else ()
        files = [_file_facts(path) for path in images if isinstance(path, Path)]
        keys.append(content_key([image_format, sources, boxes, rotations, files or [span.start, span.stop]]))
    return keys


def _file_facts(path: Path) -> list[str | int]:
    try:
        facts = os.stat(path)
    except OSError as error:
        raise InputError(f"file {path} cannot be read ({os_reason(error)})") from None
    return [path.name, path.parent.name, facts.st_size, facts.st_mtime_ns]
