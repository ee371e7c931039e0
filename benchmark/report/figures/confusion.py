"""Which classes students take for which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure

from benchmark.records.store import Store
from benchmark.report.aggregation import MethodResult, shows_teacher
from benchmark.report.figures import FIGURES, FigureGroup, NothingToDraw, RenderedFigure, ResultSet, style
from benchmark.report.figures.figure import identity

_ACROSS = 4


@dataclass(frozen=True)
class Panel:
    """The confusion matrix of one method, or of the teacher's nearest mean."""

    title: str
    method: str | None
    """None for the teacher."""
    result: MethodResult
    shares: npt.NDArray[np.float64]
    """Share of the images of each class that are taken for each class, C x C; rows sum to 1, means over seeds."""

    @property
    def accuracy(self) -> float:
        """The mean over classes of the share of images that are recognised."""
        return float(np.nanmean(np.diag(self.shares)))


@FIGURES.register("confusion")
def confusion(result_set: ResultSet) -> list[RenderedFigure]:
    """Which classes each method takes for which on distill-* and incremental-* protocols, as a matrix of shares."""
    families = "distill-", "incremental-"
    groups = result_set.groups(lambda protocol: protocol if protocol.startswith(families) else None)
    drawable = [(group, panels) for group in groups if (panels := _panels(result_set.store, group))]
    if not drawable:
        raise NothingToDraw("no finished run of distill-* or incremental-* with stored predictions")
    return [RenderedFigure(g.name("confusion"), _draw(g, panels), _table(panels)) for g, panels in drawable]


def confusion_shares(
    labels: npt.NDArray[np.int32], predicted: npt.NDArray[np.int32], classes: int
) -> npt.NDArray[np.float64]:
    """Return the share of the images of each class that are taken for each class.

    Args:
        labels: Classes of N images, from 0 on.
        predicted: Predicted classes of these images.
        classes: Number C of classes.

    Returns:
        C x C, a row for each true class; NaN for a class without images.
    """
    counts = np.zeros((classes, classes))
    np.add.at(counts, (labels, predicted), 1)
    totals = counts.sum(1, keepdims=True)
    return np.divide(counts, totals, out=np.full_like(counts, np.nan), where=totals > 0)


def _panels(store: Store, group: FigureGroup) -> list[Panel]:
    """Return one panel per method by accuracy, then the teacher's; empty if no run stored predictions."""
    panels: list[Panel] = []
    teacher: Panel | None = None
    for result in group.ranked():
        arrays = [store.arrays(run) for run in result.done.values()]
        for name, title in (("predicted_student", group.label(result)), ("predicted_teacher_ncm", "teacher")):
            if not arrays or not all({"labels", name} <= set(stored) for stored in arrays):
                continue
            if title == "teacher" and not all(map(shows_teacher, result.done.values())):
                continue
            classes = 1 + max(int(stored[part].max()) for stored in arrays for part in ("labels", name))
            shares = np.mean([confusion_shares(stored["labels"], stored[name], classes) for stored in arrays], axis=0)
            if title != "teacher":
                panels.append(Panel(title, result.method, result, shares))
            elif teacher is None:
                teacher = Panel("teacher (nearest mean)", None, result, shares)
    return [*panels, *([teacher] if teacher and panels else [])]


def _table(panels: Sequence[Panel]) -> pd.DataFrame:
    """Return a row per network and pair of classes that were taken for one another."""
    tables = []
    for panel in panels:
        true, predicted = np.nonzero(np.nan_to_num(panel.shares))
        rows = pd.DataFrame({"class": true, "predicted": predicted, "share": panel.shares[true, predicted]})
        tables.append(rows.assign(**{**identity(panel.result), "method": panel.method}, network=panel.title))
    return pd.concat(tables)


def _draw(group: FigureGroup, panels: Sequence[Panel]) -> Figure:
    across = min(len(panels), _ACROSS)
    down, side = -(-len(panels) // across), style.DOUBLE / _ACROSS
    height = side + (8 if any("(" in panel.title for panel in panels) else 4)
    figure = style.canvas(max(2, across) * side, down * height + 20, group.title)
    for i, panel in enumerate(panels):
        row, column = divmod(i, across)
        frame = style.axes(figure, column * side + 3, 16 + (down - 1 - row) * height, side - 6, side - 6)
        frame.imshow(np.sqrt(panel.shares), cmap="Greys", vmin=0, vmax=1, interpolation="nearest", aspect="auto")
        style.picture_frame(frame, f"{panel.title}  {100 * panel.accuracy:.0f} %", panel.method)
    style.footnote(
        figure,
        f"rows: the {len(panels[0].shares)} true classes, columns: predicted ones; dark: many (root of the share)",
        "%: mean over classes of the share that is recognised",
        group.footnote,
    )
    return figure
