"""The input of figures, the registry of figures, and their files."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure as Canvas

from benchmark.errors import InputError
from benchmark.records.run_label import parse_label
from benchmark.records.store import DamagedArrays, Store
from benchmark.registry import Registry
from benchmark.report.aggregation import Conditions, MethodResult
from benchmark.report.csv import to_csv
from benchmark.report.figures import style
from benchmark.spec import Student, Teacher
from benchmark.statistics import Interval
from benchmark.system.files import file_name, write_atomically
from protocols import PROTOCOLS


class NothingToDraw(InputError):
    """No record fits a figure; the message names the missing runs."""


@dataclass(frozen=True)
class FigureGroup:
    """The methods of one figure, measured under equal conditions, each with a finished run."""

    conditions: Conditions
    """``protocol`` is the figure's name for the protocols that it combines."""
    results: tuple[MethodResult, ...]
    """Students with the backbone of ``conditions``, and students that are or start as the teacher (marked by †)."""

    def label(self, result: MethodResult) -> str:
        """Return the result's label, with a dagger if its backbone differs from that of the group."""
        return style.drawable(result.label) + ("" if result.conditions.backbone == self.conditions.backbone else "†")

    def only(self, results: Iterable[MethodResult]) -> FigureGroup:
        """Return the group with a subset of its results."""
        return dataclasses.replace(self, results=tuple(results))

    def ranked(self, reference: str | None = None) -> list[MethodResult]:
        """Return the results by descending mean of the value or of a reference."""
        return sorted(self.results, key=lambda result: (-result.interval(reference).mean, self.label(result)))

    @property
    def title(self) -> str:
        """Protocol (if all results have the same), data set, networks and settings in one line."""
        shared = self.conditions
        protocols = {result.conditions.protocol for result in self.results}
        words = [*protocols] if len(protocols) == 1 else []
        return style.drawable(", ".join([*words, shared.dataset, shared.networks, shared.preset]))

    @property
    def footnote(self) -> str:
        """The meaning of the dagger; empty if no result has one."""
        if all(result.conditions.backbone == self.conditions.backbone for result in self.results):
            return ""
        return f"† is or starts as the teacher ({style.drawable(self.conditions.teacher)})"

    def name(self, figure: str) -> str:
        """Return a file name: figure, protocol, data set, and preset and networks unless they are the default."""
        shared = self.conditions
        parts = [figure, shared.protocol.removeprefix(figure).strip("-"), shared.dataset]
        if shared.preset != "quick":
            parts.append(shared.preset)
        if (shared.backbone, shared.teacher) != self._preset_networks():
            parts.append(shared.networks.replace(" ", "-"))
        return file_name("-".join(part for part in parts if part))

    def _preset_networks(self) -> tuple[str, str] | None:
        """Return student and teacher of the preset; None if the protocol belongs to a plug-in that is not installed."""
        protocol = self.results[0].conditions.protocol
        try:
            presets = PROTOCOLS.get(protocol).entry.presets
        except InputError:
            return None
        preset = presets.get(parse_label(self.conditions.preset)[0], {})
        student, teacher = (preset.get(section, {}) for section in ("student", "teacher"))
        return student.get("backbone", Student.backbone), teacher.get("backbone", Teacher.backbone)


def percent(interval: Interval) -> Interval:
    """Convert an interval in [0, 1] to percent."""
    half = None if interval.half_width is None else 100 * interval.half_width
    return dataclasses.replace(interval, mean=100 * interval.mean, half_width=half)


def is_variant(result: MethodResult) -> bool:
    """Return whether method settings differ from the preset. The marker of such a result is hollow."""
    return result.label != result.method


def seed_bars(results: Iterable[MethodResult]) -> str:
    """Return the footnote on bars; empty if all results have one seed and therefore no bar."""
    return "bars: 95 % Student t over seeds" if any(len(result.done) > 1 for result in results) else ""


def reference_of(results: Iterable[MethodResult], reference: str) -> MethodResult | None:
    """Return the result with the most seeds among those that have a reference; None if no result has it."""
    candidates = [result for result in results if all(reference in run["references"] for run in result.done.values())]
    return max(candidates, key=lambda result: len(result.done), default=None)


def identity(result: MethodResult) -> dict[str, str]:
    """Return the columns of the leaderboard that identify a result."""
    conditions = result.conditions
    return {
        "protocol": conditions.protocol, "dataset": conditions.dataset, "preset": result.preset,
        "teacher": conditions.teacher, "backbone": conditions.backbone, "method": result.method,
    }  # fmt: skip


@dataclass(frozen=True)
class ResultSet:
    """The input of figures."""

    results: list[MethodResult]
    store: Store
    """The store with the arrays of the results' records."""

    def groups(self, family: Callable[[str], str | None] = lambda protocol: protocol) -> list[FigureGroup]:
        """Group the results of measured and finished runs by family of protocols and equal conditions.

        A result whose student is the teacher also joins the groups of smaller students with that teacher. A group that
        then holds nothing else is dropped.

        Args:
            family: Returns the name of a protocol's family, or None for protocols to leave out.
        """
        by_conditions: dict[Conditions, list[MethodResult]] = defaultdict(list)
        for result in self.results:
            name = family(result.conditions.protocol)
            if name is not None and result.done and result.conditions.provenance == "measured":
                by_conditions[dataclasses.replace(result.conditions, protocol=name)].append(result)
        groups, merged = [], set()
        for conditions, results in by_conditions.items():
            teacher_conditions = dataclasses.replace(conditions, backbone=conditions.teacher)
            teacher_sized = by_conditions.get(teacher_conditions, []) if teacher_conditions != conditions else []
            frozen_teachers = [result for result in teacher_sized if _is_teacher(result)]
            if frozen_teachers:
                merged.add(teacher_conditions)
            groups.append(FigureGroup(conditions, (*results, *frozen_teachers)))
        return [g for g in groups if g.conditions not in merged or not all(map(_is_teacher, g.results))]


def _is_teacher(result: MethodResult) -> bool:
    """Return whether the student is the teacher's network or starts from it."""
    facts = [run["student_facts"] for run in result.done.values()]
    return result.conditions.backbone == result.conditions.teacher and all(f["start"] == "teacher" for f in facts)


@dataclass(frozen=True)
class RenderedFigure:
    """A drawn figure with its data."""

    name: str
    """Name of its files, without ending."""
    figure: Canvas
    data: pd.DataFrame
    """The data drawn; accuracies are in [0, 1], while the axes show percent."""


Figure = Callable[[ResultSet], list[RenderedFigure]]
"""A registered figure, described by the first line of its docstring. Raises ``NothingToDraw`` if no record fits."""


FIGURES: Registry[Figure] = Registry("figure", package="benchmark.report.figures", group="benchmark.figures")


def drawings(name: str, result_set: ResultSet) -> tuple[list[RenderedFigure], NothingToDraw | DamagedArrays | None]:
    """Return the drawings of a figure and None, or an empty list and the reason."""
    figure = FIGURES.get(name).entry
    try:
        with style.styled():
            return figure(result_set), None
    except (NothingToDraw, DamagedArrays) as reason:
        return [], reason


def draw(
    names: Iterable[str], result_set: ResultSet, out: Path
) -> tuple[list[Path], dict[str, NothingToDraw | DamagedArrays]]:
    """Write all drawings of the named figures to a folder. Equal results give equal bytes.

    Returns:
        The written files, and the reason by name of each figure without drawings.
    """
    written: list[Path] = []
    skipped: dict[str, NothingToDraw | DamagedArrays] = {}
    for name in names:
        rendered, reason = drawings(name, result_set)
        if reason is not None:
            skipped[name] = reason
        for drawing in rendered:
            written += write(drawing, out)
    return written, skipped


def write(drawing: RenderedFigure, out: Path) -> list[Path]:
    """Write a drawing as PDF and PNG and its data as CSV to a folder; return the written files."""
    contents = {
        "pdf": style.to_pdf(drawing.figure),
        "png": style.to_png(drawing.figure),
        "csv": to_csv(drawing.data, "%.8g").encode(),
    }
    try:
        out.mkdir(parents=True, exist_ok=True)
        for kind, content in contents.items():
            write_atomically(out / f"{drawing.name}.{kind}", content)
    except OSError as error:
        raise InputError(f"cannot write figures to {out} ({error.strerror or error}); use --out DIR") from None
    return [out / f"{drawing.name}.{kind}" for kind in contents]
