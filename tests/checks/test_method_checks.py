"""Every registered method passes the checks of methods, and every check can fail."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import numpy as np
import pytest
import torch
from annotated_types import Gt
from torch import Tensor, nn

from benchmark.checks import candidate, failure_of, suite_of
from benchmark.checks.resuming import require_equal_resumed_run
from benchmark.errors import InputError
from benchmark.methods import METHODS, Batch, Method, Needs, Stage, TransferContext
from benchmark.methods.kd import KD
from benchmark.methods.l2sp import L2SP
from benchmark.methods.rkd import RKD

NAMES = METHODS.names()
CHECKS = suite_of("method").checks


@pytest.mark.parametrize("name", NAMES)
def test_method_passes_every_check(tmp_path: Path, name: str) -> None:
    with candidate(name, "method", tmp_path) as method:
        failures = {check.name: failure_of(check, method) for check in CHECKS.values()}
    assert failures == dict.fromkeys(CHECKS)


@pytest.mark.parametrize("name", ["kd", "crd", "refilled", "lucir"])
def test_method_resumes_after_every_second_step(tmp_path: Path, name: str) -> None:
    """A plain method, one with a memory bank, one of two stages and one of another head."""
    with candidate(name, "method", tmp_path) as method:
        require_equal_resumed_run(method, every_second_step=True)


@pytest.mark.parametrize("name", NAMES)
def test_skip_reason_follows_needs(name: str) -> None:
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
def test_docstring_of_method_with_teacher_cites_arxiv(name: str) -> None:
    if METHODS.get(name).entry.needs.teacher:
        assert "arXiv" in (inspect.getdoc(METHODS.get(name).entry) or "")


class Plain(KD):
    """A method that passes every check. Arnold 2020, arXiv 0000.00000."""


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


class Summed(Plain):
    def loss(self, batch: Batch, student: Any, teacher: Any) -> Any:
        return sum(super().loss(batch, student, teacher).values())


class Forgotten(Plain):
    def loss(self, batch: Batch, student: Any, teacher: Any) -> Any:
        super().loss(batch, student, teacher)


class Numbered(Plain):
    def loss(self, batch: Batch, student: Any, teacher: Any) -> Any:
        return dict(enumerate(super().loss(batch, student, teacher).values(), 1))


class PlainNumber(Plain):
    def loss(self, batch: Batch, student: Any, teacher: Any) -> Any:
        return {**super().loss(batch, student, teacher), "half": 0.5}


class Lossless(Method):
    """It names its function differently. Arnold 2020."""

    def losses(self, batch: Batch, student: Any, teacher: Any) -> dict[str, Tensor]:
        return {"ce": student.logits.sum()}


class Short(Plain):
    def loss(self, batch: Batch, student: Any) -> dict[str, Tensor]:  # type: ignore[override]
        return {"sum": student.logits.sum()}


class Misspelt(Plain):
    def loss(self, batch: Batch, student: Any, teacher: Any) -> dict[str, Tensor]:
        return {"mean": student.embeddings.mean()}


class Asserting(Plain):
    needs = Needs()

    def loss(self, batch: Batch, student: Any, teacher: Any) -> dict[str, Tensor]:
        assert teacher is not None
        return {"mean": (student.embedding.mean() - teacher.embedding.mean()).square()}


class Broken(Plain):
    def build_connector(self, student: Any, teacher: Any) -> Any:
        return nn.Linear(student.tops["embedding"], 2)


class HalfDetached(Plain):
    def loss(self, batch: Batch, student: Any, teacher: Any) -> dict[str, Tensor]:
        difference = student.embedding.detach().mean() - teacher.embedding.mean()
        return {**super().loss(batch, student, teacher), "half": difference.square()}


class Rounded(Plain):
    def loss(self, batch: Batch, student: Any, teacher: Any) -> dict[str, Tensor]:
        return {**super().loss(batch, student, teacher), "rounded": student.logits.sign().mean()}


class ByNumber(Plain):
    """It compares outputs of one number. Arnold 2020."""

    needs = Needs(teacher=True)

    def loss(self, batch: Batch, student: Any, teacher: Any) -> dict[str, Tensor]:
        difference = student.logits - teacher.logits
        return {"norm": student.logits.square().mean(), "difference": difference.square().mean()}


class ByLabel(ByNumber):
    def loss(self, batch: Batch, student: Any, teacher: Any) -> dict[str, Tensor]:
        chosen = teacher.logits.gather(1, batch.labels[:, None]).mean()
        return {"norm": student.logits.square().mean(), "chosen": (student.logits.mean() - chosen).square()}


class Sorting(ByNumber):
    def loss(self, batch: Batch, student: Any, teacher: Any) -> dict[str, Tensor]:
        order = torch.tensor(self.labels.teacher).argsort()
        return {"difference": (student.logits - teacher.logits[:, order]).square().mean()}


class PartlyByNumber(ByNumber):
    needs = Needs(teacher=True, labels="overlap")


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
    """Declares that it trains the head alone. Arnold 2020, arXiv 0000.00000."""

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
    """Claims to apply to other classes, for which its loss is empty. Arnold 2020, arXiv 0000.00000."""

    def loss(self, batch: Batch, student: Any, teacher: Any) -> dict[str, Tensor]:
        mine, theirs = self.shared_logits(student, teacher)
        return {**super().loss(batch, student, teacher), "shared": (mine - theirs).square().mean()}


class Forgetful(Plain):
    """Its loss grows with the number of calls of this object. Arnold 2020, arXiv 0000.00000."""

    def loss(self, batch: Batch, student: Any, teacher: Any) -> dict[str, Tensor]:
        self.calls = getattr(self, "calls", 0) + 1
        return {name: self.calls * value for name, value in super().loss(batch, student, teacher).items()}


class ForgetfulLater(Forgetful):
    """Its loss grows in the second stage alone. Arnold 2020, arXiv 0000.00000."""

    def stages(self) -> list[Stage]:
        return [Stage("one", 0.5), Stage("two", 0.5)]

    def loss(self, batch: Batch, student: Any, teacher: Any) -> dict[str, Tensor]:
        return (super() if batch.stage == "two" else super(Forgetful, self)).loss(batch, student, teacher)


CASES: list[tuple[Any, str, str]] = [
    (Undocumented, "is_documented", "full stop"),
    (Sourceless, "is_documented", "no source"),
    (Loose, "settings_are_typed", "not a frozen dataclass"),
    (Unbounded, "settings_are_typed", r"method\.more has no bounds"),
    (Untyped, "settings_are_typed", r"method\.more accepts the value 'nonsense'"),
    (Bare, "settings_are_typed", r"method\.temperature has no default"),
    (Needless, "declarations_are_valid", "its needs are a dict"),
    (Searching, "declarations_are_valid", "declares 'nothing' as tunable"),
    (Halved, "stage_shares_sum_to_one", r"sum to 0\.7"),
    (
        Broken,
        "can_be_built",
        r"line \d+: 'Shapes' object has no attribute 'tops' \(AttributeError\); did you mean 'taps'",
    ),
    (
        Unnamed,
        "loss_terms_are_finite",
        r"^test_method_checks.py, line \d+: loss of Unnamed, .* returns a list; it must return a dictionary",
    ),
    (Summed, "loss_terms_are_finite", "stage 'train': it returns a Tensor; it must return a dictionary"),
    (Forgotten, "loss_terms_are_finite", "returns None; it must return a dictionary"),
    (Numbered, "loss_terms_are_finite", "the name 1 of a term is not a string"),
    (PlainNumber, "loss_terms_are_finite", "'half' is a float; it must be a tensor"),
    (Lossless, "loss_terms_are_finite", "it has no method `loss"),
    (Short, "loss_terms_are_finite", r"called with batch, student, teacher"),
    (Misspelt, "loss_terms_are_finite", r"test_method_checks.py, line \d+: .*'embeddings'.*did you mean 'embedding'"),
    (Asserting, "loss_terms_are_finite", r"needs = Needs\(teacher=True\)` is missing"),
    (PerImage, "loss_terms_are_finite", "'each' is not a tensor without dimensions"),
    (Infinite, "loss_terms_are_finite", "'log' is -inf|'log' is nan"),
    (Detached, "loss_terms_are_finite", "no gradient"),
    (HalfDetached, "every_term_trains", "term 'half' has no gradient for any trained parameter"),
    (Rounded, "every_term_trains", "term 'rounded' has no gradient"),
    (ByNumber, "ignores_numbers_of_classes", "other classes stage 'train', term 'difference' changes"),
    (ByLabel, "ignores_numbers_of_classes", "term 'chosen' changes"),
    (Sorting, "ignores_numbers_of_classes", "term 'difference' changes"),
    (PartlyByNumber, "ignores_numbers_of_classes", "some other classes stage 'train', term 'difference' changes"),
    (Headless, "gradients_reach_student", r"no gradient reaches head\.bias, head\.weight"),
    (Reaching, "gradients_reach_student", "a gradient reaches backbone"),
    (Peeking, "reads_declared_inputs_only", "reads what its needs do not declare .*stage2"),
    (Teacherless, "loss_terms_are_finite", r"needs = Needs\(teacher=True\)` is missing"),
    (Weighing, "reads_declared_inputs_only", "reads the student's weights"),
    (Rolling, "is_deterministic", "NumPy's global generator"),
    (Reseeding, "is_deterministic", "seeds torch's"),
    (Counting, "is_deterministic", "different values"),
    (Writing, "leaves_inputs_unchanged", "changes the .*teacher's embedding"),
    (Climbing, "loss_decreases", "eight steps lead from"),
    (Idle, "connector_state_round_trips", "no gradient reaches weight, bias of its connector"),
    (Speechless, "skip_reasons_are_valid", "its skip_reason is True"),
    (Everywhere, "ignores_numbers_of_classes", "'shared' is nan"),
    (Forgetful, "resumes_bit_for_bit", "interrupted on .* its run differs in"),
    (ForgetfulLater, "resumes_bit_for_bit", "interrupted on .* its run differs in"),
]


@pytest.mark.parametrize(("entry", "check", "reason"), CASES)
def test_check_fails_for_faulty_method(tmp_path: Path, entry: Any, check: str, reason: str) -> None:
    with METHODS.override("odd", entry), candidate("odd", "method", tmp_path) as method:
        failure = failure_of(CHECKS[check], method)
    assert failure is not None
    assert re.search(reason, failure), failure


def test_every_check_has_a_faulty_method() -> None:
    """The check of imports has a test of its own below."""
    assert {check for _, check, _ in CASES} == set(CHECKS) - {"imports_nothing_heavy"}


def test_faultless_method_passes_every_check(tmp_path: Path) -> None:
    """Each faulty method above therefore fails by its fault alone."""
    with METHODS.override("odd", Plain), candidate("odd", "method", tmp_path) as method:
        failed = [check.name for check in CHECKS.values() if failure_of(check, method)]
    assert failed == ["imports_nothing_heavy"], "this module imports torch"


def test_renumbering_does_not_fail_a_method_that_matches_classes_by_identity(tmp_path: Path) -> None:
    for name in ("kd", "refilled", "rkd"):
        with candidate(name, "method", tmp_path) as method:
            assert failure_of(CHECKS["ignores_numbers_of_classes"], method) is None


@pytest.mark.parametrize("entry", [Summed, Misspelt, Asserting, Infinite, Lossless, PerImage, Broken])
def test_unusable_loss_is_told_once(tmp_path: Path, entry: Any) -> None:
    with METHODS.override("odd", entry), candidate("odd", "method", tmp_path) as method:
        results = {r.check.name: r for r in suite_of("method").run(method)}
    failed = {name for name, r in results.items() if r.tried and r.failure} - {"imports_nothing_heavy", "is_documented"}
    assert failed == {"can_be_built" if entry is Broken else "loss_terms_are_finite"}
    untried = results["gradients_reach_student"]
    assert (untried.tried, untried.failure) == (
        False, "the method cannot be built" if entry is Broken else "the loss cannot be evaluated",
    )  # fmt: skip
    assert results["skip_reasons_are_valid"].failure is None


def test_check_without_docstrings_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.flags", SimpleNamespace(optimize=2))
    with (
        pytest.raises(InputError, match="docstrings, which Python leaves out with -OO"),
        candidate("ce", None, tmp_path),
    ):
        pass


def test_check_fails_for_method_that_imports_torch(tmp_path: Path) -> None:
    file = tmp_path / "heavy.py"
    file.write_text("import torch\nfrom benchmark.methods.kd import KD\nclass Heavy(KD):\n    pass\n")
    with candidate(str(file), "method", tmp_path) as method:
        failure = failure_of(CHECKS["imports_nothing_heavy"], method)
    assert failure is not None
    assert "imports torch" in failure
