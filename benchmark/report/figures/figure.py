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
from benchmark.report.aggregation import Cell, Conditions
from benchmark.report.figures import style
from benchmark.spec import Student, Teacher
from benchmark.statistics import Interval
from benchmark.system.files import write_atomically
from protocols import PROTOCOLS


class NothingToDraw(InputError):
    """No record fits a figure; the message says what is lacking."""


@dataclass(frozen=True)
class Group:
    """The methods of one figure: measured under equal conditions, each with a finished run.

    ``conditions.protocol`` is what the figure calls the family of protocols it puts together. Beside students of the
    conditions' backbone stand those that are, or start as, the teacher itself and so have its size: marked by a dagger.
    """

    conditions: Conditions
    cells: tuple[Cell, ...]

    def label(self, cell: Cell) -> str:
        """The cell's label, with a dagger where its backbone is not the group's."""
        return cell.label + ("" if cell.conditions.backbone == self.conditions.backbone else "†")

    def only(self, cells: Iterable[Cell]) -> Group:
        """The group with these of its cells alone."""
        return dataclasses.replace(self, cells=tuple(cells))

    def ranked(self, reference: str | None = None) -> list[Cell]:
        """The cells from the largest mean to the smallest, of the value or of a reference."""
        return sorted(self.cells, key=lambda cell: (-cell.interval(reference).mean, self.label(cell)))

    @property
    def title(self) -> str:
        """Protocol, where it is one, data set, networks and settings, in a line."""
        where = self.conditions
        protocols = {cell.conditions.protocol for cell in self.cells}
        words = [*protocols] if len(protocols) == 1 else []
        return ", ".join([*words, where.dataset, f"{where.backbone} from {where.teacher}", where.preset])

    @property
    def footnote(self) -> str:
        """What a dagger means; empty where there is none."""
        if all(cell.conditions.backbone == self.conditions.backbone for cell in self.cells):
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
        protocol = self.cells[0].conditions.protocol
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


def is_variant(cell: Cell) -> bool:
    """Whether the method has settings of its own that are not the preset's; such a cell's marker is hollow."""
    return cell.label != cell.method


def seed_bars(cells: Iterable[Cell]) -> str:
    """What the bars of these cells cover; empty where all have one seed and none has a bar."""
    return "bars: 95 % Student t over seeds" if any(len(cell.done) > 1 for cell in cells) else ""


def beside(cells: Iterable[Cell], reference: str) -> Cell | None:
    """Of the cells with such a reference beside them the one with the most seeds; None where none has it."""
    having = [cell for cell in cells if all(reference in run["references"] for run in cell.done.values())]
    return max(having, key=lambda cell: len(cell.done), default=None)


def identity(cell: Cell) -> dict[str, str]:
    """Which cell it is, in columns of the leaderboard."""
    where = cell.conditions
    return {
        "protocol": where.protocol, "dataset": where.dataset, "preset": cell.preset, "teacher": where.teacher,
        "backbone": where.backbone, "method": cell.method,
    }  # fmt: skip


@dataclass(frozen=True)
class Evidence:
    """What figures are made from: cells of records, and the store that holds their arrays."""

    cells: list[Cell]
    store: Store

    def groups(self, family: Callable[[str], str | None] = lambda protocol: protocol) -> list[Group]:
        """The cells of measured and finished runs by family and equal conditions, in their order.

        family: from a protocol's name to what its cells are put together under, None for protocols of no interest.
        """
        found: dict[Conditions, list[Cell]] = defaultdict(list)
        for cell in self.cells:
            name = family(cell.conditions.protocol)
            if name is not None and cell.done and cell.conditions.provenance == "measured":
                found[dataclasses.replace(cell.conditions, protocol=name)].append(cell)
        groups, seated = [], set()
        for conditions, own in found.items():
            home = dataclasses.replace(conditions, backbone=conditions.teacher)
            guests = [cell for cell in found.get(home, []) if _is_teacher(cell)] if home != conditions else []
            if guests:
                seated.add(home)
            groups.append(Group(conditions, (*own, *guests)))
        return [g for g in groups if g.conditions not in seated or not all(map(_is_teacher, g.cells))]


def _is_teacher(cell: Cell) -> bool:
    """Whether the student is the teacher's network, or starts as that."""
    facts = [run["student_facts"] for run in cell.done.values()]
    return cell.conditions.backbone == cell.conditions.teacher and all(f["start"] == "teacher" for f in facts)


@dataclass(frozen=True)
class Drawing:
    """One picture, the name of its files, and what it shows, as a table: accuracies in [0, 1], unlike on its axes."""

    name: str
    figure: Canvas
    data: pd.DataFrame


Figure = Callable[[Evidence], list[Drawing]]
"""A registered figure. The first line of its docstring says what it shows; ``NothingToDraw`` where no record fits."""


FIGURES: Registry[Figure] = Registry("figure", package="benchmark.report.figures", group="benchmark.figures")


def drawings(name: str, evidence: Evidence) -> tuple[list[Drawing], str | None]:
    """The drawings of a figure; where there is nothing to draw, none and the reason."""
    figure = FIGURES.get(name).entry
    try:
        with style.styled():
            return figure(evidence), None
    except NothingToDraw as reason:
        return [], str(reason)


def draw(names: Iterable[str], evidence: Evidence, out: Path) -> tuple[list[Path], dict[str, str]]:
    """Write every drawing of these figures into the folder ``out``: as PDF, as PNG, and its data as CSV.

    Returns the files written and, by name, why nothing was drawn of other figures. The same evidence gives the same
    bytes.
    """
    written: list[Path] = []
    skipped: dict[str, str] = {}
    for name in names:
        made, reason = drawings(name, evidence)
        if reason is not None:
            skipped[name] = reason
        for drawing in made:
            written += write(drawing, out)
    return written, skipped


def write(drawing: Drawing, out: Path) -> list[Path]:
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
