"""What a figure is made of, and how it is written to files."""

from __future__ import annotations

import dataclasses
import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure as Canvas

from benchmark.errors import InputError
from benchmark.hashing import content_key
from benchmark.records.run_label import parse_label
from benchmark.records.store import Store
from benchmark.registry import Registry
from benchmark.report.aggregation import Conditions, MethodResult
from benchmark.report.figures import style
from benchmark.spec import Student, Teacher
from benchmark.statistics import Interval
from benchmark.system.files import write_atomically
from protocols import PROTOCOLS


class NothingToDraw(InputError):
    """No record fits a figure; the message says what is lacking."""


@dataclass(frozen=True)
class FigureGroup:
    """The methods of one figure: measured under equal conditions, each with a finished run.

    ``conditions.protocol`` is what the figure calls the family of protocols it puts together. Beside students of the
    conditions' backbone stand those that are, or start as, the teacher itself and so have its size: marked by a dagger.
    """

    conditions: Conditions
    results: tuple[MethodResult, ...]

    def label(self, result: MethodResult) -> str:
        """The result's label, with a dagger where its backbone is not the group's."""
        return result.label + ("" if result.conditions.backbone == self.conditions.backbone else "†")

    def only(self, results: Iterable[MethodResult]) -> FigureGroup:
        """The group with these of its results alone."""
        return dataclasses.replace(self, results=tuple(results))

    def ranked(self, reference: str | None = None) -> list[MethodResult]:
        """The results from the largest mean to the smallest, of the value or of a reference."""
        return sorted(self.results, key=lambda result: (-result.interval(reference).mean, self.label(result)))

    @property
    def title(self) -> str:
        """Protocol, where it is one, data set, networks and settings, in a line."""
        where = self.conditions
        protocols = {result.conditions.protocol for result in self.results}
        words = [*protocols] if len(protocols) == 1 else []
        return ", ".join([*words, where.dataset, f"{where.backbone} from {where.teacher}", where.preset])

    @property
    def footnote(self) -> str:
        """What a dagger means; empty where there is none."""
        if all(result.conditions.backbone == self.conditions.backbone for result in self.results):
            return ""
        return f"† is or starts as the teacher ({self.conditions.teacher})"

    def name(self, figure: str) -> str:
        """A name for files, the figure's first: protocol, data set, then preset and networks where not the usual."""
        where = self.conditions
        parts = [figure, where.protocol.removeprefix(figure).strip("-"), where.dataset]
        if where.preset != "quick":
            parts.append(where.preset)
        if (where.backbone, where.teacher) != self._usual_networks():
            parts.append(f"{where.backbone}-from-{where.teacher}")
        return file_name("-".join(part for part in parts if part))

    def _usual_networks(self) -> tuple[str, str] | None:
        """Student and teacher of the preset; None where the protocol is of a plug-in that is not installed."""
        protocol = self.results[0].conditions.protocol
        try:
            presets = PROTOCOLS.get(protocol).entry.presets
        except InputError:
            return None
        preset = presets.get(parse_label(self.conditions.preset)[0], {})
        student, teacher = (preset.get(section, {}) for section in ("student", "teacher"))
        return student.get("backbone", Student.backbone), teacher.get("backbone", Teacher.backbone)


def percent(interval: Interval) -> Interval:
    """An interval in [0, 1] as percent."""
    half = None if interval.half_width is None else 100 * interval.half_width
    return dataclasses.replace(interval, mean=100 * interval.mean, half_width=half)


def is_variant(result: MethodResult) -> bool:
    """Whether the method has settings of its own that are not the preset's; such a result's marker is hollow."""
    return result.label != result.method


def seed_bars(results: Iterable[MethodResult]) -> str:
    """What the bars of these results cover; empty where all have one seed and none has a bar."""
    return "bars: 95 % Student t over seeds" if any(len(result.done) > 1 for result in results) else ""


def reference_of(results: Iterable[MethodResult], reference: str) -> MethodResult | None:
    """Of the results with such a reference beside them the one with the most seeds; None where none has it."""
    having = [result for result in results if all(reference in run["references"] for run in result.done.values())]
    return max(having, key=lambda result: len(result.done), default=None)


def identity(result: MethodResult) -> dict[str, str]:
    """Which result it is, in columns of the leaderboard."""
    where = result.conditions
    return {
        "protocol": where.protocol, "dataset": where.dataset, "preset": result.preset, "teacher": where.teacher,
        "backbone": where.backbone, "method": result.method,
    }  # fmt: skip


@dataclass(frozen=True)
class ResultSet:
    """What figures are made from: results of records, and the store that holds their arrays."""

    results: list[MethodResult]
    store: Store

    def groups(self, family: Callable[[str], str | None] = lambda protocol: protocol) -> list[FigureGroup]:
        """The results of measured and finished runs by family and equal conditions, in their order.

        family: from a protocol's name to what its results are put together under, None for protocols of no interest.
        """
        found: dict[Conditions, list[MethodResult]] = defaultdict(list)
        for result in self.results:
            name = family(result.conditions.protocol)
            if name is not None and result.done and result.conditions.provenance == "measured":
                found[dataclasses.replace(result.conditions, protocol=name)].append(result)
        groups, merged = [], set()
        for conditions, own in found.items():
            teacher_conditions = dataclasses.replace(conditions, backbone=conditions.teacher)
            of_teacher = found.get(teacher_conditions, []) if teacher_conditions != conditions else []
            frozen_teachers = [result for result in of_teacher if _is_teacher(result)]
            if frozen_teachers:
                merged.add(teacher_conditions)
            groups.append(FigureGroup(conditions, (*own, *frozen_teachers)))
        return [g for g in groups if g.conditions not in merged or not all(map(_is_teacher, g.results))]


def _is_teacher(result: MethodResult) -> bool:
    """Whether the student is the teacher's network, or starts as that."""
    facts = [run["student_facts"] for run in result.done.values()]
    return result.conditions.backbone == result.conditions.teacher and all(f["start"] == "teacher" for f in facts)


@dataclass(frozen=True)
class RenderedFigure:
    """One picture, the name of its files, and what it shows, as a table: accuracies in [0, 1], unlike on its axes."""

    name: str
    figure: Canvas
    data: pd.DataFrame


Figure = Callable[[ResultSet], list[RenderedFigure]]
"""A registered figure. The first line of its docstring says what it shows; ``NothingToDraw`` where no record fits."""


FIGURES: Registry[Figure] = Registry("figure", package="benchmark.report.figures", group="benchmark.figures")


def drawings(name: str, result_set: ResultSet) -> tuple[list[RenderedFigure], str | None]:
    """The drawings of a figure; where there is nothing to draw, none and the reason."""
    figure = FIGURES.get(name).entry
    try:
        with style.styled():
            return figure(result_set), None
    except NothingToDraw as reason:
        return [], str(reason)


def draw(names: Iterable[str], result_set: ResultSet, out: Path) -> tuple[list[Path], dict[str, str]]:
    """Write every drawing of these figures into the folder ``out``: as PDF, as PNG, and its data as CSV.

    Returns the files written and, by name, why nothing was drawn of other figures. The same results gives the same
    bytes.
    """
    written: list[Path] = []
    skipped: dict[str, str] = {}
    for name in names:
        made, reason = drawings(name, result_set)
        if reason is not None:
            skipped[name] = reason
        for drawing in made:
            written += write(drawing, out)
    return written, skipped


def write(drawing: RenderedFigure, out: Path) -> list[Path]:
    """Write a drawing into the folder ``out``: as PDF, as PNG, and its data as CSV. The files written."""
    contents = {
        "pdf": style.to_pdf(drawing.figure),
        "png": style.to_png(drawing.figure),
        "csv": drawing.data.to_csv(index=False, float_format="%.8g", lineterminator="\n").encode(),
    }
    try:
        out.mkdir(parents=True, exist_ok=True)
        for kind, content in contents.items():
            write_atomically(out / f"{drawing.name}.{kind}", content)
    except OSError as error:
        raise InputError(f"cannot write figures to {out} ({error.strerror or error}); use --out DIR") from None
    return [out / f"{drawing.name}.{kind}" for kind in contents]


_LONGEST = 100


def file_name(text: str) -> str:
    """Text as a file's name: the same where it can be, else shortened and made distinct by a hash."""
    safe = re.sub(r"[^A-Za-z0-9._+=,-]", "-", text)[:_LONGEST]
    return safe if safe == text else f"{safe}-{content_key(text)[:8]}"
