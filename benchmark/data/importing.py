"""From the files of a data set to the suite's own form: decoded once, in parallel, and gone on with after a break."""

from __future__ import annotations

import io
import os
import warnings
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from benchmark.data.memory_map import Index, MapWriter, chunk_rows
from benchmark.errors import InputError
from benchmark.hashing import content_key
from benchmark.system.progress import Progress

Picture = Path | bytes | npt.NDArray[np.uint8]
"""An image file, an encoded image, or pixels H x W x C."""

Resize = Literal["squash", "centre", "cover"]


class Pictures(Protocol):
    """A sequence of pictures, sliced from front to back: a list, an array, or what reads them as it goes."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice) -> Sequence[Picture] | npt.NDArray[np.uint8]: ...


@dataclass(frozen=True)
class Form:
    """What every image becomes: ``size`` x ``size`` pixels of 1 (grey) or 3 (RGB) channels.

    resize: ``squash`` changes the aspect ratio where it must; ``centre`` brings the shorter side to 8/7 of the size and
    takes the centre, as the usual 256 and 224; ``cover`` brings it to the size itself and takes the centre. All with
    Lanczos filtering; images of the right size stay as they are.
    """

    size: int
    channels: int = 3
    resize: Resize = "squash"


@dataclass(frozen=True, eq=False)
class ImageList:
    """What there is to import, nothing decoded yet.

    pictures and labels: N each, labels as indices into ``classes``; sources: the files that labels and pictures come
    from, image files aside; boxes: N x 4, the part of each picture to keep as left, top, right, bottom, where it is to
    be cropped; turns: N, quarter turns against the clock that each picture is given once it has its size;
    official_test: N flags, where test images are published; facts: for the record.
    """

    pictures: Pictures
    labels: npt.NDArray[np.int64]
    classes: tuple[str, ...]
    form: Form
    sources: tuple[Path, ...] = ()
    boxes: npt.NDArray[np.float64] | None = None
    turns: npt.NDArray[np.int64] | None = None
    official_test: npt.NDArray[np.bool_] | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.pictures) != len(self.labels) or not len(self.labels):
            raise InputError(f"there are {len(self.pictures)} images and {len(self.labels)} labels to import")
        counts = np.bincount(self.labels, minlength=len(self.classes))
        if (counts == 0).any():
            raise InputError(f"class {self.classes[int(counts.argmin())]!r} has no image; get the data again")


def expect_per_class(listing: ImageList, wanted: int, place: Path) -> ImageList:
    """The listing, if every class has so many images; else ``InputError``."""
    counts = np.bincount(listing.labels, minlength=len(listing.classes))
    if (counts != wanted).any():
        c = int((counts != wanted).argmax())
        raise InputError(
            f"{place} is not whole: class {listing.classes[c]!r} has {counts[c]} images, not {wanted}; get it again"
        )
    return listing


class ConcatImages:
    """Several ``Pictures``, one after the other; those that are passed are let go."""

    def __init__(self, *parts: Pictures) -> None:
        self._parts = deque(parts)
        self._passed = 0
        self._length = sum(map(len, parts))

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, rows: slice) -> list[Picture]:
        found: list[Picture] = []
        start = rows.start
        while start < min(rows.stop, self._length):
            part = self._parts[0]
            if start >= self._passed + len(part):
                self._passed += len(self._parts.popleft())
                continue
            found.extend(part[start - self._passed : rows.stop - self._passed])  # an array would be added, not appended
            start = rows.start + len(found)
        return found


def import_listing(
    listing: ImageList,
    target: Path,
    *,
    name: str,
    settings: Mapping[str, Any],
    workers: int,
    progress: Progress,
    folder: Path,
) -> Index:
    """Make the compact form of ``listing`` at ``target``, built in ``folder``, where an earlier import may have begun.

    Decodes in ``workers`` threads (the decoders run outside the interpreter's lock). An image that does not decode
    raises ``InputError`` naming its file; what is done by then, or when the process is ended, is kept and not repeated.
    """
    count, form = len(listing.labels), listing.form
    shape = (count, form.size, form.size, form.channels)
    rows = chunk_rows(shape)
    spans = [slice(start, min(start + rows, count)) for start in range(0, count, rows)]
    writer = MapWriter(folder, shape)
    progress.begin(f"import {name}", count)
    pool = ThreadPoolExecutor(max(1, workers))
    try:
        keys = _keys(listing, spans)
        begun = writer.resume(keys)
        if begun:
            progress.say(f"{name}: going on after {spans[begun - 1].stop:,} of {count:,} images")
        with warnings.catch_warnings():
            from PIL import Image

            warnings.simplefilter("error", Image.DecompressionBombWarning)
            for span, key, pixels in _in_order(pool, listing, spans[begun:], keys[begun:], 2 * workers):
                writer.append(pixels, key)
                progress.advance(span.stop, "images")
        return writer.finish(
            target, name=name, classes=listing.classes, labels=listing.labels, groups=np.arange(count),
            official_test=listing.official_test, settings=settings, facts=listing.facts,
        )  # fmt: skip
    finally:
        pool.shutdown(cancel_futures=True)
        progress.end()


def _in_order(
    pool: ThreadPoolExecutor, listing: ImageList, spans: Sequence[slice], keys: Sequence[str], ahead: int
) -> Iterator[tuple[slice, str, npt.NDArray[np.uint8]]]:
    """Decoded chunks, in order, a few of them under way at a time."""
    waiting: deque[tuple[slice, str, Future[npt.NDArray[np.uint8]]]] = deque()
    for span, key in zip(spans, keys, strict=True):
        waiting.append((span, key, pool.submit(_decode_all, listing, listing.pictures[span], span)))
        if len(waiting) > ahead:
            first, made_from, pixels = waiting.popleft()
            yield first, made_from, pixels.result()
    for first, made_from, pixels in waiting:
        yield first, made_from, pixels.result()


def _decode_all(
    listing: ImageList, pictures: Sequence[Picture] | npt.NDArray[np.uint8], span: slice
) -> npt.NDArray[np.uint8]:
    decoded = []
    for i, picture in enumerate(pictures, span.start):
        box = listing.boxes[i] if listing.boxes is not None else None
        pixels = decode(picture, listing.form, box, f"number {i}")
        decoded.append(pixels if listing.turns is None else np.rot90(pixels, listing.turns[i]))
    return np.stack(decoded)


def decode(
    picture: Picture, form: Form, box: npt.NDArray[np.float64] | None = None, name: str = ""
) -> npt.NDArray[np.uint8]:
    """One picture as uint8 pixels of ``form``. What does not decode raises ``InputError`` naming the file."""
    from PIL import Image

    if isinstance(picture, np.ndarray) and picture.shape == (form.size, form.size, form.channels) and box is None:
        return picture
    try:
        if isinstance(picture, np.ndarray):
            opened = Image.fromarray(picture.squeeze())
        else:
            opened = Image.open(io.BytesIO(picture) if isinstance(picture, bytes) else picture)
        with opened:
            image = opened.convert("RGB" if form.channels == 3 else "L")
        if box is not None:
            image = _cropped(image, box)
        return np.asarray(_resized(image, form)).reshape(form.size, form.size, form.channels)
    except Exception as error:  # every decoder has errors of its own
        source = f"file {picture}" if isinstance(picture, Path) else name
        reason = str(error).split("\n", 1)[0] or type(error).__name__
        raise InputError(
            f"image {source} does not decode ({reason}); replace or remove it, then give the same command again"
        ) from None


def _cropped(image: Any, box: npt.NDArray[np.float64]) -> Any:
    left, top, right, bottom = (round(float(edge)) for edge in box)
    left, top = max(0, left), max(0, top)
    right, bottom = min(image.width, right), min(image.height, bottom)
    if right <= left or bottom <= top:
        raise ValueError(f"the bounding box {box.tolist()} lies outside its {image.width} x {image.height} pixels")
    return image.crop((left, top, right, bottom))


def _resized(image: Any, form: Form) -> Any:
    from PIL import Image

    if image.size == (form.size, form.size):
        return image
    if form.resize == "squash":
        return image.resize((form.size, form.size), Image.Resampling.LANCZOS)
    side = round(form.size * 8 / 7) if form.resize == "centre" else form.size
    scale = side / min(image.size)
    width, height = (max(side, round(length * scale)) for length in image.size)
    left, top = (width - form.size) // 2, (height - form.size) // 2
    image = image.resize((width, height), Image.Resampling.LANCZOS)
    return image.crop((left, top, left + form.size, top + form.size))


def _keys(listing: ImageList, spans: Sequence[slice]) -> list[str]:
    """For each span a key of all that its pixels follow from."""
    sources = [_stamp(path) for path in listing.sources]
    form = [listing.form.size, listing.form.channels, listing.form.resize]
    keys = []
    for span in spans:
        boxes = listing.boxes[span].tolist() if listing.boxes is not None else None
        turns = listing.turns[span].tolist() if listing.turns is not None else None
        files = listing.pictures[span] if isinstance(listing.pictures, list) else ()
        own = [_stamp(path) for path in files if isinstance(path, Path)] or [span.start, span.stop]
        keys.append(content_key([form, sources, boxes, turns, own]))
    return keys


def _stamp(path: Path) -> list[str | int]:
    try:
        facts = os.stat(path)
    except OSError as error:
        raise InputError(f"file {path} cannot be read ({error.strerror or error}); get the data again") from None
    return [path.name, path.parent.name, facts.st_size, facts.st_mtime_ns]
