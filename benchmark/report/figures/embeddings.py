"""Embeddings of the same images by the teacher and by students."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure

from benchmark.records.store import Store
from benchmark.report.aggregation import MethodResult, shows_teacher
from benchmark.report.figures import FIGURES, FigureGroup, NothingToDraw, RenderedFigure, ResultSet, style
from benchmark.report.figures.figure import identity
from benchmark.report.figures.overlap import share

_ACROSS = 4
_NEIGHBOURS = 5
_COLORS = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000", "#8C6D00", "#7A1FA2", "#9A9A9A",
)  # fmt: skip
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", "p")


@dataclass(frozen=True)
class Panel:
    """One network's embeddings of M images in the plane."""

    title: str
    method: str | None
    """None for the teacher."""
    result: MethodResult
    classes: npt.NDArray[np.int64]
    """Class of each image, M."""
    positions: npt.NDArray[np.float64]
    """Position of each image in the plane, M x 2."""
    purity: float
    """Share of nearest neighbours with the same class, before the projection to the plane."""


@FIGURES.register("embeddings")
def embeddings(result_set: ResultSet) -> list[RenderedFigure]:
    """Embeddings of the teacher and of each method's student in the plane (t-SNE), the same classes alike."""
    groups = result_set.groups(lambda protocol: protocol if share(protocol) is not None else None)
    drawable = [(group, panels) for group in groups if (panels := _panels(result_set.store, group))]
    if not drawable:
        raise NothingToDraw("no finished run of distill-* with stored projections")
    return [
        RenderedFigure(group.name("embeddings"), _draw(group, panels), _table(panels)) for group, panels in drawable
    ]


def purity(points: npt.NDArray[np.float64], labels: npt.NDArray[np.int64], neighbours: int = _NEIGHBOURS) -> float:
    """Return the share of nearest neighbours that have the label of their point.

    Args:
        points: M x D.
        labels: M.
        neighbours: Number of neighbours per point, at most M - 1.
    """
    from scipy.spatial.distance import cdist

    distances = cdist(points, points)
    np.fill_diagonal(distances, np.inf)
    nearest = distances.argsort(1, kind="stable")[:, : min(neighbours, len(points) - 1)]
    return float((labels[nearest] == labels[:, None]).mean())


def _panels(store: Store, group: FigureGroup) -> list[Panel]:
    """Return the teacher's panel, then one panel per method by accuracy; empty if no run stored projections.

    A method's panel shows its first seed.
    """
    panels: list[Panel] = []
    teacher: Panel | None = None
    for result in group.ranked():
        if result.conditions.backbone != group.conditions.backbone:
            continue  # the student is the teacher itself, which has a panel already
        first = next(iter(result.done.values()))
        arrays = store.arrays(first)
        if "projected" not in arrays:
            continue
        if teacher is None and "projected_teacher" in arrays and shows_teacher(first):
            teacher = _panel("teacher", None, result, arrays, "projected_teacher")
        panels.append(_panel(group.label(result), result.method, result, arrays, "projected_student"))
    return [*([teacher] if teacher else []), *panels]


def _panel(
    title: str, method: str | None, result: MethodResult, arrays: Mapping[str, npt.NDArray[Any]], name: str
) -> Panel:
    points, classes = arrays[name].astype(np.float64), arrays["labels"][arrays["projected"]].astype(np.int64)
    return Panel(title, method, result, classes, _to_plane(points), purity(points, classes))


def _to_plane(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Project M x D points to M x 2 by t-SNE from a fixed start, centred, with largest coordinate 1.

    Van der Maaten and Hinton, JMLR 2008.
    """
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(points) - 1) / 3)
    fitted = TSNE(perplexity=perplexity, init="pca", method="exact", random_state=0, max_iter=500).fit_transform(points)
    positions: npt.NDArray[np.float64] = fitted.astype(np.float64)
    positions -= positions.mean(0)
    return positions / np.abs(positions).max()


def _table(panels: Sequence[Panel]) -> pd.DataFrame:
    """Return a row per network and image."""
    return pd.concat(
        [
            pd.DataFrame({"class": panel.classes, "x": panel.positions[:, 0], "y": panel.positions[:, 1]}).assign(
                **{**identity(panel.result), "method": panel.method},
                network=panel.title,
                seed=next(iter(panel.result.done)),
                purity=panel.purity,
            )
            for panel in panels
        ]
    )


def _draw(group: FigureGroup, panels: Sequence[Panel]) -> Figure:
    across = min(len(panels), _ACROSS)
    down, side = -(-len(panels) // across), style.DOUBLE / _ACROSS
    height = side + (8 if any("(" in panel.title for panel in panels) else 4)
    figure = style.canvas(across * side, down * height + 13, group.title)
    for i, panel in enumerate(panels):
        row, column = divmod(i, across)
        frame = style.axes(figure, column * side + 2, 11 + (down - 1 - row) * height, side - 4, side - 4)
        for k, c in enumerate(np.unique(panel.classes)):
            of_class = panel.classes == c
            frame.plot(
                *panel.positions[of_class].T, linestyle="none", color=_COLORS[k % len(_COLORS)],
                marker=_MARKERS[k % len(_MARKERS)], markersize=2.6, markeredgewidth=0,
            )  # fmt: skip
        frame.set_xlim(-1.08, 1.08)
        frame.set_ylim(-1.08, 1.08)
        style.picture_frame(frame, f"{panel.title}  {100 * panel.purity:.0f} %", panel.method)
    style.footnote(
        figure,
        f"t-SNE of principal components; {len(np.unique(panels[0].classes))} classes, a colour and marker each",
        f"%: of the {_NEIGHBOURS} nearest neighbours by these components, how many are of the same class",
    )
    return figure
