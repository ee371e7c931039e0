"""The data root: download, import and remove published data sets."""

from __future__ import annotations

import dataclasses
import os
import shlex
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.data.published import PublishedDataset, default_data_root, text_of, unfinished_folder
from benchmark.errors import InputError, os_reason
from benchmark.hashing import content_key
from benchmark.settings import build_settings
from benchmark.system.progress import Progress

if TYPE_CHECKING:
    from benchmark.data.memory_map import MapIndex


def default_workers() -> int:
    """Return the default number of threads that decode images: one for each processor, at most 8."""
    return min(8, os.cpu_count() or 1)


def download_dataset(dataset: PublishedDataset, root: Path, progress: Progress) -> list[Path]:
    """Download the files of a set. If that fails, print the steps to get them by hand.

    Args:
        dataset: the set.
        root: the data root.
        progress: reports the download and the steps.

    Returns:
        The downloaded files.

    Raises:
        InputError: the files cannot be downloaded.
    """
    from benchmark.data.download import download_file

    try:
        if not dataset.downloads:
            raise InputError(f"{dataset.name} cannot be downloaded by a program; follow the steps printed above")
        return [download_file(file, dataset.download_folder(root), progress) for file in dataset.downloads]
    except InputError:
        for number, step in enumerate(dataset.steps, 1):
            progress.say(f"{number}. {step}")
        raise


def import_dataset(
    dataset: PublishedDataset,
    root: Path,
    source: Path | None,
    overrides: Mapping[str, str],
    *,
    workers: int,
    progress: Progress,
    replace: bool = False,
) -> MapIndex:
    """Import a set, unless it is imported already. An interrupted import continues.

    Args:
        dataset: the set.
        root: the data root.
        source: folder or archive of the set's files; None is the downloaded files.
        overrides: import settings by name, as text.
        workers: threads that decode images.
        progress: reports the work.
        replace: whether an import with other settings is replaced.

    Returns:
        The index of the import.

    Raises:
        InputError: the files are missing or damaged, a setting is wrong, or the set is imported with other settings.
    """
    from benchmark.data.importing import import_images
    from benchmark.data.memory_map import read_index

    settings: Any = build_settings(dataset.Settings, overrides, "import")
    values = dataclasses.asdict(settings)
    wrong = [name for name, value in dataset.needs.items() if values[name] != value]
    if wrong:
        raise InputError(f"data set {dataset.name} is defined with {wrong[0]}={text_of(dataset.needs[wrong[0]])}")
    target = dataset.import_folder(root)
    unfinished = unfinished_folder(target)
    with _locked(target):
        index = read_index(target)
        differs = index is not None and {**dataclasses.asdict(dataset.Settings()), **index.settings} != values
        if index is not None and differs and replace:
            progress.say(f"{dataset.name}: its import with {_listed(index.settings)} is replaced")
            _delete(target)
            index = None
        if index is None:
            try:
                folder = _folder_to_read(dataset, dataset.source_path(root, source), unfinished, progress)
                index = import_images(
                    dataset.read(folder, settings), target, name=dataset.name, settings=values, workers=workers,
                    progress=progress, folder=unfinished / "compact",
                )  # fmt: skip
            except OSError as error:
                reason = f"{error.filename}: {error.strerror}" if error.filename else os_reason(error)
                raise InputError(
                    f"cannot import {dataset.name} ({reason}); finished work is kept: repeat the command to continue"
                ) from None
        elif differs:
            raise InputError(
                f"data set {dataset.name} is imported with {_listed(index.settings)}; to import it with "
                f"{_listed(values)}, first: {_removal(dataset, root)}"
            )
        else:
            progress.say(f"{dataset.name} is imported already")
        shutil.rmtree(unfinished, ignore_errors=True)
        for line in dataset.remarks(target):
            progress.say(line)
        return index


def list_imports(root: Path) -> list[Path]:
    """Return the folders of all imported sets."""
    return sorted(path.parent for path in (root / "sets").glob("[!.]*/index.json"))


def remove_dataset(dataset: PublishedDataset, root: Path, *, downloads: bool) -> int:
    """Delete a set's own import, finished or not.

    Args:
        dataset: the set.
        root: the data root.
        downloads: delete the downloaded files too.

    Returns:
        The freed space in bytes.

    Raises:
        InputError: there is nothing to delete.
    """
    freed = remove_import(dataset.import_folder(root))
    if downloads and dataset.base is None and dataset.download_folder(root).exists():
        freed += _delete(dataset.download_folder(root))
    if not freed:
        raise InputError(f"data set {dataset.name} has no import of its own in {root / 'sets'}: nothing to remove")
    return freed


def remove_import(import_folder: Path) -> int:
    """Delete an import, finished or not, and return the freed space in bytes."""
    with _locked(import_folder):
        folders = (import_folder, unfinished_folder(import_folder))
        return sum(_delete(folder) for folder in folders if folder.exists())


def _folder_to_read(dataset: PublishedDataset, source: Path, unfinished: Path, progress: Progress) -> Path:
    """The folder for ``dataset.read``: in ``source``, or unpacked into ``unfinished`` from the archives there."""
    from benchmark.data.archives import extract, is_archive

    folder = dataset.locate(source)
    if folder is not None:
        return folder
    archives = [source] if is_archive(source) else [source / file.filename for file in dataset.downloads]
    if archives and all(map(is_archive, archives)):
        stats = [(path.name, path.stat()) for path in archives]
        unpacked = unfinished / f"source-{content_key([[n, s.st_size, s.st_mtime_ns] for n, s in stats])[:12]}"
        if not unpacked.exists():
            for stale in unfinished.glob("source-*"):
                shutil.rmtree(stale)
            extract(archives, unpacked, progress)
        folder = dataset.locate(unpacked)
    if folder is None:
        raise InputError(f"{source} holds none of {', '.join(dataset.holds)}; --from names {dataset.path}")
    return folder


@contextmanager
def _locked(import_folder: Path) -> Iterator[None]:
    """Let only one process at a time create or remove an import."""
    import filelock

    lock = filelock.FileLock(import_folder.with_name(f".{import_folder.name}.lock"))
    try:
        import_folder.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        raise InputError(
            f"cannot keep data sets in {import_folder.parent} ({os_reason(error)}); choose another folder with --data"
        ) from None
    try:
        yield
    finally:
        lock.release()


def _delete(folder: Path) -> int:
    """Delete a folder and return its size in bytes. It is renamed first, so that it is never half there."""
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    scratch = Path(tempfile.mkdtemp(prefix=".removed-", dir=folder.parent))
    folder.rename(scratch / folder.name)
    shutil.rmtree(scratch)
    return size


def _removal(dataset: PublishedDataset, root: Path) -> str:
    """Return the command that removes a set's import."""
    words = ["python", "-m", "benchmark", "data", "remove", dataset.typed_name]
    return shlex.join(words if root == default_data_root() else [*words, "--data", str(root)])


def _listed(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={text_of(value)}" for name, value in settings.items()) or "no settings"
