"""Import a data set: decode its files once, in parallel, into the stored form. An interrupted import continues."""

from __future__ import annotations

import dataclasses
import io
import os
import warnings
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from benchmark.data.image_format import ImageFormat
from benchmark.data.memory_map import MapIndex, MapWriter, chunk_rows
from benchmark.errors import InputError, os_reason
from benchmark.hashing import content_key
from benchmark.system.progress import Progress

RawImage = Path | bytes | npt.NDArray[np.uint8]
"""An image file, an encoded image, or pixels H x W x C."""


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
    progress.begin(f"import {name}", count)
    pool = ThreadPoolExecutor(max(1, workers))
    try:
        keys = _chunk_keys(image_list, spans)
        done = writer.resume(keys)
        if done:
            progress.say(f"{name}: continuing after {spans[done - 1].stop:,} of {count:,} images")
        with warnings.catch_warnings():
            from PIL import Image

            warnings.simplefilter("error", Image.DecompressionBombWarning)
            for span, key, pixels in _decoded_chunks(pool, image_list, spans[done:], keys[done:], 2 * workers):
                writer.append(pixels, key)
                progress.advance(span.stop, "images")
        return writer.finish(
            target, name=name, classes=image_list.classes, labels=image_list.labels, groups=np.arange(count),
            official_test=image_list.official_test, settings=settings, facts=image_list.facts,
        )  # fmt: skip
    finally:
        pool.shutdown(cancel_futures=True)
        progress.end()


def _decoded_chunks(
    pool: ThreadPoolExecutor, image_list: ImageList, spans: Sequence[slice], keys: Sequence[str], ahead: int
) -> Iterator[tuple[slice, str, npt.NDArray[np.uint8]]]:
    """Yield decoded chunks in order, with up to ``ahead`` further chunks in the pool."""
    waiting: deque[tuple[slice, str, Future[npt.NDArray[np.uint8]]]] = deque()
    for span, key in zip(spans, keys, strict=True):
        waiting.append((span, key, pool.submit(_decode_chunk, image_list, image_list.images[span], span)))
        if len(waiting) > ahead:
            first, first_key, pixels = waiting.popleft()
            yield first, first_key, pixels.result()
    for first, first_key, pixels in waiting:
        yield first, first_key, pixels.result()


def _decode_chunk(
    image_list: ImageList, images: Sequence[RawImage] | npt.NDArray[np.uint8], span: slice
) -> npt.NDArray[np.uint8]:
    decoded = []
    for i, image in enumerate(images, span.start):
        box = image_list.boxes[i] if image_list.boxes is not None else None
        pixels = decode(image, image_list.image_format, box, f"number {i}")
        decoded.append(pixels if image_list.rotations is None else np.rot90(pixels, image_list.rotations[i]))
    return np.stack(decoded)


def decode(
    raw: RawImage, image_format: ImageFormat, box: npt.NDArray[np.float64] | None = None, name: str = ""
) -> npt.NDArray[np.uint8]:
    """Decode one image.

    Args:
        raw: an image file, an encoded image, or pixels H x W x C.
        image_format: format of the result.
        box: left, top, right and bottom of the part to keep, in pixels; None keeps all.
        name: name of an image without a file, for the message.

    Returns:
        uint8 pixels, size x size x channels.

    Raises:
        InputError: the image does not decode.
    """
    from PIL import Image

    shape = (image_format.size, image_format.size, image_format.channels)
    if isinstance(raw, np.ndarray) and raw.shape == shape and box is None:
        return raw
    try:
        if isinstance(raw, np.ndarray):
            opened = Image.fromarray(raw.squeeze())
        else:
            opened = Image.open(io.BytesIO(raw) if isinstance(raw, bytes) else raw)
        with opened:
            image = opened.convert("RGB" if image_format.channels == 3 else "L")
        if box is not None:
            image = _cropped(image, box)
        return np.asarray(_resized(image, image_format)).reshape(shape)
    except Exception as error:  # every decoder has its own errors
        source = f"file {raw}" if isinstance(raw, Path) else name
        reason = str(error).split("\n", 1)[0] or type(error).__name__
        raise InputError(
            f"image {source} does not decode ({reason}); replace or remove it, then repeat the command"
        ) from None


def _cropped(image: Any, box: npt.NDArray[np.float64]) -> Any:
    left, top, right, bottom = (round(float(edge)) for edge in box)
    left, top = max(0, left), max(0, top)
    right, bottom = min(image.width, right), min(image.height, bottom)
    if right <= left or bottom <= top:
        raise ValueError(f"the bounding box {box.tolist()} lies outside its {image.width} x {image.height} pixels")
    return image.crop((left, top, right, bottom))


def _resized(image: Any, image_format: ImageFormat) -> Any:
    from PIL import Image

    if image.size == (image_format.size, image_format.size):
        return image
    if image_format.resize == "squash":
        return image.resize((image_format.size, image_format.size), Image.Resampling.LANCZOS)
    side = round(image_format.size * 8 / 7) if image_format.resize == "centre" else image_format.size
    scale = side / min(image.size)
    width, height = (max(side, round(length * scale)) for length in image.size)
    left, top = (width - image_format.size) // 2, (height - image_format.size) // 2
    image = image.resize((width, height), Image.Resampling.LANCZOS)
    return image.crop((left, top, left + image_format.size, top + image_format.size))


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
        raise InputError(f"file {path} cannot be read ({os_reason(error)}); get the data again") from None
    return [path.name, path.parent.name, facts.st_size, facts.st_mtime_ns]
