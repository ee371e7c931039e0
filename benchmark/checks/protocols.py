"""Checks of protocols."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from benchmark.checks.check import (
    Candidate,
    CheckFailed,
    CheckSuite,
    require,
    require_documentation,
    require_light_import,
    require_typed_settings,
)
from benchmark.checks.randomness import advance_global_generators
from benchmark.checks.resuming import determined_results
from benchmark.data import ImageSet
from benchmark.errors import DoesNotApply, InputError
from benchmark.experiment.planning import Plan, make_plan, transfer_context
from benchmark.experiment.request import Request
from benchmark.methods import METHODS, TransferContext
from benchmark.settings import SECTIONS, build_settings
from benchmark.spec import Student, Teacher, Training
from benchmark.system.progress import Silent
from benchmark.training import TeacherStore, Trainer, select_device
from protocols.base import Result, Score

PROTOCOL_CHECKS = CheckSuite("protocol")
_DATASETS = ("tiny", "glyphs")
"""Data sets for short runs, the smallest first."""
_STEPS = 3


@PROTOCOL_CHECKS.register
def is_documented(candidate: Candidate) -> None:
    """Its docstring describes it."""
    require_documentation(candidate)


@PROTOCOL_CHECKS.register
def imports_nothing_heavy(candidate: Candidate) -> None:
    """Importing its module imports neither torch nor another slow package."""
    require_light_import(candidate)


@PROTOCOL_CHECKS.register
def settings_are_typed(candidate: Candidate) -> None:
    """Its settings are a frozen dataclass of typed values with defaults and bounds."""
    require_typed_settings(candidate.entry.Settings, "protocol")


@PROTOCOL_CHECKS.register
def presets_are_valid(candidate: Candidate) -> None:
    """It has a version, and presets of known settings, one of them named ``quick``."""
    entry = candidate.entry
    require(type(entry.version) is int and entry.version >= 1, f"its version is {entry.version!r}, not 1 or more")
    require("quick" in entry.presets, f"it has no preset 'quick'; it has {', '.join(entry.presets)}")
    classes: dict[str, type] = {
        "protocol": entry.Settings, "student": Student, "teacher": Teacher, "training": Training
    }  # fmt: skip
    for name, sections in entry.presets.items():
        for section, values in sections.items():
            require(section in SECTIONS and section != "method", f"preset {name}: no section {section!r} of settings")
            build_settings(classes[section], values, section)


@PROTOCOL_CHECKS.register
def ce_applies(candidate: Candidate) -> None:
    """It describes the conditions for methods without any data, and plain cross-entropy applies to them."""
    ce = METHODS.get("ce").entry
    context = transfer_context(candidate.name, ce)
    require(isinstance(context, TransferContext), f"its transfer_context is a {type(context).__name__}")
    reason = ce.skip_reason(context)
    require(reason is None, f"ce does not apply: {reason}")


@PROTOCOL_CHECKS.register
def refuses_insufficient_data(candidate: Candidate) -> None:
    """It refuses insufficient data with an error of one line."""
    data = ImageSet(
        name="speck", images=np.zeros((2, 16, 16, 3), np.uint8), labels=np.zeros(2, np.int64), groups=np.arange(2),
        classes=("only",), splits={"train": (0,), "val": (), "test": ()},
    )  # fmt: skip
    protocol = candidate.entry(candidate.name, candidate.entry.Settings(), candidate.fields)
    try:
        protocol.check(data)
    except InputError as error:
        require("\n" not in str(error), "it refuses two images of one class in more than one line")
    else:
        raise CheckFailed("it accepts two images of one class")


@PROTOCOL_CHECKS.register
def tasks_follow_data_and_seed(candidate: Candidate) -> None:
    """The student's task depends on data and seed alone, the teacher's on the data alone."""
    plan = _plan(candidate)
    keys = []
    for seed in (0, 0, 1):
        advance_global_generators()
        keys.append([task.key for task in plan.protocol.tasks(plan.data, seed)])
    first, repeated, other_seed = keys
    require(first == repeated, "the same data and seed twice give different tasks")
    require(first[0] == other_seed[0], "another seed gives the teacher another task")


@PROTOCOL_CHECKS.register
def no_group_leaks(candidate: Candidate) -> None:
    """No group of images is both in training and in evaluation."""
    plan = _plan(candidate)
    groups = plan.data.groups
    teacher, student = plan.protocol.tasks(plan.data)
    for network, train, held_out in (
        ("student", student.train, student.held_out),
        ("teacher", teacher.train, teacher.held_out),
        ("teacher", teacher.train, student.held_out),
    ):
        common = np.intersect1d(groups[train], groups[held_out])
        require(not len(common), f"the {network} trains on {len(common)} groups of images that are evaluated")


@PROTOCOL_CHECKS.register
def unused_pixels_do_not_matter(candidate: Candidate) -> None:
    """Images outside the training sets change neither teacher nor student."""
    plan = _plan(candidate)
    tasks = plan.protocol.tasks(plan.data)
    original = _result(candidate, plan, "original")
    images = plan.data.images.copy()
    unused = np.setdiff1d(np.arange(len(images)), np.concatenate([task.train for task in tasks]))
    images[unused] = 255 - images[unused]
    plan = dataclasses.replace(plan, data=dataclasses.replace(plan.data, images=images))
    inverted = _result(candidate, plan, "inverted")
    for name in ("teacher", "student"):
        state, other = (getattr(result, name).network.state_dict() for result in (original, inverted))
        equal = all((state[key] == other[key]).all() for key in state)
        require(equal, f"the {name} depends on images that are not in its training set")


@PROTOCOL_CHECKS.register
def run_is_reproducible(candidate: Candidate) -> None:
    """A run gives scores between 0 and 1, the same for the same seed bit for bit."""
    repetitions = []
    for folder in ("first", "second"):
        advance_global_generators()
        repetitions.append(determined_results(_plan(candidate), candidate.scratch / folder))
    first, second = repetitions
    scores: dict[str, Any] = {first["metric"]: first, **first["references"]}
    for name, score in scores.items():
        require(0 <= score["value"] <= 1, f"{name} is {score['value']}")
    require(first["n"] >= 1, f"its score is a mean of n = {first['n']}")
    different = [name for name in first if second.get(name) != first[name]]
    require(not different, f"the same run twice differs in {', '.join(different)}")


@PROTOCOL_CHECKS.register
def treats_methods_equally(candidate: Candidate) -> None:
    """Every method has the same tasks and is evaluated on the same number of images."""
    names = ("refilled", "rkd", "kd", "lwf")
    other = next((name for name in names if _applies(name, candidate)), "")
    require(bool(other), f"none of {', '.join(names)} applies")
    results = [_result(candidate, _plan(candidate, method), method) for method in ("ce", other)]
    for name, attribute in (("metric", "metric"), ("number of evaluated items", "n")):
        require(len({getattr(result, attribute) for result in results}) == 1, f"the {name} depends on the method")
    require(len({result.teacher.task.key for result in results}) == 1, "the teacher's task depends on the method")
    require(len({tuple(result.references) for result in results}) == 1, "the references depend on the method")
    require(all(isinstance(result.score, Score) for result in results), "its score is not a Score")


def _applies(method: str, candidate: Candidate) -> bool:
    entry = METHODS.get(method).entry
    return entry.skip_reason(transfer_context(candidate.name, entry)) is None


def _plan(candidate: Candidate, method: str = "ce") -> Plan:
    """A short run on the first data set that the protocol accepts."""
    refusals = []
    for dataset in _DATASETS:
        try:
            request = Request(candidate.name, method, dataset, "quick", candidate.overrides, limit_steps=_STEPS)
            return make_plan(request, candidate.root)
        except DoesNotApply as error:
            refusals.append(str(error))
    raise CheckFailed(f"it accepts none of {', '.join(_DATASETS)}: {refusals[0]}")


def _result(candidate: Candidate, plan: Plan, folder: str) -> Result:
    teachers = TeacherStore(candidate.scratch / folder / "teachers")
    trainer = Trainer(plan.spec(0), teachers, select_device("cpu", "float32"), Silent())
    result = plan.protocol.run(plan.data, trainer, 0)
    require(isinstance(result, Result), f"a run returns a {type(result).__name__}, not a Result")
    return result
