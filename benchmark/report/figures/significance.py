"""Pairwise tests of methods."""

from __future__ import annotations

import itertools

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from benchmark.report.compare import ALPHA
from benchmark.report.figures import FIGURES, FigureGroup, NothingToDraw, RenderedFigure, ResultSet, style
from benchmark.statistics import holm, paired_test

DIFFERENT, UNDECIDED = "#BFDDF0", "#FFFFFF"
"""Fill colours of pairs with and without a significant difference."""


@FIGURES.register("significance")
def significance(result_set: ResultSet) -> list[RenderedFigure]:
    """Every pair of methods: difference of means, Holm-adjusted p of the paired t-test over seeds, and the verdict."""
    drawings = []
    for group in result_set.groups():
        table = compare_all(group)
        if not table.empty:
            drawings.append(RenderedFigure(group.name("significance"), _draw(group, table), table))
    if not drawings:
        raise NothingToDraw("no conditions under which two methods have finished two or more seeds in common")
    return drawings


def compare_all(group: FigureGroup) -> pd.DataFrame:
    """Compare every pair of methods with two or more common seeds on these seeds.

    Returns:
        One row per pair, the better method first: the difference of means and its interval in [0, 1], p of the paired
        t-test, p after Holm's correction over all pairs, and whether the latter is below ``ALPHA``. If a pair differs
        by the same value in all seeds, it has no p.
    """
    all_pairs = [(a, b, sorted(set(a.done) & set(b.done))) for a, b in itertools.combinations(group.ranked(), 2)]
    pairs = [(a, b, seeds) for a, b, seeds in all_pairs if len(seeds) > 1]
    tests = [paired_test([a.done[s]["value"] - b.done[s]["value"] for s in seeds]) for a, b, seeds in pairs]
    tested = [i for i, test in enumerate(tests) if test.t_p is not None]
    adjusted = dict(zip(tested, holm([p for test in tests if (p := test.t_p) is not None]), strict=True))
    return pd.DataFrame([
        {
            "protocol": a.conditions.protocol, "dataset": a.conditions.dataset, "preset": a.conditions.preset,
            "teacher": a.conditions.teacher, "a": group.label(a), "b": group.label(b),
            "difference": test.interval.mean, "ci95": test.interval.half_width, "n_seeds": test.interval.n,
            "p": test.t_p, "holm_p": adjusted.get(i), "different": adjusted.get(i, 1.0) < ALPHA,
        }
        for i, ((a, b, _), test) in enumerate(zip(pairs, tests, strict=True))
    ])  # fmt: skip


def _draw(group: FigureGroup, table: pd.DataFrame) -> Figure:
    """Draw methods by methods, best first: differences above the diagonal, p-values below it."""
    paired = {*table["a"], *table["b"]}
    names = [name for result in group.ranked() if (name := group.label(result)) in paired]
    count = len(names)
    width = style.SINGLE if count < 7 else style.DOUBLE
    margin = 3 + 25.4 / 72 * max(style.text_width(name, 7) for name in names)
    cell_width = min(12.0, (width - margin - 2) / count)
    cell_height = min(cell_width, 6.0)
    figure = style.canvas(width, cell_height * count + margin + 17, group.title)
    frame = style.axes(figure, margin, 12, cell_width * count, cell_height * count)
    size = style.SMALL if cell_width > 7 else 5.0
    room = 0.9 * cell_width * 72 / 25.4
    for row in table.to_dict("records"):
        i, j = names.index(row["a"]), names.index(row["b"])
        for x, y, text in ((j, i, _points(row["difference"])), (i, j, _p_value(row["holm_p"]))):
            frame.add_patch(
                Rectangle(
                    (x - 0.5, y - 0.5), 1, 1, facecolor=DIFFERENT if row["different"] else UNDECIDED,
                    edgecolor=style.PALE, linewidth=0.4,
                )
            )  # fmt: skip
            frame.text(
                x, y, text, size=size * min(1, room / style.text_width(text, size)), ha="center",
                va="center_baseline", color=style.INK if row["different"] else style.GREY,
            )  # fmt: skip
    for i in range(count):
        frame.add_patch(Rectangle((i - 0.5, i - 0.5), 1, 1, facecolor=style.PALE, linewidth=0))
    frame.set_xlim(-0.5, count - 0.5)
    frame.set_ylim(count - 0.5, -0.5)
    frame.set_xticks(range(count), names, rotation=90)
    frame.set_yticks(range(count), names)
    frame.tick_params(length=0, labeltop=True, labelbottom=False)
    for spine in frame.spines.values():
        spine.set_visible(False)
    fewest, most = table["n_seeds"].min(), table["n_seeds"].max()
    style.footnote(
        figure,
        "above the diagonal: row minus column, points",
        f"below: p, paired t over {fewest if fewest == most else f'{fewest} to {most}'} seeds, Holm over all pairs",
        f"blue: p < {ALPHA:g}".replace("0.", "."),
        "white: cannot tell",
        group.only(result for result in group.results if group.label(result) in names).footnote,
    )
    return figure


def _points(difference: float) -> str:
    """Format a difference in percentage points, in at most four characters if it is below 100 points."""
    points = 100 * difference
    return (f"{points:+.1f}" if abs(points) < 9.95 else f"{points:+.0f}").replace("-", "\N{MINUS SIGN}")


def _p_value(p: float | None) -> str:
    """Format a p-value without its leading 0; a dash if there is none."""
    if p is None or pd.isna(p):
        return "\N{EN DASH}"
    return "<.001" if p < 0.001 else "1" if p > 0.9995 else f"{p:.3f}"[1:]
