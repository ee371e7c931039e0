"""Everything under results/ that is made from the committed records: ``python tools/reference_results.py``.

Run it after the grid (results/reference.yaml). It writes the leaderboard, the tables, results/README.md with a verdict
on each claim, and the figure that the documentation shows. With ``--all``, as in ``tox -e results``, it also draws all
figures and makes the HTML page, into results/built. README and documentation quote some of this:
``python tools/refresh_docs.py``.
"""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from benchmark.records.schema import Record
from benchmark.records.store import Store
from benchmark.report.aggregation import MethodResult, group_by_method
from benchmark.report.compare import Comparison, compare
from benchmark.report.csv import to_csv
from benchmark.report.figures import FIGURES, ResultSet, drawings, to_png, to_svg, write
from benchmark.report.leaderboard import leaderboard
from benchmark.report.page import Illustration, make_page
from benchmark.report.tables import Table, make_tables, to_latex, to_markdown
from benchmark.statistics import seed_interval
from benchmark.system.files import write_atomically
from protocols import PROTOCOLS, tuned_settings

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "results"
BUILT = RESULTS / "built"
"""The folder for what is not committed."""

SHOWN = {"overlap": "overlap-glyphs"}
"""The committed drawings by figure: README and documentation show them."""

SHORTENED = {"fewshot": ("protocol.episodes=2000",), "middleshot": ("protocol.tasks=40",)}
"""What the grid judges by less than the preset, by the beginning of the protocol's name."""


def label(protocol: str, *settings: str) -> str:
    """The preset's label in the grid's records where it asks for these settings."""
    short = next((given for name, given in SHORTENED.items() if protocol.startswith(name)), ())
    return "+".join(["quick", *sorted([*short, *settings])])


@dataclass(frozen=True)
class Claim:
    """A claim of the papers, and the comparisons that test it.

    Args:
        title: heading of its section.
        text: the claim in words.
        protocols: beginnings of the names of its protocols.
        rivals: the methods that ``first`` is compared with.
        settings: settings of the grid beside the preset.
        first: the method claimed to be better.
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
        "If teacher and student have the same classes, so that class probabilities can be compared, REFILLED is ahead "
        "of KD and its successors.",
        ("distill-same",),
        ("kd", "dkd", "dist", "ce"),
    ),
    Claim(
        "2. Overlapping and different classes",
        "A student that shares some or none of its teacher's classes learns more from the teacher's comparisons of "
        "images than from features (fitnet, at), embeddings (rkd) or no teacher (ce).",
        ("distill-overlap", "distill-cross"),
        ("ce", "fitnet", "rkd", "at"),
    ),
    Claim(
        "2 b. The same with four times the steps",
        "Each of REFILLED's two stages then has twice the steps of the whole short training.",
        ("distill-overlap40", "distill-cross"),
        ("ce", "rkd", "kd"),
        settings=("training.steps=600",),
    ),
    Claim(
        "3. One step of new classes",
        "A teacher that never saw the new classes still supervises them. REFILLED is compared with KD, which uses the "
        "old classes only, at 0, 5 and 20 exemplars per old class.",
        ("incremental",),
        ("kd", "replay", "lwf", "lucir"),
    ),
    Claim(
        "3 b. The same with weight aligning",
        "After training, both methods scale the head's new rows to the mean norm of the old rows (WA). WA is meant for "
        "long trainings, which leave the new rows longer. Here the old rows come from the teacher and are the longer "
        "ones. Aligning therefore stretches the new rows and costs accuracy on old classes, for these methods (see the "
        "leaderboard with and without it) and for `wa`. This claim shows which method loses less by it, not what a "
        "corrected bias is worth.",
        ("incremental",),
        ("kd",),
        settings=("protocol.rebalance=align",),
    ),
    Claim(
        "3 c. The same with four times the steps",
        "Each of REFILLED's two stages then has twice the steps of the whole short training.",
        ("incremental-1step-5exemplars",),
        ("kd", "replay"),
        settings=("training.steps=400",),
    ),
    Claim(
        "4. Few-shot",
        "A student distilled by REFILLED on base classes has the better embedding for episodes of novel classes.",
        ("fewshot",),
        ("ce", "kd", "rkd", "fitnet", "maml", "anil", "protonet"),
    ),
    Claim(
        "4 b. Middle-shot",
        "From a few images per novel class, a small network learns more with the teacher's comparisons.",
        ("middleshot",),
        ("ce", "finetune", "rkd", "pkt"),
    ),
)


def verdict(comparison: Comparison) -> str:
    """Confirmed, contradicted or not confirmed: by the test and the sign of the difference."""
    if not comparison.differs:
        return "not confirmed"
    return "confirmed" if comparison.paired.interval.mean > 0 else "contradicted"


def tuned_for(protocol: str) -> bool:
    """Whether methods were tuned on a protocol, or on the one whose settings it takes."""
    places = protocol, PROTOCOLS.get(protocol).entry.tuned_at
    return any(tuned_settings.read(tuned_settings.folder() / f"{place}.toml") for place in places)


@dataclass(frozen=True)
class Finding:
    """The result of testing a claim.

    Args:
        claim: the claim.
        comparisons: all comparisons; empty if nothing is measured with tuned settings.
        standings: a line for each table of methods over the protocols of the claim.
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


def find(claim: Claim, results: Sequence[MethodResult], store: Store) -> Finding:
    """Test a claim by the records. Protocols without tuned settings are left out."""
    mine = [
        result
        for result in results
        if result.conditions.protocol.startswith(claim.protocols)
        and result.conditions.preset == label(result.conditions.protocol, *claim.settings)
        and tuned_for(result.conditions.protocol)
    ]
    first = {(result.conditions, seed) for result in mine if result.label == claim.first for seed in result.done}
    paired = {result.label for result in mine if any((result.conditions, seed) in first for seed in result.done)}
    rivals = [name for name in claim.rivals if name in paired]
    if not rivals:
        return Finding(claim, [])
    return Finding(claim, compare(mine, (claim.first, *rivals), store, first=True)[0], standings(mine, claim.first))


def standings(results: Iterable[MethodResult], first: str) -> list[str]:
    """All methods by mean rank over the protocols of a table, without variants; the one that is claimed is in bold."""
    records = [run for result in results if result.label == result.method for run in result.done.values()]
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
    lines = [
        "Test: paired t over seeds. Over all conditions, a seed's difference is its mean over them.",
        "",
        "| where | against | difference | 95 % CI | seeds | Holm p | alone |",
        "|---|---|--:|--:|--:|--:|---|",
    ]
    lines += [_row(c) for c in finding.comparisons if c.conditions is not None]
    if finding.standings:
        lines += ["", "All methods that have every protocol of the claim, by mean rank:", "", *finding.standings]
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
    results = [
        f"{where.protocol} {where.dataset}", _rival(comparison.b), _points(comparison), _interval(comparison),
        str(len(comparison.differences)), _p(comparison.adjusted_p), verdict(comparison),
    ]  # fmt: skip
    return "| " + " | ".join(results) + " |"


def _p(value: float | None) -> str:
    if value is None:
        return "none"
    return "< .001" if value < 0.001 else f"{value:.3f}".removeprefix("0")


def teachers(results: Sequence[MethodResult], first: str = "refilled") -> str:
    """One teacher for all seeds against a teacher for each: spread of a method, and how far REFILLED is ahead of it.

    In points, over the seeds that both have: standard deviations, and mean differences with their 95 % interval.
    """
    by_place = {(result.conditions, result.label): result for result in results if len(result.done) > 1}
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


def heads(results: Sequence[MethodResult]) -> str:
    """Accuracy of the methods that learn from episodes, by their own head and by the common one, in percent."""
    lines = ["| where | method | own head | common head | seeds |", "|---|---|--:|--:|--:|"]
    for result in results:
        runs = [run for run in result.done.values() if "common_head" in run["references"]]
        if runs and result.conditions.preset == label(result.conditions.protocol):
            own = np.array([100 * run["value"] for run in runs])
            common = np.array([100 * run["references"]["common_head"]["value"] for run in runs])
            where = f"{result.conditions.protocol} {result.conditions.dataset}"
            cells = where, result.label, _with_interval(own, ""), _with_interval(common, ""), str(len(runs))
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _values(result: MethodResult, seeds: Sequence[int]) -> npt.NDArray[np.float64]:
    """In percent."""
    return np.array([100 * float(result.done[seed]["value"]) for seed in seeds], np.float64)


def _with_interval(values: npt.NDArray[np.float64], sign: str = "+") -> str:
    interval = seed_interval(values)
    half = "" if interval.half_width is None else f" ± {interval.half_width:.1f}"
    return f"{interval.mean:{sign}.1f}{half}"


def account(records: Sequence[Record]) -> str:
    """What was run."""
    seconds = sum(float(record["seconds"]) for record in records)
    seeds = sorted({int(record["seed"]) for record in records})
    machines = sorted({f"{r['environment']['cpu']}, {r['environment']['precision']}" for r in records})
    versions = sorted({record["config"]["versions"]["training"] for record in records})
    return (
        f"{len(records):,} runs of training version {', '.join(map(str, versions))} are recorded: "
        f"seeds {seeds[0]} to {seeds[-1]}, {seconds / 3600:.1f} core-hours "
        f"({'; '.join(machines)}; torch {', '.join(sorted({r['environment']['torch'] for r in records}))})."
    )


def document(records: Sequence[Record], findings: Sequence[Finding]) -> str:
    """results/README.md."""
    results = group_by_method(records)
    own_heads = [
        "## What the head changes",
        "Methods that learn from episodes are judged by their own head. Beside it stands the head of all other "
        "methods, the nearest centroid of normalised embeddings (mean ± 95 % Student t over seeds, in percent).",
        heads(results),
    ]
    return "\n\n".join(
        [
            (ROOT / "tools/reference_results.md").read_text().replace("{account}", account(records)).rstrip(),
            "## In short",
            summary(findings),
            "## What a teacher's seed changes",
            "All runs with the teacher of seed 0 are compared with runs that each have the teacher of their own seed. "
            "Numbers are points: the standard deviation over seeds, and how far REFILLED is ahead of the method (mean "
            "± 95 % Student t).",
            teachers(results),
            *(own_heads if any("common_head" in record["references"] for record in records) else []),
        ]
    ) + "\n"  # fmt: skip


def claims_document(findings: Iterable[Finding]) -> str:
    """results/tables/claims.md."""
    return "\n\n".join(["# Claim by claim", *map(section, findings)]) + "\n"


def texts(records: Sequence[Record], store: Store) -> dict[str, str]:
    """The committed texts by their path under results/."""
    tables: list[Table] = make_tables(records)
    findings = [find(claim, group_by_method(records), store) for claim in CLAIMS]
    return {
        "leaderboard.csv": to_csv(leaderboard(records)),
        "tables/leaderboard.md": to_markdown(tables),
        "tables/claims.md": claims_document(findings),
        "README.md": document(records, findings),
    }


def draw_shown(result_set: ResultSet) -> None:
    """Draw the figures that the documentation shows, as PNG of a screen's resolution."""
    (RESULTS / "figures").mkdir(exist_ok=True)
    for figure, name in SHOWN.items():
        (made,) = (each for each in drawings(figure, result_set)[0] if each.name == name)
        write_atomically(RESULTS / f"figures/{name}.png", with_palette(to_png(made.figure, dpi=150)))


def with_palette(png: bytes) -> bytes:
    """The same picture in 256 colours: a quarter of the size. Maximum coverage keeps the colour of every method."""
    content = io.BytesIO()
    picture = Image.open(io.BytesIO(png)).convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE)
    picture.save(content, "png", optimize=True)
    return content.getvalue()


def illustrations(name: str) -> list[Illustration]:
    """Write all drawings of a figure into results/built, and return them for the page."""
    store = Store(RESULTS / "reference")
    shown = []
    for drawing in drawings(name, ResultSet(group_by_method(store.read()[0]), store))[0]:
        write(drawing, BUILT / "figures")
        shown.append(Illustration(drawing.name, FIGURES.help(name), to_svg(drawing.figure)))
    return shown


def build(records: Sequence[Record]) -> None:
    """Draw all figures, make the LaTeX tables and the HTML page, into results/built."""
    shutil.rmtree(BUILT, ignore_errors=True)
    BUILT.mkdir()
    with ProcessPoolExecutor() as pool:
        shown = [each for some in pool.map(illustrations, FIGURES.names()) for each in some]
    write_atomically(BUILT / "leaderboard.tex", to_latex(make_tables(records)).encode())
    write_atomically(BUILT / "report.html", make_page(records, shown, []).encode())


def main() -> None:
    """Write the committed files and, with ``--all``, build everything else."""
    store = Store(RESULTS / "reference")
    records, damaged = store.read()
    if damaged:
        raise SystemExit("; ".join(map(str, damaged)))
    for name, text in texts(records, store).items():
        write_atomically(RESULTS / name, text.encode())
    draw_shown(ResultSet(group_by_method(records), store))
    if "--all" in sys.argv[1:]:
        build(records)


if __name__ == "__main__":
    main()
