"""Contract of every registered protocol: the rules that ``check`` applies, and that each of them can be broken."""

from __future__ import annotations

import dataclasses
import itertools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmark.checks import broken, contract_of, subject
from benchmark.data import ImageSet, Task
from protocols import PROTOCOLS, Result, Score
from protocols.distillation import Distillation

RULES = contract_of("protocol").rules
SHORT = {
    "fewshot": ("protocol.episodes=60", "protocol.queries=4", "training.batch_size=16"),
    "middleshot": ("protocol.tasks=4", "protocol.queries=4", "training.batch_size=5"),
}


def entries() -> list[str]:
    """The first name of each: others of its names differ in numbers."""
    return list({PROTOCOLS.get(name).entry: name for name in reversed(PROTOCOLS.names())}.values())


@pytest.mark.parametrize("name", entries())
def test_every_rule_is_kept(tmp_path: Path, name: str) -> None:
    with subject(name, "protocol", tmp_path, SHORT.get(name.split("-")[0], ())) as (_, checked):
        reasons = {rule: broken(check, checked) for rule, check in RULES.items()}
    assert reasons == dict.fromkeys(RULES)


class Plain(Distillation):
    """Distillation between equal label spaces, as it is."""


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
    """The student's training images are more than its task says."""

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
    (Undocumented, "Its docstring", "full stop"),
    (Loose, "Its settings", r"protocol\.more has no bounds"),
    (Slow, "It has a version", "no preset 'quick'; it has slow"),
    (Misnamed, "It has a version", r"no setting training\.step"),
    (Nowhere, "It says before", "its situation is a NoneType"),
    (Careless, "It refuses", "takes two images of one class for enough"),
    (Rolling, "Its tasks", "twice the same data and seed give different tasks"),
    (Seeded, "Its tasks", "another seed gives the teacher another task"),
    (Leaking, "No group", "the student trains on 1 groups of images that are judged"),
    (Peeking, "The pixels", "the student has learnt from images held out"),
    (Percent, "A run ends", "accuracy is "),
    (Wandering, "A run ends", "the same run twice differs in facts"),
    (Favouring, "Every method", "the number of what is judged follows the method"),
]


@pytest.mark.parametrize(("entry", "rule", "reason"), CASES)
def test_every_rule_can_be_broken(tmp_path: Path, entry: Any, rule: str, reason: str) -> None:
    (name,) = (name for name in RULES if name.startswith(rule))
    with PROTOCOLS.override("odd", entry), subject("odd", "protocol", tmp_path) as (_, checked):
        told = broken(RULES[name], checked)
    assert re.search(reason, str(told)), told


def test_no_rule_is_without_a_case() -> None:
    shown = {name for name in RULES if any(name.startswith(rule) for _, rule, _ in CASES)}
    assert {name.split()[0] for name in set(RULES) - shown} == {"Importing"}


def test_a_protocol_that_does_nothing_odd_breaks_none(tmp_path: Path) -> None:
    with PROTOCOLS.override("odd", Plain), subject("odd", "protocol", tmp_path) as (_, checked):
        reasons = {name: told for name, rule in RULES.items() if (told := broken(rule, checked))}
    assert [name.split()[0] for name in reasons] == ["Importing"], "this module imports NumPy"
