"""What teacher and student make of the same images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure

from benchmark.records.store import Store
from benchmark.report.aggregation import MethodResult
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
    """One network's embeddings of M images: title, the images' classes (M), places (M x 2), purity of neighbours."""

    title: str
    method: str | None
    result: MethodResult
    classes: npt.NDArray[np.int64]
    places: npt.NDArray[np.float64]
    purity: float


@FIGURES.register("embeddings")
def embeddings(result_set: ResultSet) -> list[RenderedFigure]:
    """Embeddings of the teacher and of each method's student in the plane (t-SNE), the same classes alike."""
    groups = result_set.groups(lambda protocol: protocol if share(protocol) is not None else None)
    found = [(group, panels) for group in groups if (panels := _panels(result_set.store, group))]
    if not found:
        raise NothingToDraw("no finished run of distill-* with projections beside it")
    return [RenderedFigure(group.name("embeddings"), _draw(group, panels), _table(panels)) for group, panels in found]


def purity(points: npt.NDArray[np.float64], labels: npt.NDArray[np.int64], neighbours: int = _NEIGHBOURS) -> float:
    """Of the nearest neighbours of each point (M x D), the share with its label. As many as there are, at most."""
    from scipy.spatial.distance import cdist

    distances = cdist(points, points)
    np.fill_diagonal(distances, np.inf)
    nearest = distances.argsort(1, kind="stable")[:, : min(neighbours, len(points) - 1)]
    return float((labels[nearest] == labels[:, None]).mean())


def _panels(store: Store, group: FigureGroup) -> list[Panel]:
    """The teacher's panel, then each method's by accuracy, of its first seed; none where none kept projections."""
    panels: list[Panel] = []
    for result in group.ranked():
        if result.conditions.backbone != group.conditions.backbone:
            continue  # the teacher itself, which has a panel
        kept = store.arrays(next(iter(result.done.values())))
        if "projected" not in kept:
            continue
        if not panels:
            panels.append(_panel("teacher", None, result, kept, "projected_teacher"))
        panels.append(_panel(group.label(result), result.method, result, kept, "projected_student"))
    return panels


def _panel(
    title: str, method: str | None, result: MethodResult, kept: Mapping[str, npt.NDArray[Any]], name: str
) -> Panel:
    points, classes = kept[name].astype(np.float64), kept["labels"][kept["projected"]].astype(np.int64)
    return Panel(title, method, result, classes, _to_plane(points), purity(points, classes))


def _to_plane(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """t-SNE from a fixed start: van der Maaten and Hinton, JMLR 2008. M x D to M x 2, centred, of unit spread."""
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(points) - 1) / 3)
    fitted = TSNE(perplexity=perplexity, init="pca", method="exact", random_state=0, max_iter=500).fit_transform(points)
    placed: npt.NDArray[np.float64] = fitted.astype(np.float64)
    placed -= placed.mean(0)
    return placed / np.abs(placed).max()


def _table(panels: Sequence[Panel]) -> pd.DataFrame:
    """A row per network and image."""
    return pd.concat(
        [
            pd.DataFrame({"class": panel.classes, "x": panel.places[:, 0], "y": panel.places[:, 1]}).assign(
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
    down, each = -(-len(panels) // across), style.DOUBLE / _ACROSS
    high = each + (8 if any("(" in panel.title for panel in panels) else 4)
    figure = style.canvas(across * each, down * high + 13, group.title)
    for i, panel in enumerate(panels):
        row, column = divmod(i, across)
        frame = style.axes(figure, column * each + 2, 11 + (down - 1 - row) * high, each - 4, each - 4)
        for k, c in enumerate(np.unique(panel.classes)):
            of = panel.classes == c
            frame.plot(
                panel.places[of, 0], panel.places[of, 1], linestyle="none", color=_COLORS[k % len(_COLORS)],
                marker=_MARKERS[k % len(_MARKERS)], markersize=2.6, markeredgewidth=0,
            )  # fmt: skip
        frame.set_xlim(-1.08, 1.08)
        frame.set_ylim(-1.08, 1.08)
        frame.set_xticks([])
        frame.set_yticks([])
        for spine in frame.spines.values():
            spine.set_visible(True)
            spine.set_color(style.PALE)
        color = style.INK if panel.method is None else style.legible(style.look(panel.method).color)
        name = panel.title.replace(" (", "\n(")
        frame.set_title(f"{name}  {100 * panel.purity:.0f} %", loc="left", pad=2.5, color=color)
    style.footnote(
        figure,
        f"t-SNE of principal components; {len(np.unique(panels[0].classes))} classes, a colour and marker each",
        f"%: of the {_NEIGHBOURS} nearest neighbours by these components, how many are of the same class",
    )
    return figure
