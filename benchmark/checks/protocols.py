"""What every protocol keeps to."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from benchmark.checks.check import (
    Broken,
    Contract,
    Subject,
    check_documented,
    check_light,
    check_settings,
    require,
)
from benchmark.checks.randomness import disturb
from benchmark.checks.resuming import carry_out
from benchmark.data import ImageSet
from benchmark.errors import DoesNotApply, InputError
from benchmark.experiment.runner import Plan, Request, transfer_context
from benchmark.methods import METHODS, TransferContext
from benchmark.settings import SECTIONS, build_settings
from benchmark.spec import Student, Teacher, Training
from benchmark.system.progress import Silent
from benchmark.training import TeacherStore, Trainer, select_device
from protocols.base import Result, Score

PROTOCOL = Contract("protocol")
_DATA = ("tiny", "glyphs")
"""Data sets that a run is tried on, the smallest first."""
_STEPS = 3


@PROTOCOL.rule
def documented(subject: Subject) -> None:
    """Its docstring says what it is."""
    check_documented(subject)


@PROTOCOL.rule
def light(subject: Subject) -> None:
    """Importing it imports neither torch nor anything else that is slow."""
    check_light(subject)


@PROTOCOL.rule
def typed(subject: Subject) -> None:
    """Its settings are a frozen dataclass of typed values with defaults and bounds."""
    check_settings(subject.entry.Settings, "protocol")


@PROTOCOL.rule
def preset(subject: Subject) -> None:
    """It has a version and presets, one of them ``quick``, of settings that there are."""
    entry = subject.entry
    require(type(entry.version) is int and entry.version >= 1, f"its version is {entry.version!r}, not 1 or more")
    require("quick" in entry.presets, f"it has no preset 'quick'; it has {', '.join(entry.presets)}")
    classes: dict[str, type] = {
        "protocol": entry.Settings, "student": Student, "teacher": Teacher, "training": Training
    }  # fmt: skip
    for name, sections in entry.presets.items():
        for section, values in sections.items():
            require(section in SECTIONS and section != "method", f"preset {name}: no section {section!r} of settings")
            build_settings(classes[section], values, section)


@PROTOCOL.rule
def situated(subject: Subject) -> None:
    """It says before any data what a method meets, and plain cross-entropy applies."""
    ce = METHODS.get("ce").entry
    where = transfer_context(subject.name, ce)
    require(isinstance(where, TransferContext), f"its situation is a {type(where).__name__}")
    require(ce.skip_reason(where) is None, f"ce does not apply: {ce.skip_reason(where)}")


@PROTOCOL.rule
def refuses(subject: Subject) -> None:
    """It refuses data that cannot carry it, in a line."""
    one = np.zeros(2, np.int64)
    data = ImageSet(
        name="speck", images=np.zeros((2, 16, 16, 3), np.uint8), labels=one, groups=np.arange(2), classes=("only",),
        splits={"train": (0,), "val": (), "test": ()},
    )  # fmt: skip
    protocol = subject.entry(subject.name, subject.entry.Settings(), subject.fields)
    try:
        protocol.check(data)
    except InputError as error:
        require("\n" not in str(error), "it refuses two images of one class in more than a line")
    else:
        raise Broken("it takes two images of one class for enough")


@PROTOCOL.rule
def same_tasks(subject: Subject) -> None:
    """Its tasks follow from data and seed alone, the teacher's from the data alone."""
    plan = _plan(subject)
    keys = []
    for seed in (0, 0, 1):
        disturb()
        keys.append([task.key for task in plan.protocol.tasks(plan.data, seed)])
    require(keys[0] == keys[1], "twice the same data and seed give different tasks")
    require(keys[0][0] == keys[2][0], "another seed gives the teacher another task")


@PROTOCOL.rule
def apart(subject: Subject) -> None:
    """No group of images stands among those trained on and those held out."""
    plan = _plan(subject)
    groups = plan.data.groups
    teacher, student = plan.protocol.tasks(plan.data)
    for whose, train, held in (
        ("student", student.train, student.held_out),
        ("teacher", teacher.train, teacher.held_out),
        ("teacher", teacher.train, student.held_out),
    ):
        common = np.intersect1d(groups[train], groups[held])
        require(not len(common), f"the {whose} trains on {len(common)} groups of images that are judged")


@PROTOCOL.rule
def blind(subject: Subject) -> None:
    """The pixels that are in no training change neither teacher nor student."""
    plan = _plan(subject)
    tasks = plan.protocol.tasks(plan.data)
    clean = _result(subject, plan, "clean")
    images = plan.data.images.copy()
    others = np.setdiff1d(np.arange(len(images)), np.concatenate([task.train for task in tasks]))
    images[others] = 255 - images[others]
    plan.data = dataclasses.replace(plan.data, images=images)
    other = _result(subject, plan, "other")
    for name in ("teacher", "student"):
        one, two = (getattr(result, name).network.state_dict() for result in (clean, other))
        require(all((one[key] == two[key]).all() for key in one), f"the {name} has learnt from images held out")


@PROTOCOL.rule
def measured(subject: Subject) -> None:
    """A run ends in numbers between 0 and 1, the same for the same seed, bit for bit."""
    found = []
    for place in ("first", "second"):
        disturb()
        found.append(carry_out(_plan(subject), subject.scratch / place))
    first = found[0]
    scores: dict[str, Any] = {first["metric"]: first, **first["references"]}
    for name, score in scores.items():
        require(0 <= score["value"] <= 1, f"{name} is {score['value']}")
    require(first["n"] >= 1, f"it is a mean of n = {first['n']}")
    different = [name for name in first if found[1].get(name) != first[name]]
    require(not different, f"the same run twice differs in {', '.join(different)}")


@PROTOCOL.rule
def fair(subject: Subject) -> None:
    """Every method is given the same tasks, and judged on as many images."""
    names = ("refilled", "rkd", "kd", "lwf")
    other = next(filter(lambda name: _applies(name, subject), names), "")
    require(bool(other), f"none of {', '.join(names)} applies")
    results = [_result(subject, _plan(subject, method), method) for method in ("ce", other)]
    for name, part in (("metric", "metric"), ("number of what is judged", "n")):
        require(len({getattr(r, part) for r in results}) == 1, f"the {name} follows the method")
    require(len({r.teacher.task.key for r in results}) == 1, "the teacher's task follows the method")
    require(len({tuple(r.references) for r in results}) == 1, "what stands beside the score follows the method")
    require(all(isinstance(r.score, Score) for r in results), "its score is no Score")


def _applies(method: str, subject: Subject) -> bool:
    entry = METHODS.get(method).entry
    return entry.skip_reason(transfer_context(subject.name, entry)) is None


def _plan(subject: Subject, method: str = "ce") -> Plan:
    """A short run on the first data set that carries it."""
    reasons = []
    for name in _DATA:
        try:
            request = Request(subject.name, method, name, "quick", subject.overrides, limit_steps=_STEPS)
            return Plan(request, subject.root)
        except DoesNotApply as error:
            reasons.append(str(error))
    raise Broken(f"none of {', '.join(_DATA)} carries it: {reasons[0]}")


def _result(subject: Subject, plan: Plan, place: str) -> Result:
    bank = TeacherStore(subject.scratch / place / "teachers")
    trainer = Trainer(plan.spec(0), bank, select_device("cpu", "float32"), Silent())
    result = plan.protocol.run(plan.data, trainer, 0)
    require(isinstance(result, Result), f"a run ends in a {type(result).__name__}, not in a Result")
    return result
