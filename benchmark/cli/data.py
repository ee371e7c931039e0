"""Commands on data sets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmark.cli.options import Data, data_root, tell

app = typer.Typer(invoke_without_command=True, rich_markup_mode=None, help="Look at data sets.")


@app.command("show")
def data_show(
    dataset: Annotated[str, typer.Argument(help="Data set; see `list datasets`.")],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a contact sheet (PNG), a row per class.")
    ] = None,
    data: Data = None,
) -> None:
    """Say what a data set holds; with --out, draw it."""
    import numpy as np

    from benchmark.console import print_table
    from benchmark.data import DATASETS

    images = DATASETS.get(dataset).entry(data_root(data))
    rows = []
    for split, classes in images.splits.items():
        counts = [len(images.where([c])) for c in classes]
        groups = len(np.unique(images.groups[images.where(classes)]))
        rows.append([split, str(len(classes)), str(sum(counts)), str(min(counts)), str(max(counts)), str(groups)])
    _, height, width, channels = images.images.shape
    if out is not None:
        from benchmark.data.contact_sheet import draw_contact_sheet

        draw_contact_sheet(images, out)
        tell(f"wrote {out}")
    columns = ["split", "classes", "images", "fewest per class", "most per class", "groups"]
    print_table(f"{dataset}: {height} x {width} x {channels}, fingerprint {images.fingerprint[:12]}", columns, rows)
