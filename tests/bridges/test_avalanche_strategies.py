from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

from benchmark.backbones.network import Network
from benchmark.bridges.avalanche import strategies as methods
from benchmark.errors import InputError
from benchmark.experiment.planning import Plan, make_plan
from benchmark.experiment.request import Request
from benchmark.methods import METHODS
from benchmark.methods.external_loop import ExperienceMethod, Experiences
from benchmark.records.store import Store
from benchmark.system import interrupts
from benchmark.system.progress import Silent
from benchmark.training import TeacherStore, Trainer, select_device
from protocols.base import Result

DEVICE = select_device("cpu", "float32")
NAMES = tuple(name for name in METHODS.names() if name.startswith("avalanche/"))
SIZES = (
    "training.batch_size=32", "teacher.batch_size=32", "training.steps=40", "teacher.steps=120",
    "student.backbone=conv4-16", "teacher.backbone=conv4-16", "training.lr=0.1",
)  # fmt: skip


def make(root: Path, name: str, *overrides: str, exemplars: int = 4) -> Plan:
    settings = dict(item.split("=") for item in (*SIZES, *overrides))
    merged = tuple(f"{key}={value}" for key, value in settings.items())
    return make_plan(Request(f"incremental-1step-{exemplars}exemplars", name, "tiny", overrides=merged), root)


def go(root: Path, plan: Plan, seed: int = 0) -> Result:
    trainer = Trainer(plan.spec(seed), TeacherStore(root / "teachers"), DEVICE, Silent())
    return plan.protocol.run(plan.data, trainer, seed)


@pytest.fixture(scope="module")
def teachers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("teachers")


@pytest.fixture(scope="module")
def learnt(teachers: Path) -> dict[str, Result]:
    """Results of every strategy, and of the suite's methods to compare with."""
    references = ("finetune", "replay", "icarl", "joint")
    return {
        name: go(teachers, make(teachers, name, f"training.steps={steps_of(name)}")) for name in (*NAMES, *references)
    }


def steps_of(name: str) -> int:
    """Return the steps of the module's runs: joint training starts from drawn weights and needs more."""
    return 80 if name.endswith("joint") else 40


def same_weights(a: Result, b: Result) -> bool:
    weights, others = a.student.network.state_dict(), b.student.network.state_dict()
    return all(torch.equal(value, others[key]) for key, value in weights.items())


class Recorder:
    """A plugin that records the images, labels, outputs and loss of every step."""

    def __init__(self) -> None:
        self.steps: list[dict[str, Any]] = []

    def before_update(self, strategy: Any, **_: Any) -> None:
        self.steps.append(
            {
                "x": strategy.mb_x.clone(), "y": strategy.mb_y.clone(), "logits": strategy.mb_output.detach().clone(),
                "loss": float(strategy.loss.detach()), "clock": strategy.clock.train_exp_counter,
                "weights": copy.deepcopy(strategy.model.state_dict()),
            }
        )  # fmt: skip


def record(
    monkeypatch: pytest.MonkeyPatch, root: Path, name: str, *overrides: str
) -> tuple[Recorder, Result, Experiences]:
    """Run a strategy for a few steps; return the recorded steps, the result and the images."""
    entry, seen, recorder = METHODS.get(name).entry, [], Recorder()
    real_strategy, real_train = entry.strategy, methods.AvalancheMethod.train

    def strategy(self: Any, strategies: Any, arguments: dict[str, Any], experiences: Experiences) -> Any:
        arguments = {**arguments, "plugins": [*arguments["plugins"], recorder]}
        return real_strategy(self, strategies, arguments, experiences)

    def train(self: Any, student: Network, experiences: Experiences) -> None:
        seen.append((experiences, copy.deepcopy(student)))
        real_train(self, student, experiences)

    monkeypatch.setattr(entry, "strategy", strategy)
    monkeypatch.setattr(methods.AvalancheMethod, "train", train)
    found = go(root, make(root, name, "training.steps=4", "training.crop_padding=0", *overrides))
    ((experiences, start),) = seen
    recorder.start = start  # type: ignore[attr-defined]
    return recorder, found, experiences


def test_strategies_have_the_steps_images_and_evaluation_of_every_method(learnt: dict[str, Result]) -> None:
    for name in NAMES:
        found, reference, steps = learnt[name], learnt["finetune"], steps_of(name)
        assert found.student.metadata["steps"] == steps, name
        assert found.student.metadata["images"] == 32 * steps, name
        assert [row["step"] for row in found.student.metadata["history"]] == [steps / 20 * n for n in range(1, 21)]
        assert np.array_equal(found.arrays["images"], reference.arrays["images"])
        assert found.score.value == pytest.approx(np.mean(found.arrays["predicted_student"] == found.arrays["labels"]))
        assert found.teacher.metadata["key"] == reference.teacher.metadata["key"]
    assert learnt["avalanche/icarl"].facts["head"] == "nme"


def test_strategies_agree_with_the_suites_own_methods(learnt: dict[str, Result]) -> None:
    def near(ours: str, theirs: str, points: float) -> None:
        assert learnt[theirs].score.value == pytest.approx(learnt[ours].score.value, abs=points)

    near("finetune", "avalanche/naive", 0.05)
    near("joint", "avalanche/joint", 0.1)
    near("icarl", "avalanche/icarl", 0.1)
    accuracy = {name: learnt[name].score.value for name in NAMES}
    assert accuracy["avalanche/joint"] > accuracy["avalanche/naive"] + 0.1
    for name in ("naive", "ewc", "lwf"):  # what is known of cross-entropy over all outputs without exemplars
        assert learnt[f"avalanche/{name}"].references["old"].value < 0.05
    for name in ("replay", "der"):
        assert accuracy[f"avalanche/{name}"] >= learnt["replay"].score.value - 0.03
    kept = {name: learnt[name].references["old_within_old"].value for name in NAMES}
    assert kept["avalanche/lwf"] > kept["avalanche/naive"] + 0.2


@pytest.mark.parametrize("name", NAMES)
def test_strategy_is_determined_by_its_seed(teachers: Path, name: str) -> None:
    first = go(teachers, make(teachers, name, "training.steps=5"))
    torch.rand(3)
    second = go(teachers, make(teachers, name, "training.steps=5"))
    assert same_weights(first, second)
    assert first.student.metadata["history"] == second.student.metadata["history"]
    if name == "avalanche/naive":
        assert not same_weights(first, go(teachers, make(teachers, name, "training.steps=5"), seed=1))


@pytest.mark.parametrize("name", [name for name in NAMES if name != "avalanche/joint"])
def test_experience_0_leaves_the_student_equal_to_the_teacher(
    monkeypatch: pytest.MonkeyPatch, teachers: Path, name: str
) -> None:
    """When the first step of experience 1 begins, the student is the teacher, bit for bit, including its statistics."""
    seen: list[tuple[int, dict[str, Tensor]]] = []
    real = methods.AvalancheMethod.train

    class First:
        def before_training_iteration(self, strategy: Any, **_: Any) -> None:
            seen.append((strategy.clock.train_exp_counter, copy.deepcopy(student[0].state_dict())))
            strategy.stop_training()

    student: list[Network] = []

    def train(self: Any, network: Network, experiences: Experiences) -> None:
        student.append(network)
        real_strategy = self.strategy
        self.strategy = lambda strategies, arguments, e: real_strategy(
            strategies, {**arguments, "plugins": [First(), *arguments["plugins"]]}, e
        )
        real(self, network, experiences)

    monkeypatch.setattr(methods.AvalancheMethod, "train", train)
    found = go(teachers, make(teachers, name, "training.steps=1"))
    assert [count for count, _ in seen] == [1]
    teacher = found.teacher.network.state_dict()
    for key, value in seen[0][1].items():
        assert torch.equal(value[:15] if key.startswith("head.") else value, teacher[key]), key


def teach(found: Result, experiences: Experiences, x: Tensor) -> Tensor:
    """Logits of the teacher: the old outputs."""
    with torch.no_grad():
        logits: Tensor = found.teacher.network(experiences.plain(x)).logits
    return logits


def test_naive_is_cross_entropy_on_new_images(monkeypatch: pytest.MonkeyPatch, teachers: Path) -> None:
    recorder, _, experiences = record(monkeypatch, teachers, "avalanche/naive")
    for step in recorder.steps:
        assert step["clock"] == 1
        assert len(step["x"]) == 32
        assert (step["y"] >= 15).all()
        assert torch.equal(experiences.labels[step["x"]], step["y"])
        assert step["loss"] == pytest.approx(float(cross_entropy(step["logits"], step["y"])), rel=1e-6)
    rates = [group["lr"] for group in experiences.optimiser.param_groups]
    assert rates == pytest.approx([0.0])  # of the schedule of every method, at its end


def test_lwf_distils_from_the_teacher_in_eval_mode(monkeypatch: pytest.MonkeyPatch, teachers: Path) -> None:
    settings = ("method.alpha=3", "method.temperature=1.5")
    recorder, found, experiences = record(monkeypatch, teachers, "avalanche/lwf", *settings)
    for step in recorder.steps:
        q = (teach(found, experiences, step["x"]).double() / 1.5).softmax(1)
        p = (step["logits"][:, :15].double() / 1.5).softmax(1)
        divergence = (q * (q / p).log()).sum(1).mean()
        expected = cross_entropy(step["logits"].double(), step["y"]) + 3 * divergence
        assert step["loss"] == pytest.approx(float(expected), rel=1e-5)


def test_replay_fills_half_of_each_batch_with_the_exemplars_of_every_method(
    monkeypatch: pytest.MonkeyPatch, teachers: Path
) -> None:
    recorder, found, experiences = record(monkeypatch, teachers, "avalanche/replay", "training.steps=30")
    own = go(teachers, make(teachers, "replay", "training.steps=1", "training.crop_padding=0"))
    assert np.array_equal(found.student.task.train, own.student.task.train)
    assert len(experiences.old) == 4 * 15
    shown = torch.cat([step["x"] for step in recorder.steps])
    for step in recorder.steps:
        assert int((step["y"] < 15).sum()) == 16
        assert len(step["y"]) == 32
    assert set(shown[shown < 60].tolist()) == set(range(60))


def test_der_stores_the_initial_logits_of_exemplars(monkeypatch: pytest.MonkeyPatch, teachers: Path) -> None:
    settings = ("method.logits=0.7", "method.labels=0.2", "method.memory_share=0.25")
    recorder, _, experiences = record(monkeypatch, teachers, "avalanche/der", *settings)
    start = recorder.start.eval()  # type: ignore[attr-defined]
    for step in recorder.steps:
        assert step["y"][:8].max() < 15 <= step["y"][8:].min()
        with torch.no_grad():
            kept = start(experiences.plain(step["x"][:8])).logits
        logits, labels = step["logits"], step["y"]
        expected = (
            cross_entropy(logits[8:], labels[8:]) + 0.7 * mse_loss(logits[:8], kept)
            + 0.2 * cross_entropy(logits[:8], labels[:8])
        )  # fmt: skip
        assert step["loss"] == pytest.approx(float(expected), rel=1e-5)


def test_ewc_penalty_uses_the_teachers_fisher_information(monkeypatch: pytest.MonkeyPatch, teachers: Path) -> None:
    recorder, _, experiences = record(monkeypatch, teachers, "avalanche/ewc", "method.penalty=1e7", "training.lr=0.01")
    start = recorder.start.eval()  # type: ignore[attr-defined]
    importance = {name: torch.zeros_like(value) for name, value in start.named_parameters()}
    old = experiences.old.split(32)
    assert len(experiences.old) > 100
    for some in old:
        start.zero_grad()
        cross_entropy(start(experiences.plain(some)).logits[:, :15], experiences.labels[some]).backward()
        for name, value in start.named_parameters():
            importance[name] += value.grad**2 / len(old)
    assert not importance["head.weight"][15:].any()
    penalties = []
    for step in recorder.steps:
        weights = {name.removeprefix("network."): value for name, value in step["weights"].items()}
        apart = [(importance[n] * (weights[n] - w.detach()) ** 2).sum() for n, w in start.named_parameters()]
        penalties.append(1e7 * float(sum(apart)))
        expected = float(cross_entropy(step["logits"], step["y"])) + penalties[-1]
        assert step["loss"] == pytest.approx(expected, rel=1e-4)
    assert penalties[0] == 0
    assert penalties[-1] > 0.01


def test_icarl_distils_old_sigmoids(monkeypatch: pytest.MonkeyPatch, teachers: Path) -> None:
    recorder, found, experiences = record(monkeypatch, teachers, "avalanche/icarl", "method.bce=7", "training.steps=30")
    shown = torch.cat([step["x"] for step in recorder.steps])
    assert set(shown[shown < 60].tolist()) == set(range(60))  # the exemplars of every method, all of them
    for step in recorder.steps:
        target = nn.functional.one_hot(step["y"], 30).float()
        target[:, :15] = teach(found, experiences, step["x"]).sigmoid()
        expected = 7 * nn.functional.binary_cross_entropy_with_logits(step["logits"], target)
        assert step["loss"] == pytest.approx(float(expected), rel=1e-5)


def test_joint_trains_a_fresh_network_on_all_images(monkeypatch: pytest.MonkeyPatch, teachers: Path) -> None:
    recorder, found, experiences = record(monkeypatch, teachers, "avalanche/joint", "training.steps=40")
    shown = torch.cat([step["x"] for step in recorder.steps])
    assert len(experiences.old) + len(experiences.new) == len(found.student.task.train)
    assert set(shown.tolist()) == set(range(len(found.student.task.train)))
    assert found.student.metadata["start"] == "fresh"


def test_position_loader_draws_crops_once_per_batch() -> None:
    from benchmark.bridges.avalanche.position_data import PositionLoader

    drawn = []

    def augmented(x: Tensor) -> Tensor:
        drawn.append(x)
        return torch.rand(len(x))

    class Images:
        plain = staticmethod(lambda x: -x)

    Images.augmented = staticmethod(augmented)  # type: ignore[attr-defined]
    loader, batch = PositionLoader(Images()), torch.arange(3)  # type: ignore[arg-type]
    assert torch.equal(loader(batch), -batch)
    loader.augments = True
    second = torch.arange(3)
    assert torch.equal(loader(second), copy.deepcopy(loader)(second))
    assert len(drawn) == 1
    assert not torch.equal(loader(torch.arange(3)), loader(second))


@pytest.mark.parametrize("name", ["avalanche/naive", "avalanche/der", "avalanche/icarl"])
def test_interrupted_run_stops_after_the_step_and_repeats_bit_for_bit(
    monkeypatch: pytest.MonkeyPatch, teachers: Path, name: str
) -> None:
    plan = make(teachers, name, "training.steps=5")
    whole = go(teachers, plan)
    monkeypatch.setattr(interrupts, "_signals", [])
    real, steps = methods.AvalancheMethod.train, []

    def train(self: Any, student: Network, experiences: Experiences) -> None:
        def ended(loss: Tensor, count: int) -> bool:
            steps.append(count)
            if len(steps) == 3:
                interrupts._signals.append(2)
            return experiences.ended(loss, count)

        real(self, student, Experiences(**{**vars(experiences), "ended": ended}))

    monkeypatch.setattr(methods.AvalancheMethod, "train", train)
    with pytest.raises(KeyboardInterrupt):
        go(teachers, plan)
    assert len(steps) == 3
    interrupts._signals.clear()
    again = go(teachers, plan)
    assert same_weights(whole, again)
    assert again.student.metadata["history"] == whole.student.metadata["history"]


@pytest.mark.parametrize(
    ("name", "overrides", "exemplars", "message"),
    [
        ("avalanche/bic", (), 4, r"^there is no method avalanche/bic: Avalanche 0\.6\.0 breaks off"),
        ("avalanche/feature-distillation", (), 4, "mse_loss an argument that it does not have"),
        ("avalanche/replay", (), 0, "it replays exemplars of old classes, and this protocol keeps none"),
        ("avalanche/der", (), 0, "it replays exemplars of old classes, and this protocol keeps none"),
        ("avalanche/icarl", (), 0, "nearest class mean, and without exemplars"),
        ("avalanche/nave", (), 4, "did you mean 'avalanche/naive'"),
        ("avalanche/naive", ("student.backbone=conv4-32",), 4, "set student.backbone=conv4-16"),
    ],
)
def test_impossible_strategy_is_refused_with_the_reason(
    tmp_path: Path, name: str, overrides: tuple[str, ...], exemplars: int, message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        make(tmp_path, name, *overrides, exemplars=exemplars)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("training.sampler=balanced",), "training.sampler = balanced: Avalanche draws its own batches"),
        (("protocol.rebalance=balanced",), "protocol.rebalance = balanced: Avalanche draws its own batches"),
    ],
)
def test_unsupported_setting_is_refused(teachers: Path, overrides: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        go(teachers, make(teachers, "avalanche/naive", *overrides))


def test_float16_is_refused_before_training(tmp_path: Path) -> None:
    made = make(tmp_path, "avalanche/naive")
    half = select_device("cpu", "float16")
    trainer = Trainer(made.spec(0), TeacherStore(tmp_path), half, Silent())
    with pytest.raises(InputError, match="float16: Avalanche does not scale losses"):
        made.validate_networks(trainer)


def test_strategy_accepts_alignment_and_nearest_means(teachers: Path) -> None:
    made = make(teachers, "avalanche/naive", "protocol.rebalance=align", "protocol.head=nme", "training.steps=3")
    assert go(teachers, made).facts["rebalance"] == "align"


def test_loss_that_is_not_finite_is_an_error(teachers: Path) -> None:
    with pytest.raises(RuntimeError, match="term 'loss' is not finite"):
        go(teachers, make(teachers, "avalanche/naive", "training.lr=1e30"))


def test_missing_avalanche_names_the_install_command_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "avalanche", None)
    made = make(tmp_path, "avalanche/naive")
    trainer = Trainer(made.spec(0), TeacherStore(tmp_path / "teachers"), DEVICE, Silent())
    with pytest.raises(InputError, match=r'Avalanche.* \(avalanche\); .* pip install "\.\[bridges\]"'):
        made.validate_networks(trainer)


def test_listing_strategies_imports_neither_torch_nor_avalanche() -> None:
    listing = (
        "import sys\n"
        "from benchmark.cli import main\n"
        "sys.argv = ['benchmark', 'list', 'methods', '--protocol', 'incremental-1step-5exemplars']\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'avalanche'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", listing], check=True, capture_output=True, text=True)
    assert all(name in done.stdout for name in NAMES)
    assert "avalanche/bic" not in done.stdout


@pytest.mark.slow
def test_run_prints_nothing_of_avalanche_and_its_record_is_found(tmp_path: Path) -> None:
    words = (
        "run", "--protocol", "incremental-1step-3exemplars", "--method", "avalanche/lwf", "--dataset", "tiny",
        "--limit-steps", "3", "--device", "cpu", "--data", str(tmp_path), "--results", str(tmp_path / "runs"),
    )  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-W", "always", "-m", "benchmark", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for word in ("warn", "avalanche.", "logger", "jax", "eval"):
        assert word not in (done.stdout + done.stderr).lower().replace(str(tmp_path).lower(), "")
    (path,) = (tmp_path / "runs").glob("*.json")
    assert ".avalanche-lwf.s0." in path.name
    assert Store(tmp_path / "runs").resolve(path.name)["method"] == "avalanche/lwf"


def test_strategies_are_experience_methods() -> None:
    assert len(NAMES) == 7
    for name in NAMES:
        assert issubclass(METHODS.get(name).entry, ExperienceMethod)
