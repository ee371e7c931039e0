"""How much REFILLED listens to the teacher on classes that it knows and on others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure

from benchmark.records.store import Store
from benchmark.report.aggregation import MethodResult
from benchmark.report.figures import FIGURES, FigureGroup, NothingToDraw, RenderedFigure, ResultSet, style
from benchmark.report.figures.overlap import share
from benchmark.statistics import Interval, seed_interval

_COLORS = {"known": "#0072B2", "unknown": "#D55E00"}
_EDGES = np.linspace(0.52, 1.0, 25)
"""Of the bins: the weights lie in [0.538, 1]."""


@dataclass(frozen=True)
class Weights:
    """Weights of all seeds' training images at one share of common classes, and the AUC by which they tell them apart.

    weights: N; known: N, whether the teacher knows the image's class.
    """

    protocol: str
    weights: npt.NDArray[np.float64]
    known: npt.NDArray[np.bool_]
    auc: Interval


@FIGURES.register("weights")
def weights(result_set: ResultSet) -> list[RenderedFigure]:
    """REFILLED's adaptive weights of images whose class the teacher knows and of others, with the AUC between them."""
    drawings = []
    for group in result_set.groups(lambda protocol: "weights" if share(protocol) is not None else None):
        protocols = sorted({result.conditions.protocol for result in group.results}, key=lambda name: share(name) or 0)
        panels = [_read(result_set.store, group.results, protocol) for protocol in protocols]
        found = [panel for panel in panels if panel is not None]
        if found:
            drawings.append(RenderedFigure(group.name("weights"), _draw(group, found), _table(group, found)))
    if not drawings:
        raise NothingToDraw("no finished run of distill-overlap{P} with the teacher's weights beside it")
    return drawings


def auc(weights: npt.NDArray[np.float64], known: npt.NDArray[np.bool_]) -> float:
    """The chance that an image of a known class weighs more than one of an unknown class, ties counting half."""
    from scipy.stats import mannwhitneyu

    above = mannwhitneyu(weights[known], weights[~known], method="asymptotic").statistic
    return float(above) / (int(known.sum()) * int((~known).sum()))


def _read(store: Store, results: Sequence[MethodResult], protocol: str) -> Weights | None:
    """What the runs of a protocol keep; one run per seed, as the weights are the teacher's alone."""
    runs = {
        seed: run for result in results if result.conditions.protocol == protocol for seed, run in result.done.items()
    }
    kept = [store.arrays(run) for _, run in sorted(runs.items())]
    pairs = [(found["train_weights"].astype(float), found["train_known"]) for found in kept if "train_known" in found]
    if not pairs:
        return None
    every, known = (np.concatenate(part) for part in zip(*pairs, strict=True))
    return Weights(protocol, every, known, seed_interval([auc(*pair) for pair in pairs]))


def _shares(panel: Weights) -> dict[str, npt.NDArray[np.float64]]:
    """By side, the share of its images in each bin."""
    sides = {"known": panel.weights[panel.known], "unknown": panel.weights[~panel.known]}
    return {side: np.histogram(values, _EDGES)[0] / len(values) for side, values in sides.items()}


def _table(group: FigureGroup, panels: Sequence[Weights]) -> pd.DataFrame:
    """A row per protocol, side and bin."""
    where = group.conditions
    return pd.DataFrame([
        {
            "protocol": panel.protocol, "dataset": where.dataset, "preset": where.preset, "teacher": where.teacher,
            "class": side, "images": int((panel.known == (side == "known")).sum()), "low": low, "high": high,
            "share": value, "auc": panel.auc.mean, "auc_ci95": panel.auc.half_width, "n_seeds": panel.auc.n,
        }
        for panel in panels
        for side, values in _shares(panel).items()
        for low, high, value in zip(_EDGES[:-1], _EDGES[1:], values, strict=True)
    ])  # fmt: skip


def _draw(group: FigureGroup, panels: Sequence[Weights]) -> Figure:
    across = min(len(panels), 3)
    wide = style.SINGLE if across == 1 else style.DOUBLE
    down, each, high = -(-len(panels) // across), (wide - 8) / across, 50.0
    figure = style.canvas(wide, down * high + 9, group.title)
    top = max(float(values.max()) for panel in panels for values in _shares(panel).values())
    for i, panel in enumerate(panels):
        row, column = divmod(i, across)
        frame = style.axes(figure, 13 + column * each, 16 + (down - 1 - row) * high, each - 8, high - 20)
        for side, values in _shares(panel).items():
            frame.stairs(100 * values, _EDGES, color=_COLORS[side], fill=True, alpha=0.25)
            frame.stairs(100 * values, _EDGES, color=_COLORS[side], linestyle="-" if side == "known" else "--")
        half = "" if panel.auc.half_width is None else f" ± {panel.auc.half_width:.3f}"
        frame.set_title(f"{share(panel.protocol)} % known classes\nAUC {panel.auc.mean:.3f}{half}", loc="left")
        frame.set_xlim(0.5, 1.02)
        frame.set_ylim(0, 105 * top)
        if column == 0:
            frame.set_ylabel("training images (%)")
        if i + across >= len(panels):
            frame.set_xlabel("adaptive weight")
        if i == 0:
            for line, (side, text) in enumerate({"known": "known class", "unknown": "unknown class"}.items()):
                frame.text(
                    0.04, 0.96 - 0.11 * line, text, transform=frame.transAxes, color=_COLORS[side], va="top", size=7
                )
    several = any(panel.auc.n > 1 for panel in panels)
    style.footnote(
        figure,
        "each histogram sums to 100 %",
        "AUC: chance that an image of a known class has the larger weight"
        + (", mean and 95 % Student t over seeds" if several else ""),
    )
    return figure
