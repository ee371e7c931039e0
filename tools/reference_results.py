"""Everything under results/ that is made of the committed records: ``python tools/reference_results.py``.

Run it after the grid (results/reference.yaml): it writes the leaderboard, the tables, the figures, the page and
results/README.md, with a verdict on each claim by the rule stated there. README and documentation quote some of it, by
``python tools/refresh_docs.py``.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmark.records.store import Record, Store
from benchmark.report.aggregation import Cell, group_by_method
from benchmark.report.compare import Comparison, compare
from benchmark.report.figures import FIGURES, Evidence, drawings, to_svg, write
from benchmark.report.leaderboard import leaderboard, to_csv
from benchmark.report.page import Illustration, make_page
from benchmark.report.tables import Table, make_tables, to_latex, to_markdown
from benchmark.statistics import seed_interval
from benchmark.sweep.grid import read_grid
from benchmark.sweep.jobs import plan_jobs
from benchmark.system.files import write_atomically
from benchmark.system.progress import Silent
from protocols import PROTOCOLS, tuned_settings

ROOT = Path(__file__).parent.parent

SHORTENED = {"fewshot": ("protocol.episodes=2000",), "middleshot": ("protocol.tasks=40",)}
"""What the grid judges by less than the preset, by the beginning of the protocol's name."""


def label(protocol: str, *settings: str) -> str:
    """The preset's label in the grid's records where it asks for these settings."""
    short = next((given for name, given in SHORTENED.items() if protocol.startswith(name)), ())
    return "+".join(["quick", *sorted([*short, *settings])])


@dataclass(frozen=True)
class Claim:
    """What papers claim, and the comparisons that speak to it.

    protocols: beginnings of their names; settings: what the grid asked for besides; first: the method claimed to be
    better; rivals: what it is compared with.
    """

    title: str
    text: str
    protocols: tuple[str, ...]
    rivals: tuple[str, ...]
    settings: tuple[str, ...] = ()
    first: str = "refilled"


CLAIMS = (
    Claim(
        "1. Same classes",
        "Between equal label spaces, where class probabilities can be compared, REFILLED is ahead of KD and its "
        "successors.",
        ("distill-same",),
        ("kd", "dkd", "dist", "ce"),
    ),
    Claim(
        "2. Overlapping and different classes",
        "A teacher's comparisons between instances help a student whose classes it shares in part or not at all, more "
        "than features (fitnet, at) or embeddings (rkd) do, and more than no teacher (ce).",
        ("distill-overlap", "distill-cross"),
        ("ce", "fitnet", "rkd", "at"),
    ),
    Claim(
        "2 b. The same with four times the steps",
        "Both stages of REFILLED then have twice what other methods have in the short training.",
        ("distill-overlap40", "distill-cross"),
        ("ce", "rkd", "kd"),
        settings=("training.steps=600",),
    ),
    Claim(
        "3. One step of new classes",
        "A teacher that never saw the new classes still supervises them: REFILLED against KD, which speaks of the old "
        "classes alone, at 0, 5 and 20 exemplars per old class.",
        ("incremental",),
        ("kd", "replay", "lwf", "lucir"),
    ),
    Claim(
        "3 b. The same with weight aligning",
        "Both with the head's new rows scaled to the mean norm of the old ones after training (WA). That is meant for "
        "long trainings, which leave the new rows longer. Here the old rows come from the teacher and stay the longer "
        "ones: aligning stretches the new rows and costs old classes, with these methods (their rows in the "
        "leaderboard with and without it) as with `wa`. So this tells which bears that better, not what a "
        "corrected bias is worth.",
        ("incremental",),
        ("kd",),
        settings=("protocol.rebalance=align",),
    ),
    Claim(
        "3 c. The same with four times the steps",
        "Both stages of REFILLED then have twice what other methods have in the short training.",
        ("incremental-1step-5exemplars",),
        ("kd", "replay"),
        settings=("training.steps=400",),
    ),
    Claim(
        "4. Few-shot",
        "A student distilled by REFILLED on base classes has the better embedding for episodes of novel ones.",
        ("fewshot",),
        ("ce", "kd", "rkd", "fitnet", "protonet"),
    ),
    Claim(
        "4 b. Middle-shot",
        "With a handful of images per novel class, a small network learns more with the teacher's comparisons.",
        ("middleshot",),
        ("ce", "finetune", "rkd", "pkt"),
    ),
    Claim(
        "5. Ablations: what the parts are worth",
        "REFILLED as it stands against itself without the first stage (embedding_share=0), without the second "
        "(embedding_share=1, judged where the embedding is), with tuples cut to the shortest (tuples=truncate), "
        "without the adaptive weights (adaptive=False) and with centres of the batch (centers=batch).",
        ("distill-same", "distill-overlap40", "distill-cross", "fewshot-5way1shot"),
        (
            "refilled (embedding_share=0.0)",
            "refilled (embedding_share=1.0)",
            "refilled (tuples=truncate)",
            "refilled (adaptive=False)",
            "refilled (centers=batch)",
        ),
    ),
)


def verdict(comparison: Comparison) -> str:
    """The plain word: by whether the test tells the two apart, and which way."""
    if not comparison.differs:
        return "not confirmed"
    return "confirmed" if comparison.paired.interval.mean > 0 else "contradicted"


def tuned_for(protocol: str) -> bool:
    """Whether methods were tuned on a protocol, or on the one whose settings it takes."""
    places = protocol, PROTOCOLS.get(protocol).entry.tuned_at
    return any(tuned_settings.read(tuned_settings.folder() / f"{place}.toml") for place in places)


@dataclass(frozen=True)
class Finding:
    """What the records say of a claim: its comparisons, none where nothing is measured with tuned settings.

    standings: a line for each table of methods that the claim's protocols make.
    """

    claim: Claim
    comparisons: Sequence[Comparison]
    standings: Sequence[str] = ()

    @property
    def rivals(self) -> dict[str, list[Comparison]]:
        """The comparisons with each rival."""
        found: dict[str, list[Comparison]] = {}
        for comparison in self.comparisons:
            found.setdefault(comparison.b, []).append(comparison)
        return found


def find(claim: Claim, cells: Sequence[Cell], store: Store) -> Finding:
    """Compare by the records that are there: no method is compared with an untuned rival."""
    mine = [
        cell
        for cell in cells
        if cell.conditions.protocol.startswith(claim.protocols)
        and cell.conditions.preset == label(cell.conditions.protocol, *claim.settings)
        and tuned_for(cell.conditions.protocol)
    ]
    first = {(cell.conditions, seed) for cell in mine if cell.label == claim.first for seed in cell.done}
    paired = {cell.label for cell in mine if any((cell.conditions, seed) in first for seed in cell.done)}
    rivals = [name for name in claim.rivals if name in paired]
    if not rivals:
        return Finding(claim, [])
    return Finding(claim, compare(mine, (claim.first, *rivals), store, first=True)[0], standings(mine, claim.first))


def standings(cells: Iterable[Cell], first: str) -> list[str]:
    """All methods by mean rank over the protocols of a table, without variants; the one that is claimed is in bold."""
    records = [run for cell in cells if cell.label == cell.method for run in cell.done.values()]
    lines = []
    for table in make_tables(records):
        if first in table.ranks and len(table.ranks) > 1:
            told = [f"{name} {rank:.1f}" for name, rank in sorted(table.ranks.items(), key=lambda item: item[1])]
            names = [f"**{each}**" if each.startswith(f"{first} ") else each for each in told]
            lines.append(f"* {table.title}: {', '.join(names)}.")
    return lines


def overall(comparisons: Sequence[Comparison]) -> Comparison:
    """With one rival: over all conditions together where there are several."""
    return next((comparison for comparison in comparisons if comparison.conditions is None), comparisons[0])


def summary(findings: Iterable[Finding]) -> str:
    """A line for each claim and rival."""
    lines = [
        "| claim | REFILLED against | difference | 95 % CI | Holm p | ahead in | verdict |",
        "|---|---|--:|--:|--:|--:|---|",
    ]
    for finding in findings:
        for rival, comparisons in finding.rivals.items():
            whole = overall(comparisons)
            places = [comparison for comparison in comparisons if comparison.conditions is not None]
            ahead = sum(comparison.paired.interval.mean > 0 for comparison in places)
            lines.append(
                f"| {finding.claim.title} | {_rival(rival)} | {_points(whole)} | {_interval(whole)} | "
                f"{_p(whole.adjusted_p)} | {ahead} of {len(places)} | **{verdict(whole)}** |"
            )
    return "\n".join(lines)


def section(finding: Finding) -> str:
    """A claim, and a row for each rival in each set of conditions."""
    heading = f"## {finding.claim.title}\n\n{finding.claim.text}\n\n"
    if not finding.comparisons:
        return heading + "Not measured yet with tuned settings."
    tests = dict.fromkeys(overall(comparisons).test for comparisons in finding.rivals.values())
    lines = [
        f"Over all conditions, as above: {' or '.join(tests)}. In each alone: paired t.",
        "",
        "| where | against | difference | 95 % CI | seeds | Holm p | alone |",
        "|---|---|--:|--:|--:|--:|---|",
    ]
    lines += [_row(c) for c in finding.comparisons if c.conditions is not None]
    if finding.standings:
        lines += ["", "By mean rank, all methods that have every protocol of the claim:", "", *finding.standings]
    return heading + "\n".join(lines)


def _rival(name: str) -> str:
    """A method's name; of a variant of REFILLED what is changed in it."""
    return name.removeprefix("refilled ").strip("()") if name.startswith("refilled (") else name


def _points(comparison: Comparison) -> str:
    return f"{100 * comparison.paired.interval.mean:+.1f}"


def _interval(comparison: Comparison) -> str:
    mean, half = comparison.paired.interval.mean, comparison.paired.interval.half_width
    return "" if half is None else f"{100 * (mean - half):+.1f} to {100 * (mean + half):+.1f}"


def _row(comparison: Comparison) -> str:
    where = comparison.conditions
    assert where is not None
    cells = [
        f"{where.protocol} {where.dataset}", _rival(comparison.b), _points(comparison), _interval(comparison),
        str(len(comparison.differences)), _p(comparison.adjusted_p), verdict(comparison),
    ]  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def _p(value: float | None) -> str:
    if value is None:
        return "none"
    return "< .001" if value < 0.001 else f"{value:.3f}".removeprefix("0")


def teachers(cells: Sequence[Cell], first: str = "refilled") -> str:
    """One teacher for all seeds against a teacher for each: spread of a method, and how far REFILLED is ahead of it.

    In points, over the seeds that both have: standard deviations, and mean differences with their 95 % interval.
    """
    by_place = {(cell.conditions, cell.label): cell for cell in cells if len(cell.done) > 1}
    lines = [
        "| where | method | spread: one teacher | each its own | REFILLED ahead: one teacher | each its own | seeds |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    for (where, name), each in by_place.items():
        home = replace(where, preset=label(where.protocol))
        if where.preset != label(where.protocol, "teacher.seed=run") or (home, name) not in by_place:
            continue
        one = by_place[home, name]
        seeds = sorted(set(each.done) & set(one.done))
        if len(seeds) < 2:
            continue
        spreads, ahead = [], []
        for own, place in ((one, home), (each, where)):
            values = _values(own, seeds)
            spreads.append(f"{values.std(ddof=1):.2f}")
            mine = by_place.get((place, first))
            fits = mine is not None and mine is not own and set(seeds) <= set(mine.done)
            ahead.append(_with_interval(_values(mine, seeds) - values) if mine is not None and fits else "")
        row = f"{where.protocol} {where.dataset}", name, *spreads, *ahead, str(len(seeds))
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines)


def _values(cell: Cell, seeds: Sequence[int]) -> npt.NDArray[np.float64]:
    """In percent."""
    return np.array([100 * float(cell.done[seed]["value"]) for seed in seeds], np.float64)


def _with_interval(differences: npt.NDArray[np.float64]) -> str:
    interval = seed_interval(differences)
    return f"{interval.mean:+.1f} ± {interval.half_width:.1f}"


def account(records: Sequence[Record]) -> str:
    """What was run."""
    seconds = sum(float(record["seconds"]) for record in records)
    seeds = sorted({int(record["seed"]) for record in records})
    machines = sorted({f"{r['environment']['cpu']}, {r['environment']['precision']}" for r in records})
    asked = plan_jobs(read_grid(ROOT / "results/reference.yaml"), ROOT, Silent()).jobs
    made = {record["key"] for record in records}
    return (
        f"{sum(cell.key in made for cell in asked):,} of the grid's {len(asked):,} runs are there, "
        f"seeds {seeds[0]} to {seeds[-1]}, {seconds / 3600:.1f} hours of one core in all "
        f"({'; '.join(machines)}; torch {', '.join(sorted({r['environment']['torch'] for r in records}))})."
    )


def document(records: Sequence[Record], store: Store) -> str:
    """results/README.md."""
    cells = group_by_method(records)
    findings = [find(claim, cells, store) for claim in CLAIMS]
    return "\n\n".join(
        [
            (ROOT / "tools/reference_results.md").read_text().replace("{account}", account(records)).rstrip(),
            "## In short",
            summary(findings),
            *map(section, findings),
            "## What a teacher's seed changes",
            "In points: the standard deviation over seeds, and how far REFILLED is ahead of the method (mean ± 95 % "
            "Student t), all runs with the teacher of seed 0 against each run with the teacher of its own seed.",
            teachers(cells),
        ]
    ) + "\n"  # fmt: skip


def illustrations(name: str) -> list[Illustration]:
    """Draw a figure wherever the records have what it shows, and write it."""
    results = ROOT / "results"
    store = Store(results / "reference")
    shown = []
    for drawing in drawings(name, Evidence(group_by_method(store.read()[0]), store))[0]:
        write(drawing, results / "figures")
        shown.append(Illustration(drawing.name, FIGURES.help(name), to_svg(drawing.figure)))
    return shown


def main() -> None:
    """Write all of it."""
    results = ROOT / "results"
    store = Store(results / "reference")
    records, damaged = store.read()
    if damaged:
        raise SystemExit("; ".join(map(str, damaged)))
    tables: list[Table] = make_tables(records)
    texts = {
        "results/leaderboard.csv": to_csv(leaderboard(records)),
        "results/tables/leaderboard.md": to_markdown(tables),
        "results/tables/leaderboard.tex": to_latex(tables),
        "results/README.md": document(records, store),
    }
    for name, text in texts.items():
        write_atomically(ROOT / name, text.encode())
    shutil.rmtree(results / "figures", ignore_errors=True)
    with ProcessPoolExecutor() as pool:
        shown = [each for some in pool.map(illustrations, FIGURES.names()) for each in some]
    write_atomically(results / "report.html", make_page(records, shown, []).encode())


if __name__ == "__main__":
    main()
