"""Data sets that do not ship with the suite: how to get their files, and what they are once imported."""

from __future__ import annotations

import dataclasses
import os
import shlex
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, Le

from benchmark.data.download import Download
from benchmark.errors import InputError
from benchmark.hashing import content_key
from benchmark.settings import build_settings
from benchmark.system.progress import Progress, Silent

Resize = Literal["squash", "centre", "cover"]

if TYPE_CHECKING:
    from benchmark.data import ImageSet
    from benchmark.data.class_splits import ClassSplit
    from benchmark.data.importing import ImageList
    from benchmark.data.memory_map import Index
    from benchmark.registry import Resolved


@dataclass(frozen=True)
class NoImportSettings:
    """Images stay as they are: nothing to set."""


@dataclass(frozen=True)
class Resized:
    """Every image becomes ``size`` x ``size`` pixels, its sides ``squash``-ed, or its ``centre`` or ``cover`` taken."""

    size: Annotated[int, Ge(8), Le(1024)] = 84
    resize: Resize = "squash"


def default_data_root() -> Path:
    """The data root where none is given: ``BENCHMARK_DATA``, else a folder of the user's cache."""
    import platformdirs

    return Path(os.environ.get("BENCHMARK_DATA") or platformdirs.user_cache_path("distillation-benchmark"))


def default_workers() -> int:
    """Threads that decode images: one per processor, 8 at the most."""
    return min(8, os.cpu_count() or 1)


def _no_orders(index: Index) -> Mapping[str, tuple[int, ...]]:
    return {}


@dataclass(frozen=True, kw_only=True)
class Published:
    """A data set by its files. Called with the data root it opens what was imported there.

    about: its line in listings; Settings: what can be set at import; path: what ``--from`` names, in words; holds:
    names of files or folders, any of which marks the folder that ``read`` takes; read: that folder and the settings to
    a listing; split, orders: of the imported classes; background, mirrors: as of ``ImageSet``; downloads: files to
    fetch; steps: how to get it by hand; base: another set whose import serves this one too where its settings agree
    with ``needs``.
    """

    name: str
    about: str
    Settings: type
    path: str
    holds: tuple[str, ...]
    read: Callable[[Path, Any], ImageList]
    split: Callable[[Index], ClassSplit]
    orders: Callable[[Index], Mapping[str, tuple[int, ...]]] = _no_orders
    background: int = 0
    flip_invariant: bool = True
    downloads: tuple[Download, ...] = ()
    steps: tuple[str, ...] = ()
    base: Published | None = None
    needs: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "__doc__", self.about)

    def __call__(self, root: Path) -> ImageSet:
        """The imported set; one that is not imported raises ``InputError`` with the command to type."""
        from benchmark.data.image_set import ImageSet, ImportInfo
        from benchmark.data.memory_map import open_mapped

        compact = open_mapped(self.ready(root, Silent()))
        index = compact.index
        split = self.split(index)
        return ImageSet(
            name=self.name,
            images=compact.images,
            labels=compact.labels,
            groups=compact.groups,
            classes=index.classes,
            splits=split.indices(index.classes),
            background=self.background,
            flip_invariant=self.flip_invariant,
            orders=self.orders(index),
            official_test=compact.official_test,
            split_name=split.name,
            origin=ImportInfo(index.pixels, self.form(index), {"import": dict(index.settings), **index.facts}),
        )

    def form(self, index: Index) -> str:
        """What an import was asked for other than usual."""
        usual = dataclasses.asdict(self.Settings())
        return "+".join(f"{k}={_text(v)}" for k, v in sorted(index.settings.items()) if usual.get(k) != v)

    def folder(self, root: Path) -> Path:
        """Where its own import stands or would stand."""
        return root / "sets" / self.name

    def found(self, root: Path) -> Path | None:
        """The import that serves this set, its own or that of its base; None where there is none."""
        from benchmark.data.memory_map import read_index

        for published in (self, self.base or self):
            folder = published.folder(root)
            index = read_index(folder)
            if index is not None and all(index.settings.get(k) == v for k, v in self.needs.items()):
                return folder
        return None

    def ready(self, root: Path, progress: Progress) -> Path:
        """The folder of an import that serves this set; where there is none, ``InputError`` with what to type."""
        found = self.found(root)
        if found is None:
            sets = ", ".join(self._unusual(self))
            asked = f" with {sets}" if sets else ""
            raise InputError(f"data set {self.name} is not imported{asked}; type: {self.command(root)}")
        return found

    def command(self, root: Path) -> str:
        """What to type to have this set."""
        named, sets = self, self._unusual(self)
        if self.base is not None and not self.base.folder(root).exists() and not self._unusual(self.base):
            named, sets = self.base, []
        name = named.name
        place = "" if root == default_data_root() else f" --data {shlex.quote(str(root))}"
        typed = f"python -m benchmark data import {name}{place}" + "".join(f" --set {setting}" for setting in sets)
        if self.fetched(root):
            return typed
        by_hand = f"{typed} --from PATH (PATH: {named.path})"
        if not self.downloads:
            return f"{by_hand}; `python -m benchmark data fetch {name}` tells how to get it"
        return f"python -m benchmark data fetch {name}{place} && {typed}, or if you have its files {by_hand}"

    def _unusual(self, imported: Published) -> list[str]:
        """What it needs that an import of ``imported`` has to be asked for."""
        usual = dataclasses.asdict(imported.Settings())
        return [f"{name}={_text(value)}" for name, value in self.needs.items() if usual.get(name) != value]

    def store(self, root: Path) -> Path:
        """Where its fetched files are kept."""
        return self.base.store(root) if self.base is not None else root / "downloads" / self.name

    def fetched(self, root: Path) -> bool:
        """Whether all its files have been fetched."""
        return bool(self.downloads) and all((self.store(root) / d.filename).exists() for d in self.downloads)

    def fetch(self, root: Path, progress: Progress) -> list[Path]:
        """Fetch its files; where that is not possible, say the steps and raise ``InputError``."""
        from benchmark.data.download import fetch

        try:
            if not self.downloads:
                raise InputError(f"{self.name} cannot be fetched by a program; the steps to get it stand above")
            return [fetch(d, self.store(root), progress) for d in self.downloads]
        except InputError:
            for number, step in enumerate(self.steps, 1):
                progress.say(f"{number}. {step}")
            raise

    def import_from(
        self, root: Path, source: Path | None, given: Mapping[str, str], *, workers: int, progress: Progress
    ) -> Index:
        """Import the set from a folder or an archive, or from its fetched files, unless that is done already."""
        from benchmark.data.importing import import_listing
        from benchmark.data.memory_map import read_index

        settings: Any = build_settings(self.Settings, given, "import")
        values = dataclasses.asdict(settings)
        wrong = [name for name, value in self.needs.items() if values[name] != value]
        if wrong:
            raise InputError(f"data set {self.name} is defined with {wrong[0]}={_text(self.needs[wrong[0]])}")
        target = self.folder(root)
        part = _part(target)
        with _locked(target):
            known = read_index(target)
            if known is None:
                try:
                    place = self._place(root, source, part, progress)
                    known = import_listing(
                        self.read(place, settings), target, name=self.name, settings=values, workers=workers,
                        progress=progress, folder=part / "compact",
                    )  # fmt: skip
                except OSError as error:
                    what = f"{error.filename}: {error.strerror}" if error.filename else error.strerror or str(error)
                    raise InputError(
                        f"cannot import {self.name} ({what}); what is done is kept, and the same command goes on"
                    ) from None
            elif {**dataclasses.asdict(self.Settings()), **known.settings} != values:
                raise InputError(
                    f"data set {self.name} is imported with {_listed(known.settings)}; to import it with "
                    f"{_listed(values)}, first: python -m benchmark data remove {shlex.quote(self.name)}"
                )
            else:
                progress.say(f"{self.name} is imported already")
            shutil.rmtree(part, ignore_errors=True)
            return known

    def remove(self, root: Path, *, downloads: bool) -> int:
        """Delete its import and what an interrupted one left, and its fetched files too where asked; bytes freed."""
        freed = remove_import(self.folder(root))
        if downloads and self.base is None and self.store(root).exists():
            freed += _delete(self.store(root))
        if not freed:
            raise InputError(f"data set {self.name} has no import of its own in {root / 'sets'}: nothing to remove")
        return freed

    def state(self, root: Path) -> str:
        """Imported, by way of another set, damaged, interrupted, fetched or not here."""
        try:
            found = self.found(root)
        except InputError:
            return "damaged"
        if found is not None:
            return "imported" if found == self.folder(root) else f"imported as {found.name}"
        if _part(self.folder(root)).exists():
            return "import interrupted"
        return "fetched" if self.fetched(root) else "not here"

    def _place(self, root: Path, source: Path | None, part: Path, progress: Progress) -> Path:
        """The folder to read: found in ``source``, or in the archives there once they are unpacked, in ``part``."""
        from benchmark.data.archives import extract, is_archive

        if source is None:
            if not self.fetched(root):
                raise InputError(f"the files of {self.name} are not there; type: {self.command(root)}")
            source = self.store(root)
        source = source.expanduser()
        if not source.exists():
            raise InputError(f"{source} does not exist; --from names {self.path}")
        place = self._locate(source)
        if place is not None:
            return place
        archives = [source] if is_archive(source) else [source / d.filename for d in self.downloads]
        if archives and all(map(is_archive, archives)):
            stats = [(path.name, path.stat()) for path in archives]
            unpacked = part / f"source-{content_key([[n, s.st_size, s.st_mtime_ns] for n, s in stats])[:12]}"
            if not unpacked.exists():
                for stale in part.glob("source-*"):
                    shutil.rmtree(stale)
                extract(archives, unpacked, progress)
            place = self._locate(unpacked)
        if place is None:
            raise InputError(f"{source} holds none of {', '.join(self.holds)}; --from names {self.path}")
        return place

    def _locate(self, source: Path) -> Path | None:
        if not source.is_dir():
            return None
        inside = sorted(path for path in source.iterdir() if path.is_dir())
        return next((f for f in (source, *inside) if any(any(f.glob(mark)) for mark in self.holds)), None)


def data_set(name: str) -> Callable[[Path], ImageSet]:
    """The loader that a name stands for, ``Published`` or not; where the name has fields, made from them."""
    from benchmark.data import DATASETS

    match: Resolved[Any] = DATASETS.get(name)
    loader: Callable[[Path], ImageSet] = match.entry(**match.fields) if match.fields else match.entry
    return loader


def open_data_set(entry: Callable[[Path], ImageSet], root: Path, progress: Progress) -> ImageSet:
    """What a loader gives; work to be done first, such as decoding, is shown."""
    if isinstance(entry, Published):
        entry.ready(root, progress)
    return entry(root)


def imports(root: Path) -> list[Path]:
    """The folders of all imported sets."""
    return sorted(path.parent for path in (root / "sets").glob("[!.]*/index.json"))


def remove_import(target: Path) -> int:
    """Delete an import and what an interrupted one left; bytes freed."""
    with _locked(target):
        return sum(_delete(path) for path in (target, _part(target)) if path.exists())


@contextmanager
def _locked(target: Path) -> Iterator[None]:
    """One process at a time makes or removes an import."""
    import filelock

    lock = filelock.FileLock(target.with_name(f".{target.name}.lock"))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        raise InputError(
            f"cannot keep data sets in {target.parent} ({error.strerror or error}); choose another folder with --data"
        ) from None
    try:
        yield
    finally:
        lock.release()


def _part(target: Path) -> Path:
    return target.with_name(f".{target.name}.part")


def _delete(folder: Path) -> int:
    """Delete a folder, whose name goes first so that it is never taken for whole; its size in bytes."""
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    scratch = Path(tempfile.mkdtemp(prefix=".removed-", dir=folder.parent))
    folder.rename(scratch / folder.name)
    shutil.rmtree(scratch)
    return size


def _listed(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={_text(value)}" for name, value in settings.items()) or "no settings"


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
