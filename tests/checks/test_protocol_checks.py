"""Every registered protocol class passes the checks of protocols, and every check can fail."""

from __future__ import annotations

import dataclasses
import itertools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmark.checks import candidate, failure_of, suite_of
from benchmark.data import ImageSet, Task
from protocols import PROTOCOLS, Result, Score
from protocols.distillation import Distillation

CHECKS = suite_of("protocol").checks
SHORT = {
    "fewshot": ("protocol.episodes=60", "protocol.queries=4", "training.batch_size=16"),
    "middleshot": ("protocol.tasks=4", "protocol.queries=4", "training.batch_size=5"),
}


def one_name_per_class() -> list[str]:
    """The first name of each protocol class. Its other names differ in numbers only."""
    return list({PROTOCOLS.get(name).entry: name for name in reversed(PROTOCOLS.names())}.values())


@pytest.mark.parametrize("name", one_name_per_class())
def test_protocol_passes_every_check(tmp_path: Path, name: str) -> None:
    with candidate(name, "protocol", tmp_path, SHORT.get(name.split("-")[0], ())) as protocol:
        failures = {check.name: failure_of(check, protocol) for check in CHECKS.values()}
    assert failures == dict.fromkeys(CHECKS)


class Plain(Distillation):
    """Distillation between equal label spaces, unchanged."""


class Undocumented(Plain):
    """Without a full stop"""


class Loose(Plain):
    @dataclass(frozen=True)
    class Settings(Distillation.Settings):
        more: int = 1


class Slow(Plain):
    presets = {"slow": {}}  # noqa: RUF012


class Misnamed(Plain):
    presets = {"quick": {"training": {"step": 3}}}  # noqa: RUF012


class Nowhere(Plain):
    @classmethod
    def transfer_context(cls, *_: Any) -> Any:
        return None


class Careless(Plain):
    def check(self, data: ImageSet) -> None:
        pass


class Rolling(Plain):
    def tasks(self, data: ImageSet, seed: int = 0) -> tuple[Task, Task]:
        teacher, student = super().tasks(data, seed)
        return teacher, dataclasses.replace(student, train=np.random.permutation(student.train))


class Seeded(Plain):
    def tasks(self, data: ImageSet, seed: int = 0) -> tuple[Task, Task]:
        teacher, student = super().tasks(data, seed)
        return dataclasses.replace(teacher, train=teacher.train[seed:]), student


class Leaking(Plain):
    def tasks(self, data: ImageSet, seed: int = 0) -> tuple[Task, Task]:
        teacher, student = super().tasks(data, seed)
        return teacher, dataclasses.replace(student, train=np.append(student.train, student.held_out[:2]))


class Peeking(Plain):
    """Trains the student on more images than its task declares."""

    def run(self, data: ImageSet, trainer: Any, seed: int) -> Result:
        inner = Leaking(self.name, self.settings, self.fields)
        return inner.run(data, trainer, seed)


class Percent(Plain):
    def run(self, data: ImageSet, trainer: Any, seed: int) -> Result:
        result = super().run(data, trainer, seed)
        return dataclasses.replace(result, score=Score(100 * result.score.value + 2))


class Wandering(Plain):
    count = itertools.count()

    def run(self, data: ImageSet, trainer: Any, seed: int) -> Result:
        result = super().run(data, trainer, seed)
        return dataclasses.replace(result, facts={"count": next(self.count)})


class Favouring(Plain):
    def run(self, data: ImageSet, trainer: Any, seed: int) -> Result:
        result = super().run(data, trainer, seed)
        return dataclasses.replace(result, n=1 + ("ce" in result.student.metadata["history"][0]))


CASES: list[tuple[Any, str, str]] = [
    (Undocumented, "is_documented", "full stop"),
    (Loose, "settings_are_typed", r"protocol\.more has no bounds"),
    (Slow, "presets_are_valid", "no preset 'quick'; it has slow"),
    (Misnamed, "presets_are_valid", r"no setting training\.step"),
    (Nowhere, "ce_applies", "its transfer_context is a NoneType"),
    (Careless, "refuses_insufficient_data", "accepts two images of one class"),
    (Rolling, "tasks_follow_data_and_seed", "the same data and seed twice give different tasks"),
    (Seeded, "tasks_follow_data_and_seed", "another seed gives the teacher another task"),
    (Leaking, "no_group_leaks", "the student trains on 1 groups of images that are evaluated"),
    (Peeking, "unused_pixels_do_not_matter", "the student depends on images that are not in its training set"),
    (Percent, "run_is_reproducible", "accuracy is "),
    (Wandering, "run_is_reproducible", "the same run twice differs in facts"),
    (Favouring, "treats_methods_equally", "the number of evaluated items depends on the method"),
]


@pytest.mark.parametrize(("entry", "check", "reason"), CASES)
def test_check_fails_for_faulty_protocol(tmp_path: Path, entry: Any, check: str, reason: str) -> None:
    with PROTOCOLS.override("odd", entry), candidate("odd", "protocol", tmp_path) as protocol:
        failure = failure_of(CHECKS[check], protocol)
    assert re.search(reason, str(failure)), failure


def test_every_check_has_a_faulty_protocol() -> None:
    """The check of imports is tested in ``test_method_checks.py``."""
    assert {check for _, check, _ in CASES} == set(CHECKS) - {"imports_nothing_heavy"}


def test_faultless_protocol_passes_every_check(tmp_path: Path) -> None:
    """Each faulty protocol above therefore fails by its fault alone."""
    with PROTOCOLS.override("odd", Plain), candidate("odd", "protocol", tmp_path) as protocol:
        failed = [check.name for check in CHECKS.values() if failure_of(check, protocol)]
    assert failed == ["imports_nothing_heavy"], "this module imports NumPy"
