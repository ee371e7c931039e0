"""Commands on data sets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmark.cli import completion
from benchmark.cli.options import Data, Offline, data_root, enter, tell
from benchmark.errors import InputError
from benchmark.system import interrupts

if TYPE_CHECKING:
    from benchmark.data.published import Published
    from benchmark.system.progress import Progress

app = typer.Typer(
    invoke_without_command=True,
    rich_markup_mode=None,
    help="Look at data sets; fetch, import, verify and remove those that do not ship with the package.",
    epilog="""\b
    Examples:
      python -m benchmark data list
      python -m benchmark data import cub --from CUB_200_2011
    """,
)

Name = Annotated[str, typer.Argument(autocompletion=completion.datasets, help="Data set; see `data list`.")]


@enter(app, "list")
def list_(data: Data = None) -> None:
    """List data sets: which are here, which are imported, what they are.

    \b
    Example:
      python -m benchmark data list
    """
    from benchmark.data import DATASETS
    from benchmark.data.published import Published, data_set, imports
    from benchmark.display.tables import print_table

    root = data_root(data)
    rows = []
    for name in DATASETS.display_names():
        entry = data_set(name) if DATASETS.usable(name) else None
        state = entry.state(root) if isinstance(entry, Published) else "embedded" if entry else "cannot be used"
        rows.append([name, state, DATASETS.help(name)])
    known = {row[0] for row in rows}
    rows += [[path.name, "imported", "from a folder"] for path in imports(root) if path.name not in known]
    print_table(f"data sets, imported ones in {root / 'sets'}", ["name", "state", "what it is"], rows)


@enter(app, "show")
def show(
    dataset: Name,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a contact sheet (PNG), a row per class.")
    ] = None,
    offline: Offline = False,
    data: Data = None,
) -> None:
    """Say what a data set holds; with --out, draw it.

    \b
    Example:
      python -m benchmark data show glyphs --out sheet.png
    """
    import numpy as np

    from benchmark.data.published import data_set, open_data_set
    from benchmark.display.tables import print_table

    images = open_data_set(data_set(dataset), data_root(data), _progress())
    rows = []
    for split, classes in images.splits.items():
        counts = [len(images.where([c])) for c in classes]
        groups = len(np.unique(images.groups[images.where(classes)]))
        few, many = (str(pick(counts)) if counts else "" for pick in (min, max))
        rows.append([split, str(len(classes)), str(sum(counts)), few, many, str(groups)])
    _, height, width, channels = images.images.shape
    if out is not None:
        from benchmark.data.contact_sheet import draw_contact_sheet

        draw_contact_sheet(images, out)
        tell(f"wrote {out}")
    columns = ["split", "classes", "images", "fewest per class", "most per class", "groups"]
    print_table(
        f"{images.label}: {height} x {width} x {channels}, fingerprint {images.fingerprint[:12]}", columns, rows
    )
    print_table("\nfor the record", ["what", "value"], [[k, _short(v)] for k, v in images.describe().items()])


@enter(app, "fetch")
def fetch(
    dataset: Name,
    offline: Offline = False,
    data: Data = None,
) -> None:
    """Fetch the files of a data set from its publisher, or tell how to get them by hand.

    \b
    Examples:
      python -m benchmark data fetch cub
      python -m benchmark data fetch miniimagenet --data /scratch/benchmark
    """
    root = data_root(data)
    published = _published(dataset)
    for path in published.fetch(root, _progress()):
        tell(f"{path}: whole")
    tell(f"next: {published.command(root)}")


@enter(app, "import")
def import_(
    dataset: Name,
    source: Annotated[
        Path | None,
        typer.Option("--from", metavar="PATH", help="Folder or archive of its files [default: what was fetched]."),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Change a setting, as size=84 or crop=true; repeatable."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Threads that decode images [default: one per processor].")
    ] = None,
    offline: Offline = False,
    data: Data = None,
) -> None:
    """Convert a data set, once, to the form that runs read. Interrupted, the same command goes on.

    \b
    Examples:
      python -m benchmark data import cifar100
      python -m benchmark data import cub --from CUB_200_2011 --set size=84
    """
    from benchmark.data.published import default_workers

    published = _published(dataset)
    given: dict[str, str] = {}
    for item in set_ or ():
        name, equals, value = item.partition("=")
        if not equals or not name or name in given:
            raise InputError(f"--set {item!r} is not of the form name=value, each name once, as in size=84")
        given[name.strip()] = value.strip()
    index = published.import_from(
        data_root(data), source, given, workers=workers or default_workers(), progress=_progress()
    )
    count, height, width, channels = index.shape
    tell(f"{dataset}: {count:,} images of {len(index.classes)} classes, {height} x {width} x {channels}")


@enter(app, "verify")
def verify(
    datasets: Annotated[
        list[str] | None,
        typer.Argument(autocompletion=completion.datasets, help="Data sets [default: all imported ones]."),
    ] = None,
    data: Data = None,
) -> None:
    """Read imported data sets and compare every part with its checksum.

    \b
    Examples:
      python -m benchmark data verify
      python -m benchmark data verify cub
    """
    from benchmark.data.published import imports

    root = data_root(data)
    from benchmark.data import memory_map

    folders = [_published(name).ready(root, _progress()) for name in datasets or ()] or imports(root)
    for folder in dict.fromkeys(folders):
        index = memory_map.verify(folder, _progress())
        tell(f"{index.name}: {index.shape[0]:,} images, all as recorded")


@enter(app, "remove")
def remove(
    dataset: Name,
    downloads: Annotated[bool, typer.Option("--downloads", help="Its fetched files too.")] = False,
    data: Data = None,
) -> None:
    """Delete what was imported of a data set.

    \b
    Examples:
      python -m benchmark data remove cub
      python -m benchmark data remove cub --downloads
    """
    from benchmark.data.published import imports, remove_import

    root = data_root(data)
    if dataset.startswith("folder-") and root / "sets" / dataset in imports(root):  # of a folder that has changed
        freed = remove_import(root / "sets" / dataset)
    else:
        freed = _published(dataset).remove(root, downloads=downloads)
    tell(f"{dataset}: removed, {freed / 2**20:,.1f} MiB")


def _published(name: str) -> Published:
    from benchmark.data.published import Published, data_set

    entry = data_set(name)
    if not isinstance(entry, Published):
        raise InputError(f"data set {name} is embedded or another package's: there is nothing to fetch or import")
    return entry


def _progress() -> Progress:
    from benchmark.display.progress_bar import Bar
    from benchmark.system.progress import InterruptibleProgress

    return InterruptibleProgress(Bar(), stopped=interrupts.stop_requested)


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) < 80 else text[:77] + "..."
