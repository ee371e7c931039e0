"""Adaptive weights of REFILLED for classes that the teacher knows and for others."""

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
from benchmark.report.figures.overlap import share
from benchmark.statistics import Interval, seed_interval

_COLORS = {"known": "#0072B2", "unknown": "#D55E00"}
_EDGES = np.linspace(0.52, 1.0, 25)
"""Edges of the bins. The weights lie in [0.538, 1]."""


@dataclass(frozen=True)
class Weights:
    """Weights of the training images of all seeds under one protocol."""

    protocol: str
    weights: npt.NDArray[np.float64]
    """One weight per image, N."""
    known: npt.NDArray[np.bool_]
    """Whether the teacher knows the image's class, N."""
    auc: Interval
    """AUC of the weights as a score for known classes, over seeds."""


@FIGURES.register("weights")
def weights(result_set: ResultSet) -> list[RenderedFigure]:
    """REFILLED's adaptive weights of images whose class the teacher knows and of others, with the AUC between them."""
    drawings = []
    for group in result_set.groups(lambda protocol: "weights" if share(protocol) is not None else None):
        protocols = sorted({result.conditions.protocol for result in group.results}, key=lambda name: share(name) or 0)
        panels_or_none = [_read(result_set.store, group.results, protocol) for protocol in protocols]
        panels = [panel for panel in panels_or_none if panel is not None]
        if panels:
            drawings.append(RenderedFigure(group.name("weights"), _draw(group, panels), _table(group, panels)))
    if not drawings:
        raise NothingToDraw("no finished run of distill-overlap{P} with stored weights")
    return drawings


def auc(weights: npt.NDArray[np.float64], known: npt.NDArray[np.bool_]) -> float:
    """Return the probability that an image of a known class has the larger weight; ties count half."""
    from scipy.stats import mannwhitneyu

    above = mannwhitneyu(weights[known], weights[~known], method="asymptotic").statistic
    return float(above) / (int(known.sum()) * int((~known).sum()))


def _read(store: Store, results: Sequence[MethodResult], protocol: str) -> Weights | None:
    """Read the weights of one run per seed: they depend on the teacher only. Return None if no run stored them."""
    runs = {
        seed: run
        for result in results
        if result.conditions.protocol == protocol
        for seed, run in result.done.items()
        if shows_teacher(run)
    }
    stored = [store.arrays(run) for _, run in sorted(runs.items())]
    pairs = [
        (arrays["train_weights"].astype(float), arrays["train_known"]) for arrays in stored if "train_known" in arrays
    ]
    if not pairs:
        return None
    weights, known = (np.concatenate(part) for part in zip(*pairs, strict=True))
    return Weights(protocol, weights, known, seed_interval([auc(*pair) for pair in pairs]))


def _shares(panel: Weights) -> dict[str, npt.NDArray[np.float64]]:
    """Return the share of images in each bin, for known and for unknown classes."""
    by_class = {"known": panel.weights[panel.known], "unknown": panel.weights[~panel.known]}
    return {name: np.histogram(values, _EDGES)[0] / len(values) for name, values in by_class.items()}


def _table(group: FigureGroup, panels: Sequence[Weights]) -> pd.DataFrame:
    """Return a row per protocol, kind of class and bin."""
    shared = group.conditions
    return pd.DataFrame([
        {
            "protocol": panel.protocol, "dataset": shared.dataset, "preset": shared.preset, "teacher": shared.teacher,
            "class": name, "images": int((panel.known == (name == "known")).sum()), "low": low, "high": high,
            "share": value, "auc": panel.auc.mean, "auc_ci95": panel.auc.half_width, "n_seeds": panel.auc.n,
        }
        for panel in panels
        for name, values in _shares(panel).items()
        for low, high, value in zip(_EDGES[:-1], _EDGES[1:], values, strict=True)
    ])  # fmt: skip


def _draw(group: FigureGroup, panels: Sequence[Weights]) -> Figure:
    across = min(len(panels), 3)
    width = style.SINGLE if across == 1 else style.DOUBLE
    down, panel_width, panel_height = -(-len(panels) // across), (width - 8) / across, 50.0
    figure = style.canvas(width, down * panel_height + 9, group.title)
    top = max(float(values.max()) for panel in panels for values in _shares(panel).values())
    for i, panel in enumerate(panels):
        row, column = divmod(i, across)
        left, bottom = 13 + column * panel_width, 16 + (down - 1 - row) * panel_height
        frame = style.axes(figure, left, bottom, panel_width - 8, panel_height - 20)
        for name, values in _shares(panel).items():
            frame.stairs(100 * values, _EDGES, color=_COLORS[name], fill=True, alpha=0.25)
            frame.stairs(100 * values, _EDGES, color=_COLORS[name], linestyle="-" if name == "known" else "--")
        half = "" if panel.auc.half_width is None else f" ± {panel.auc.half_width:.3f}"
        frame.set_title(f"{share(panel.protocol)} % known classes\nAUC {panel.auc.mean:.3f}{half}", loc="left")
        frame.set_xlim(0.5, 1.02)
        frame.set_ylim(0, 105 * top)
        if column == 0:
            frame.set_ylabel("training images (%)")
        if i + across >= len(panels):
            frame.set_xlabel("adaptive weight")
        if i == 0:
            for line, (name, text) in enumerate({"known": "known class", "unknown": "unknown class"}.items()):
                frame.text(
                    0.04, 0.96 - 0.11 * line, text, transform=frame.transAxes, color=_COLORS[name], va="top", size=7
                )
    several = any(panel.auc.n > 1 for panel in panels)
    style.footnote(
        figure,
        "each histogram sums to 100 %",
        "AUC: chance that an image of a known class has the larger weight"
        + (", mean and 95 % Student t over seeds" if several else ""),
    )
    return figure
