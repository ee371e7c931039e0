"""Contract of every registered method: the rules that ``check`` applies, and that each of them can be broken."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
import torch
from annotated_types import Gt
from torch import Tensor, nn

from benchmark.checks import broken, contract_of, subject
from benchmark.methods import METHODS, Batch, Needs, Stage, TransferContext
from benchmark.methods.kd import KD
from benchmark.methods.l2sp import L2SP
from benchmark.methods.rkd import RKD

NAMES = METHODS.names()
RULES = contract_of("method").rules


@pytest.mark.parametrize("name", NAMES)
def test_every_rule_is_kept(tmp_path: Path, name: str) -> None:
    with subject(name, "method", tmp_path) as (_, checked):
        reasons = {rule: broken(check, checked) for rule, check in RULES.items()}
    assert reasons == dict.fromkeys(RULES)


@pytest.mark.parametrize("name", NAMES)
def test_label_spaces_are_data(name: str) -> None:
    method = METHODS.get(name).entry
    home: Any = "extended" if method.needs.labels == "extended" else "same"
    if method.needs.learns == "episodes":
        assert "fewshot protocols" in str(method.skip_reason(TransferContext(home, "a", "a")))
        return
    assert method.skip_reason(TransferContext(home, "a", "a")) is None
    if method.skip_reason(TransferContext("disjoint", "a", "a")) is not None:
        assert method.needs.labels in ("same", "overlap", "extended")
    assert (method.skip_reason(TransferContext(home, "a", "b")) is None) == (method.needs.start != "teacher")
    assert (method.skip_reason(TransferContext(home, "a", "b", start="teacher")) is None) == (
        method.needs.start == "fresh"
    )
    assert (method.skip_reason(TransferContext("extended", "a", "a", exemplars=0)) is None) == (
        method.needs.labels in ("any", "overlap", "extended")
        and method.incremental_defaults.head == "net"
        and not method.needs.exemplars
    )
    assert method.backbone("a", "b") == ("a" if method.needs.trains == "all" else "b")


@pytest.mark.parametrize("name", NAMES)
def test_sources_are_papers(name: str) -> None:
    if METHODS.get(name).entry.needs.teacher:
        assert "arXiv" in (inspect.getdoc(METHODS.get(name).entry) or "")


class Plain(KD):
    """A method that keeps to every rule. Arnold 2020, arXiv 0000.00000."""


class Undocumented(KD):
    """Without a full stop"""


class Sourceless(KD):
    """A method from nowhere."""


class Loose(Plain):
    @dataclass
    class Settings:
        temperature: Annotated[float, Gt(0)] = 4.0


class Unbounded(Plain):
    @dataclass(frozen=True)
    class Settings(KD.Settings):
        more: float = 1.0


class Untyped(Plain):
    @dataclass(frozen=True)
    class Settings(KD.Settings):
        more: Any = None


class Bare(Plain):
    @dataclass(frozen=True)
    class Settings:
        temperature: float


class Needless(Plain):
    needs = {"teacher": True}  # type: ignore[assignment]  # noqa: RUF012


class Searching(Plain):
    tunable = ("nothing",)


class Halved(Plain):
    def stages(self) -> list[Stage]:
        return [Stage("one", 0.5), Stage("one", 0.2)]


class Unnamed(Plain):
    def loss(self, batch: Batch, student: Any, teacher: Any) -> Any:
        return list(super().loss(batch, student, teacher).values())


class PerImage(Plain):
    def loss(self, batch: Batch, student: Any, teacher: Any) -> dict[str, Tensor]:
        return {"each": student.logits.square().sum(1)}


class Infinite(Plain):
    def loss(self, batch: Batch, student: Any, teacher: Any) -> dict[str, Tensor]:
        return {"log": student.logits.sum() * 0 + torch.tensor(0.0).log()}


class Detached(Plain):
    def loss(self, batch: Batch, student: Any, teacher: Any) -> dict[str, Tensor]:
        return {"none": student.logits.detach().sum()}


class Headless(Plain):
    def loss(self, batch: Batch, student: Any, teacher: Any) -> dict[str, Tensor]:
        return {"embedding": (student.embedding - teacher.embedding.mean()).square().mean()}


class Reaching(Plain):
    """A head alone, so it says. Arnold 2020, arXiv 0000.00000."""

    needs = Needs(teacher=True, start="teacher", trains="head")

    def prepare(self, student: Any, labels: Tensor, embeddings: Tensor | None) -> None:
        student.backbone.requires_grad_(True)


class Peeking(Plain):
    def loss(self, batch: Batch, student: Any, teacher: Any) -> dict[str, Tensor]:
        return {**super().loss(batch, student, teacher), "map": student.tap("stage2").square().mean()}


class Teacherless(Plain):
    needs = Needs(labels="overlap")


class Weighing(L2SP):
    needs = Needs(start="teacher")


class Rolling(Plain):
    def loss(self, batch: Batch, student: Any, teacher: Any) -> dict[str, Tensor]:
        terms = super().loss(batch, student, teacher)
        return {name: value * float(np.random.random()) for name, value in terms.items()}


class Reseeding(Plain):
    def loss(self, batch: Batch, student: Any, teacher: Any) -> dict[str, Tensor]:
        torch.manual_seed(1)
        return super().loss(batch, student, teacher)


class Counting(Plain):
    count = 0

    def loss(self, batch: Batch, student: Any, teacher: Any) -> dict[str, Tensor]:
        type(self).count += 1
        return {name: value * type(self).count for name, value in super().loss(batch, student, teacher).items()}


class Writing(Plain):
    def loss(self, batch: Batch, student: Any, teacher: Any) -> dict[str, Tensor]:
        terms = super().loss(batch, student, teacher)
        teacher.embedding.add_(1)
        return terms


class Climbing(Plain):
    def loss(self, batch: Batch, student: Any, teacher: Any) -> dict[str, Tensor]:
        return {name: 2 * value.detach() - value for name, value in super().loss(batch, student, teacher).items()}


class Idle(Plain):
    def build_connector(self, student: Any, teacher: Any) -> nn.Module:
        return nn.Linear(2, 2)


class Speechless(Plain):
    @classmethod
    def skip_reason(cls, situation: TransferContext, settings: Any = None) -> Any:
        return True


class Everywhere(RKD):
    """Says that it applies with other classes, where its loss is empty. Arnold 2020, arXiv 0000.00000."""

    def loss(self, batch: Batch, student: Any, teacher: Any) -> dict[str, Tensor]:
        mine, theirs = self.shared_logits(student, teacher)
        return {**super().loss(batch, student, teacher), "shared": (mine - theirs).square().mean()}


class Forgetful(Plain):
    """Its loss grows with the steps that this object has seen. Arnold 2020, arXiv 0000.00000."""

    def loss(self, batch: Batch, student: Any, teacher: Any) -> dict[str, Tensor]:
        self.seen = getattr(self, "seen", 0) + 1
        return {name: self.seen * value for name, value in super().loss(batch, student, teacher).items()}


@pytest.mark.parametrize(
    ("entry", "rule", "reason"),
    [
        (Undocumented, "Its docstring", "full stop"),
        (Sourceless, "Its docstring", "no source"),
        (Loose, "Its settings", "no frozen dataclass"),
        (Unbounded, "Its settings", r"method\.more has no bounds"),
        (Untyped, "Its settings", r"method\.more takes 'nonsense'"),
        (Bare, "Its settings", r"method\.temperature has no default"),
        (Needless, "Its needs", "its needs are a dict"),
        (Searching, "Its needs", "declares 'nothing' as searched"),
        (Halved, "The shares", r"sum to 0\.7"),
        (Unnamed, "The loss of each", "has no terms"),
        (PerImage, "The loss of each", "'each' is no tensor without dimensions"),
        (Infinite, "The loss of each", "'log' is -inf|'log' is nan"),
        (Detached, "The loss of each", "no gradient"),
        (Headless, "Gradients reach", r"no gradient reaches head\.bias, head\.weight"),
        (Reaching, "Gradients reach", "a gradient reaches backbone"),
        (Peeking, "Its loss reads", "reads what it does not ask for .*stage2"),
        (Teacherless, "Its loss reads", "reads what it does not ask for"),
        (Weighing, "Its loss reads", "reads the student's weights"),
        (Rolling, "The same seed", "NumPy's global generator"),
        (Reseeding, "The same seed", "seeds torch's"),
        (Counting, "The same seed", "different values"),
        (Writing, "Its loss changes", "changes the .*teacher's embedding"),
        (Climbing, "A few steps", "eight steps lead from"),
        (Idle, "Its connector", "no gradient reaches weight, bias of its connector"),
        (Speechless, "It says of every", "it says True"),
        (Everywhere, "It says of every", "'shared' is nan"),
        (Forgetful, "A run of it", "broken off on .* it differs in"),
    ],
)
def test_every_rule_can_be_broken(tmp_path: Path, entry: Any, rule: str, reason: str) -> None:
    (name,) = (name for name in RULES if name.startswith(rule))
    with METHODS.override("odd", entry), subject("odd", "method", tmp_path) as (_, checked):
        told = broken(RULES[name], checked)
    assert told is not None
    assert re.search(reason, told), told


def test_a_method_that_does_nothing_odd_breaks_none(tmp_path: Path) -> None:
    """So that each of the above is caught by what is odd about it."""
    with METHODS.override("odd", Plain), subject("odd", "method", tmp_path) as (_, checked):
        reasons = {name: told for name, rule in RULES.items() if (told := broken(rule, checked))}
    assert [name.split()[0] for name in reasons] == ["Importing"], "this module imports torch"


def test_what_imports_torch_at_its_top_is_told(tmp_path: Path) -> None:
    file = tmp_path / "heavy.py"
    file.write_text("import torch\nfrom benchmark.methods.kd import KD\nclass Heavy(KD):\n    pass\n")
    (name,) = (name for name in RULES if name.startswith("Importing"))
    with subject(str(file), "method", tmp_path) as (_, checked):
        told = broken(RULES[name], checked)
    assert told is not None
    assert "imports torch" in told
