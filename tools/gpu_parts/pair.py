"""A published pair of networks on CIFAR-100, trained for as many steps as the time allows."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from benchmark.data.published import PublishedDataset, data_set
from benchmark.experiment.estimation import estimate
from benchmark.experiment.planning import Plan, make_plan
from benchmark.experiment.request import Request
from benchmark.experiment.runner import RunContext, run_seed
from benchmark.records.store import Store
from benchmark.report.published_numbers import published_numbers
from benchmark.system.progress import Silent
from gpu_parts.report import Finding, Part, Setup, judged, measured, skipped

RECIPE, PROTOCOL, DATASET = "repdistiller-cifar100", "distill-same", "cifar100"
METHODS = "ce", "kd"
PAIR = "resnet32x4", "resnet8x4"
SMALL_PAIR = "resnet56", "resnet20"
SMALL_SETTINGS = "training.batch_size=2", "teacher.batch_size=2", "protocol.classes=10"
CHANCE = 0.01
SHARE = 0.75
"""Share of the time that steps are planned for; the rest is for the tests and for an estimate that is too low."""
FEWEST = 200
"""Steps below which a training shows nothing."""


def plan(method: str, pair: tuple[str, str], data_root: Path, steps: int | None, overrides: tuple[str, ...]) -> Plan:
    """Plan a run of the recipe, of its own number of steps or fewer."""
    backbones = f"teacher.backbone={pair[0]}", f"student.backbone={pair[1]}"
    request = Request(PROTOCOL, method, DATASET, RECIPE, (*backbones, *overrides), steps)
    return make_plan(request, data_root, Silent())


class Pair:
    """The two networks, in a folder that is removed afterwards; the data stays where it is imported."""

    def __init__(self, setup: Setup, folder: Path) -> None:
        self._setup = setup
        self.methods = ("kd",) if setup.small else METHODS
        self._pair = SMALL_PAIR if setup.small else PAIR
        self._overrides = SMALL_SETTINGS if setup.small else ()
        self._context = RunContext(Store(folder / "records"), folder, setup.device, Silent())

    def steps(self, part: Part) -> int:
        """Return the steps of the teacher and of each student that fit into the time, at most those of the recipe."""
        planned = [plan(name, self._pair, self._setup.data_root, None, self._overrides) for name in self.methods]
        context = self._context
        works = [
            estimate(each, [0], store=context.store, data_root=context.data_root, device=context.device)["work"]
            for each in planned
        ]
        total = works[0]["milliseconds_per_teacher_step"] + sum(w["milliseconds_per_student_step"] for w in works)
        most = 2 if self._setup.small else planned[0].settings.training.steps
        return min(most, int(1000 * SHARE * part.left() / total))

    def train(self, method: str, steps: int) -> Finding:
        """Train the student, and the teacher if it is the first that needs one; compare with the published number."""
        planned = plan(method, self._pair, self._setup.data_root, steps, self._overrides)
        full = plan(method, self._pair, self._setup.data_root, None, self._overrides).settings.training.steps
        record: Any = run_seed(planned, 0, self._context)
        if record["status"] != "done":
            return judged(False, f"the run failed: {record['error']}")
        published = published_numbers(RECIPE)[PROTOCOL, *self._pair, method][0].value
        value = record["value"]
        text = f"{100 * value:.2f} % after {steps:,} of {full:,} steps; published {100 * published:.2f} %"
        values = {"value": value, "steps": steps, "published": published, "seconds": record["seconds"]}
        if steps == full:
            return judged(abs(value - published) <= 0.01, f"{text} (bound 1 point)", **values)
        if steps >= FEWEST:
            return judged(value > 2 * CHANCE, f"{text}; chance {100 * CHANCE:.0f} % (bound twice that)", **values)
        return measured(text, **values)


def missing_data(data_root: Path) -> str | None:
    """Return why the data set cannot be read, or None if it is there."""
    dataset = data_set(DATASET)
    assert isinstance(dataset, PublishedDataset)
    if dataset.find_import(data_root) is not None:
        return None
    return f"{DATASET} is not in {data_root}; type: {dataset.import_command(data_root)}"


def check(part: Part, setup: Setup) -> None:
    """Run the part."""
    teacher, student = SMALL_PAIR if setup.small else PAIR
    what = f"{RECIPE}: {student} from {teacher}"
    why = missing_data(setup.data_root)
    if why is not None:
        part.check(what, lambda: skipped(why))
        return
    with tempfile.TemporaryDirectory() as folder:
        pair = Pair(setup, Path(folder))
        steps = 0

        def count() -> Finding:
            nonlocal steps
            steps = pair.steps(part)
            return measured(f"{steps:,} steps of the teacher and of each student fit", steps=steps)

        part.check(f"{what}, steps", count, needs=0 if setup.small else 20)
        for method in pair.methods if setup.small or steps >= FEWEST else ():
            part.check(f"{what}, {method}", lambda name=method: pair.train(name, steps))  # type: ignore[misc]
