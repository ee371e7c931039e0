"""The cells of a grid, one run each, and what the folder of records says of them."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from benchmark.data import ImageSet
from benchmark.errors import DoesNotApply, InputError
from benchmark.experiment.planning import Plan, make_plan
from benchmark.experiment.request import Request
from benchmark.hashing import content_key
from benchmark.records.run_label import parse_label
from benchmark.records.store import Record, Store
from benchmark.sweep.grid import GridBlock, Resources
from benchmark.system.progress import Progress

State = Literal["done", "running", "failed", "missing"]
STATES: tuple[State, ...] = ("done", "running", "failed", "missing")


@dataclass(frozen=True)
class Cell:
    """One run of a sweep. dataset, preset: as its record has them; teacher: what identifies the teacher it needs."""

    request: Request
    seed: int
    key: str
    dataset: str
    preset: str
    teacher: str
    resources: Resources

    def __str__(self) -> str:
        return f"{self.request.protocol} {self.request.dataset} {self.request.method} s{self.seed}"


@dataclass(frozen=True)
class Excluded:
    """What a grid asks for and does not apply, for so many seeds."""

    request: Request
    seeds: int
    reason: str


@dataclass(frozen=True)
class Cells:
    """The cells of a grid, each once, in an order that lets teachers be trained side by side."""

    cells: tuple[Cell, ...]
    excluded: tuple[Excluded, ...]


def plan_cells(blocks: Iterable[GridBlock], data_root: Path, progress: Progress) -> Cells:
    """Every run that the blocks ask for and that applies, and what does not, with the reason.

    A name that is not known or a value out of bounds raises ``InputError``. A run that two blocks ask for is one cell.
    """
    opened: dict[str, ImageSet] = {}
    teachers: dict[str, str] = {}
    found: dict[str, Cell] = {}
    excluded = []
    for block in blocks:
        for request in block.requests():
            try:
                plan = make_plan(request, data_root, progress, opened)
            except DoesNotApply as error:
                excluded.append(Excluded(request, len(block.seeds), str(error)))
                continue
            for seed in block.seeds:
                spec = plan.spec(seed)
                teacher = _teacher(plan, spec.config(), teachers)
                cell = Cell(request, seed, spec.key, spec.dataset, spec.preset, teacher, block.slurm)
                found.setdefault(spec.key, cell)
    return Cells(tuple(_in_order(list(found.values()))), tuple(excluded))


def _teacher(plan: Plan, config: Mapping[str, Any], known: dict[str, str]) -> str:
    """What the teacher of a run is: its settings, and the task that it is trained on."""
    task = content_key([config["protocol"], config["dataset"]])
    if task not in known:
        known[task] = plan.protocol.tasks(plan.data)[0].key
    return content_key([config["teacher"], known[task]])


def _in_order(cells: Sequence[Cell]) -> list[Cell]:
    """One cell of every teacher first: the rest then finds its teacher trained, in the order they were.

    In the grid's own order all workers would wait for the one that trains the first teacher.
    """
    by_teacher: dict[str, list[Cell]] = defaultdict(list)
    for cell in cells:
        by_teacher[cell.teacher].append(cell)
    groups = list(by_teacher.values())
    return [group[0] for group in groups] + [cell for group in groups for cell in group[1:]]


@dataclass(frozen=True)
class Survey:
    """What the records say of cells: the state of each by key, the errors of the failed, and what time they may take.

    seconds: what a run that is not done may take, by earlier records; one that has none like it is left out.
    """

    states: Mapping[str, State]
    errors: Mapping[str, str]
    seconds: Mapping[str, float]

    def count(self, cells: Iterable[Cell]) -> Counter[State]:
        """How many of these cells are in each state."""
        return Counter(self.states[cell.key] for cell in cells)


def survey(cells: Sequence[Cell], store: Store) -> Survey:
    """Read the folder of records once and say how each cell stands. A damaged record counts as failed."""
    found: dict[str, Record | InputError] = {}
    if store.root.is_dir():
        found = {path.stem.rpartition(".")[2]: record for path, record in store.records()}
    states: dict[str, State] = {}
    errors: dict[str, str] = {}
    for cell in cells:
        record = found.get(cell.key[:12])
        done = not isinstance(record, InputError) and record is not None and record["status"] == "done"
        if done:
            states[cell.key] = "done"
        elif store.locks.is_locked(cell.key):
            states[cell.key] = "running"
        elif record is None:
            states[cell.key] = "missing"
        else:
            states[cell.key] = "failed"
            errors[cell.key] = str(record if isinstance(record, InputError) else record.get("error"))
    whole = [record for record in found.values() if not isinstance(record, InputError) and record["status"] == "done"]
    return Survey(states, errors, _times([cell for cell in cells if states[cell.key] != "done"], whole))


def _times(cells: Iterable[Cell], records: Iterable[Record]) -> dict[str, float]:
    """Seconds that cells may take: the median of records of the same protocol, data set and settings.

    Of the same method where there are any, else of all methods; a cell with none like it is left out.
    """
    seconds: dict[tuple[str, ...], list[float]] = defaultdict(list)
    for record in records:
        where = str(record["protocol"]), str(record["dataset"]), _bare(str(record["preset"]))
        for group in (where, (*where, str(record["method"]))):
            seconds[group].append(float(record["seconds"]))
    times = {}
    for cell in cells:
        where = cell.request.protocol, cell.dataset, _bare(cell.preset)
        like = seconds.get((*where, cell.request.method)) or seconds.get(where)
        if like:
            times[cell.key] = statistics.median(like)
    return times


def _bare(preset: str) -> str:
    """A preset's label without what costs no time: the teacher's seed, the rate and the method's own settings."""
    name, changed = parse_label(preset)
    free = "teacher.seed=", "training.lr=", "method."
    return "+".join([name, *(item for item in changed if not item.startswith(free))])
