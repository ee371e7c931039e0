"""The suite in a notebook or a program: what the commands do, as functions of names and values."""

from __future__ import annotations

import operator
import os
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, SupportsIndex

from benchmark.errors import InputError
from benchmark.system import interrupts
from protocols import PROTOCOLS as PROTOCOLS

if TYPE_CHECKING:
    from benchmark.experiment.runner import Mode
    from benchmark.records.store import Record
    from benchmark.report.compare import Comparison
    from benchmark.system.progress import Progress

RESULTS = "results/runs"
"""The folder of records where none is named: that of the command line."""


def run(
    protocol: str,
    method: str,
    *,
    dataset: str | None = None,
    seeds: SupportsIndex | Iterable[SupportsIndex] = 0,
    preset: str = "quick",
    teacher: str | None = None,
    student: str | None = None,
    settings: Mapping[str, object] | None = None,
    limit_steps: int | None = None,
    device: str = "auto",
    compiled: bool = False,
    results: str | os.PathLike[str] = RESULTS,
    data: str | os.PathLike[str] | None = None,
    mode: Mode = "missing",
    checkpoint_every: float = 60.0,
    progress: bool | Progress = True,
) -> list[Record]:
    """Train, measure and save as ``python -m benchmark run`` does; the records, one a seed, in the order of ``seeds``.

    Keys, values and files are those of the command: what it has measured is not measured again, and the other way
    round. A record is a dictionary of JSON values with ``value``, ``intervals``, ``references``, ``history`` and
    ``config``; ``pandas.DataFrame(records)`` is a table of them, ``leaderboard(records)`` one of means and intervals.

    preset: ``quick``, ``paper`` or the name of a recipe; dataset: the recipe's, else ``glyphs``; teacher, student:
    names of networks; settings: values by ``section.name``, as ``{"method.margin": 0.1}``; limit_steps: of teacher and
    student, to see whether all works; results, data: folders, as ``--results`` and ``--data``, the latter else
    ``BENCHMARK_DATA`` or the user's cache; mode: ``missing``, ``retry-failed``, ``force`` or ``only-cache``; progress:
    a bar, nothing, or where to report to.

    A request that cannot be carried out raises ``InputError``, with the line that the command prints. A run that broke
    off by an error of its own has status ``failed`` in its record, which is warned of. After Ctrl-C, which raises
    ``KeyboardInterrupt`` at the next step, the same call goes on from there.
    """
    from benchmark.data.published import default_data_root
    from benchmark.display.progress_bar import Bar
    from benchmark.experiment import runner
    from benchmark.recipes.recipe import load_recipe, recipe_names
    from benchmark.records.store import Store
    from benchmark.system.progress import InterruptibleProgress, Silent
    from benchmark.training import select_device

    numbers = _seeds(seeds)
    if dataset is None:
        dataset = load_recipe(preset).dataset if preset in recipe_names() else "glyphs"
    root = default_data_root() if data is None else Path(data)
    networks = {"teacher.backbone": teacher, "student.backbone": student}
    named = {name: value for name, value in networks.items() if value is not None}
    overrides = [f"{name}={value}" for part in (named, settings or {}) for name, value in part.items()]
    shown = progress if not isinstance(progress, bool) else Bar() if progress else Silent()
    with interrupts.sigint_handled():
        progress_ = InterruptibleProgress(shown, stopped=interrupts.stop_requested)
        request = runner.Request(protocol, method, dataset, preset, tuple(overrides), limit_steps)
        plan = runner.Plan(request, root, progress_)
        chosen = select_device(device, plan.spec(numbers[0]).training.precision, compiled=compiled)
        records = runner.run(
            plan, numbers, store=Store(Path(results)), data_root=root, device=chosen, progress=progress_, mode=mode,
            checkpoint_every=checkpoint_every,
        )  # fmt: skip
    for record in records:
        if record["status"] != "done":
            warnings.warn(f"seed {record['seed']} failed: {record['error']}", stacklevel=2)
    return records


def load_records(
    results: str | os.PathLike[str] = RESULTS, *, protocol: str | None = None, dataset: str | None = None
) -> list[Record]:
    """The records in a folder, by file name, as ``run`` returns them.

    protocol: only those whose protocol is this or begins so, as ``distill``; dataset: only this one's. None at all
    raises ``InputError``. What is damaged is left out and warned of.
    """
    from benchmark.records.store import Store

    wanted, damaged = Store(Path(results)).select(protocol, dataset)
    for problem in damaged:
        warnings.warn(str(problem), stacklevel=2)
    return wanted


def compare(records: Iterable[Record], *methods: str, results: str | os.PathLike[str] = RESULTS) -> list[Comparison]:
    """Whether methods differ, on common seeds: of each pair the differences, intervals, tests and a ``sentence``.

    results: the folder that the records are from, which has the scores of single episodes.
    """
    from benchmark.records.store import Store
    from benchmark.report.aggregation import group_by_method
    from benchmark.report.compare import compare as make

    comparisons, left_out = make(group_by_method(records), methods, Store(Path(results)))
    for line in left_out:
        warnings.warn(f"not compared: {line}", stacklevel=2)
    return comparisons


def _seeds(given: SupportsIndex | Iterable[SupportsIndex]) -> list[int]:
    try:
        numbers = [operator.index(n) for n in (given if isinstance(given, Iterable) else (given,))]
    except TypeError:
        numbers = []
    if not numbers or min(numbers) < 0 or len(set(numbers)) < len(numbers):
        raise InputError(f"seeds {given!r} are not different whole numbers from 0 on, as 3 or range(5)")
    return numbers
