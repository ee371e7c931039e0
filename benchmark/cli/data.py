"""``data`` commands: list, show, download, import, verify and remove data sets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmark.cli import completion
from benchmark.cli.options import Data, Offline, data_root, enter, tell
from benchmark.errors import InputError
from benchmark.system import interrupts

if TYPE_CHECKING:
    from benchmark.data.published import PublishedDataset
    from benchmark.system.progress import Progress

app = typer.Typer(
    invoke_without_command=True,
    rich_markup_mode=None,
    help="List, show, download and import data sets.",
    epilog="""\b
    Examples:
      python -m benchmark data list
      python -m benchmark data import cub --from CUB_200_2011
    """,
)

Name = Annotated[str, typer.Argument(autocompletion=completion.datasets, help="Data set; see `data list`.")]


@enter(app, "list")
def list_(data: Data = None) -> None:
    """List all data sets and their state.

    \b
    Example:
      python -m benchmark data list
    """
    from benchmark.data import DATASETS
    from benchmark.data.published import PublishedDataset, data_set
    from benchmark.data.sets.folder import describe_own_imports
    from benchmark.display.tables import print_table

    root = data_root(data)
    rows = []
    for name in DATASETS.display_names():
        loader = data_set(name) if DATASETS.usable(name) else None
        state = "embedded" if loader else "cannot be used"
        rows.append([name, loader.state(root) if isinstance(loader, PublishedDataset) else state, DATASETS.help(name)])
    rows += map(list, describe_own_imports(root))
    print_table(f"data sets, imported ones in {root / 'sets'}", ["name", "state", "what it is"], rows)


@enter(app, "show")
def show(
    dataset: Name,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a contact sheet (PNG) with a row for each class.")
    ] = None,
    offline: Offline = False,
    data: Data = None,
) -> None:
    """Show what a data set holds. --out also draws it.

    \b
    Example:
      python -m benchmark data show glyphs --out sheet.png
    """
    import numpy as np

    from benchmark.data.published import PublishedDataset, data_set, open_data_set
    from benchmark.display.tables import print_table

    loader, root = data_set(dataset), data_root(data)
    images = open_data_set(loader, root, _progress())
    rows = []
    for split, classes in images.splits.items():
        counts = [len(images.indices_of([c])) for c in classes]
        groups = len(np.unique(images.groups[images.indices_of(classes)]))
        fewest, most = (str(pick(counts)) if counts else "" for pick in (min, max))
        rows.append([split, str(len(classes)), str(sum(counts)), fewest, most, str(groups)])
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
    if isinstance(loader, PublishedDataset):
        for line in loader.remarks(loader.require_import(root, _progress())):
            tell(line)


@enter(app, "download")
def download(
    dataset: Name,
    offline: Offline = False,
    data: Data = None,
) -> None:
    """Download the files of a data set. If its licence forbids that, print how to get them.

    \b
    Examples:
      python -m benchmark data download cub
      python -m benchmark data download miniimagenet --data /scratch/benchmark
    """
    from benchmark.data.dataset_store import download_dataset

    root = data_root(data)
    published = _published(dataset)
    for path in download_dataset(published, root, _progress()):
        tell(f"{path}: complete")
    tell(f"next: {published.import_command(root)}")


app.command("fetch", hidden=True)(download)  # the former name


@enter(app, "import")
def import_(
    dataset: Name,
    source: Annotated[
        Path | None,
        typer.Option("--from", metavar="PATH", help="Folder or archive of its files [default: the downloaded files]."),
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
    """Convert a data set to the form that runs read. To continue an interrupted import, repeat the command.

    \b
    Examples:
      python -m benchmark data import cifar100
      python -m benchmark data import cub --from CUB_200_2011 --set size=84
    """
    from benchmark.data.dataset_store import default_workers, import_dataset

    published = _published(dataset)
    overrides: dict[str, str] = {}
    for item in set_ or ():
        name, equals, value = item.partition("=")
        if not equals or not name or name in overrides:
            raise InputError(f"--set {item!r} is not of the form name=value, each name once, as in size=84")
        overrides[name.strip()] = value.strip()
    index = import_dataset(
        published, data_root(data), source, overrides, workers=workers or default_workers(), progress=_progress(),
        replace=dataset.startswith("folder:"),  # its images are at hand
    )  # fmt: skip
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
    """Check imported data sets against their checksums.

    \b
    Examples:
      python -m benchmark data verify
      python -m benchmark data verify cub
    """
    from benchmark.data.dataset_store import list_imports
    from benchmark.data.memory_map import check_pixels

    root = data_root(data)
    folders = [_published(name).require_import(root, _progress()) for name in datasets or ()] or list_imports(root)
    for folder in dict.fromkeys(folders):
        index = check_pixels(folder, _progress(), again=True)
        tell(f"{index.name}: {index.shape[0]:,} images, all as recorded")


@enter(app, "remove")
def remove(
    dataset: Name,
    downloads: Annotated[bool, typer.Option("--downloads", help="Also delete its downloaded files.")] = False,
    data: Data = None,
) -> None:
    """Delete the import of a data set.

    \b
    Examples:
      python -m benchmark data remove cub
      python -m benchmark data remove cub --downloads
    """
    from benchmark.data.dataset_store import list_imports, remove_dataset, remove_import

    root = data_root(data)
    if dataset.startswith("folder-") and root / "sets" / dataset in list_imports(root):  # its folder has changed
        freed = remove_import(root / "sets" / dataset)
    else:
        freed = remove_dataset(_published(dataset), root, downloads=downloads)
    tell(f"{dataset}: removed, {freed / 2**20:,.1f} MiB")


def _published(name: str) -> PublishedDataset:
    from benchmark.data.published import PublishedDataset, data_set

    loader = data_set(name)
    if not isinstance(loader, PublishedDataset):
        raise InputError(f"data set {name} is embedded or another package's: there is nothing to download or import")
    return loader


def _progress() -> Progress:
    from benchmark.display.progress_bar import Bar
    from benchmark.system.progress import InterruptibleProgress

    return InterruptibleProgress(Bar(), stopped=interrupts.stop_requested)


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) < 80 else text[:77] + "..."
