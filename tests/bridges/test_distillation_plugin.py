from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, log_softmax, normalize, softmax

from benchmark.backbones.network import Network, build_network
from benchmark.bridges.avalanche.benchmark import as_avalanche_benchmark, load_avalanche, suppress_warnings
from benchmark.bridges.avalanche.distillation_plugin import LogitNetwork, distillation_plugin, staged_strategy
from benchmark.checks.toy import make_toy
from benchmark.errors import InputError
from benchmark.methods import METHODS
from benchmark.spec import Training

SHAPE = (3, 16, 16)
OLD, ALL = 15, 30


@pytest.fixture(scope="module")
def two() -> Any:
    """Two experiences of 15 classes each."""
    return as_avalanche_benchmark("incremental-1step-3exemplars", "tiny")


def network(classes: int, seed: int = 1, width: int = 16) -> Network:
    return build_network(f"conv4-{width}", channels=3, size=16, classes=classes, seed=seed)


class Recorder:
    """Pixels, labels and gradients of every step, and the model before it."""

    def __init__(self) -> None:
        self.steps: list[dict[str, Any]] = []
        self.before: dict[str, Tensor] = {}

    def before_forward(self, strategy: Any, **_: Any) -> None:
        self.before = copy.deepcopy(strategy.model.state_dict())

    def after_backward(self, strategy: Any, **_: Any) -> None:
        grads = {name: p.grad for name, p in strategy.model.named_parameters() if p.grad is not None}
        gradients = {name: grad.clone() for name, grad in grads.items()}
        self.steps.append(
            {"x": strategy.mb_x, "y": strategy.mb_y, "before": self.before, "gradients": gradients,
             "loss": float(strategy.loss.detach())}
        )  # fmt: skip


def train(two: Any, name: str, model: LogitNetwork, plugins: list[Any], experiences: int = 1, **options: Any) -> Any:
    with suppress_warnings():
        optimiser = torch.optim.SGD(model.parameters(), lr=0.05)
        made = getattr(load_avalanche().training.supervised, name)(
            model=model, optimizer=optimiser, criterion=torch.nn.CrossEntropyLoss(), train_mb_size=60, train_epochs=1,
            plugins=plugins, evaluator=None, **options,
        )  # fmt: skip
        for experience in list(two.train_stream)[:experiences]:
            made.train(experience, eval_streams=[])
    return made


def images(two: Any, experiences: int) -> tuple[Tensor, Tensor]:
    items = [item for e in list(two.train_stream)[:experiences] for item in e.dataset]
    return torch.stack([item[0] for item in items]), torch.tensor([int(item[1]) for item in items])


def local_loss(logits: Tensor, teacher: Network, x: Tensor, y: Tensor, known: tuple[Tensor, Tensor]) -> Tensor:
    """REFILLED's local classifier, sample by sample: centres of all images known so far."""
    with torch.no_grad():
        every = teacher(known[0]).embedding
        here = teacher(x).embedding
    classes = sorted(set(y.tolist()))
    centres = torch.stack([normalize(every[known[1] == c].mean(0), dim=0) for c in classes])
    total = torch.zeros(())
    for i in range(len(x)):
        p = softmax(centres @ here[i], 0)
        total = total + (p * (p.log() - log_softmax(logits[i, classes], 0))).sum()
    return total / len(x)


def check_steps(recorder: Recorder, loss: Any) -> None:
    """Loss and gradients of every step are those of ``loss``, computed with the model before it."""
    for step in recorder.steps:
        model = LogitNetwork(network(ALL))
        model.load_state_dict(step["before"])
        expected = loss(model.train(), step["x"], step["y"])
        expected.backward()
        assert step["loss"] == pytest.approx(float(expected.detach()), rel=1e-4)
        for name, parameter in model.named_parameters():
            assert torch.allclose(parameter.grad, step["gradients"][name], rtol=1e-3, atol=1e-5), name


@pytest.mark.parametrize("teacher_classes", [tuple(range(OLD)), ()])
def test_plugin_adds_refilleds_second_stage_to_the_loss(two: Any, teacher_classes: tuple[int, ...]) -> None:
    teacher, model, recorder = network(OLD, 2, 32), LogitNetwork(network(ALL)), Recorder()
    plugin = distillation_plugin(
        "refilled", model, teacher, shape=SHAPE, teacher_classes=teacher_classes, local=0.5, adaptive=False
    )
    train(two, "Naive", model, [plugin, recorder], experiences=2)
    first = len(two.train_stream[0].dataset) // 60 + 1
    assert len(recorder.steps) > first

    def loss(model: LogitNetwork, x: Tensor, y: Tensor) -> Tensor:
        logits = model(x)
        seen = images(two, 1 if int(y.max()) < OLD else 2)
        return cross_entropy(logits, y) + 0.5 * local_loss(logits, teacher, x, y, seen)

    check_steps(recorder, loss)
    assert not teacher.training


def test_plugin_of_kd_reaches_old_outputs_only(two: Any) -> None:
    teacher, model, recorder = network(OLD, 2, 32), LogitNetwork(network(ALL)), Recorder()
    plugin = distillation_plugin(
        "kd", model, teacher, shape=SHAPE, teacher_classes=range(OLD), mode="replace", temperature=2, kd=0.7, ce=0.3
    )
    train(two, "Naive", model, [plugin, recorder])

    def loss(model: LogitNetwork, x: Tensor, y: Tensor) -> Tensor:
        logits = model(x)
        with torch.no_grad():
            p = softmax(teacher(x).logits / 2, 1)
        divergence = (p * (p.log() - log_softmax(logits[:, :OLD] / 2, 1))).sum(1).mean()
        return 0.3 * cross_entropy(logits, y) + 0.7 * 4 * divergence

    check_steps(recorder, loss)


def test_plugin_trains_the_connector(two: Any) -> None:
    teacher, model = network(OLD, 2, 32), LogitNetwork(network(ALL))
    plugin = distillation_plugin("fitnet", model, teacher, shape=SHAPE)
    assert model.connector is not None
    before = copy.deepcopy(model.connector.state_dict())
    train(two, "Naive", model, [plugin])
    assert any(not torch.equal(value, before[key]) for key, value in model.connector.state_dict().items())


@pytest.mark.parametrize(
    ("name", "options"),
    [("LwF", {"alpha": 1.0, "temperature": 2.0}), ("Replay", {"mem_size": 30}), ("EWC", {"ewc_lambda": 0.4}),
     ("DER", {"mem_size": 60})],
)  # fmt: skip
def test_plugin_adds_its_terms_to_other_strategies(two: Any, name: str, options: dict[str, Any]) -> None:
    """Their loss and ours: without the plugin the first loss of all is less by its term."""
    losses = []
    for guided in (False, True):
        torch.manual_seed(3)
        model, recorder = LogitNetwork(network(ALL)), Recorder()
        torch.manual_seed(4)
        plugins = [distillation_plugin("refilled", model, network(OLD, 2, 32), shape=SHAPE)] if guided else []
        torch.manual_seed(5)
        train(two, name, model, [*plugins, recorder], experiences=2, **options)
        assert model.outputs is None
        assert not model.record_outputs
        losses.append([step["loss"] for step in recorder.steps])
    assert len(losses[0]) == len(losses[1])
    assert losses[1][0] > losses[0][0]


def test_staged_strategy_equals_a_loop_over_both_stages(two: Any) -> None:
    """Compare with a plain loop over the same batches, with the suite's schedule and a fresh head between stages."""
    from benchmark.methods import Batch, LabelSpaces
    from benchmark.training.initialisation import build_method
    from benchmark.training.optimisation import build_optimiser, share_steps

    training = Training(steps=7, batch_size=60, lr=0.05)
    teacher, model, recorder = network(OLD, 2, 32), LogitNetwork(network(ALL)), Recorder()
    alone = copy.deepcopy(model.network)
    with suppress_warnings():
        strategy = staged_strategy(
            "refilled", model, teacher, training=training, shape=SHAPE, teacher_classes=range(OLD), plugins=[recorder]
        )
        heads = []
        real = model.network.reset_head
        model.network.reset_head = lambda: (real(), heads.append(copy.deepcopy(model.network.head.state_dict())))  # type: ignore[method-assign, assign, func-returns-value]
        for experience in two.train_stream:
            strategy.train(experience, eval_streams=[])
    assert len(recorder.steps) == 14
    assert len(heads) == 1  # the second experience keeps the head of the first
    method = build_method(
        "refilled", None, LabelSpaces(tuple(range(ALL)), tuple(range(OLD))), alone, teacher, 0, channels=3, size=16
    )
    x, y = images(two, 1)
    with torch.no_grad():
        method.prepare(alone, y, teacher.embed(x))
    met = iter(recorder.steps)
    for stage, steps in share_steps(method.stages(), training.steps):
        if stage.reset_head:
            alone.head.load_state_dict(heads[0])
        optimiser, scheduler = build_optimiser(alone, method, stage, steps, training)
        alone.train()
        for done in range(steps):
            step = next(met)
            with torch.no_grad():
                guide = teacher(step["x"])
            terms = method.loss(Batch(step["y"], step["y"], stage.name, done / steps), alone(step["x"]), guide)
            loss = torch.stack(list(terms.values())).sum()
            assert step["loss"] == pytest.approx(float(loss.detach()), rel=1e-3)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            scheduler.step()
    after = {name.removeprefix("network."): value for name, value in next(met)["before"].items()}
    for name, value in alone.named_parameters():
        assert torch.allclose(value, after[name], rtol=1e-3, atol=1e-4), name


GUIDES = [
    name for name in METHODS.names()
    if (needs := METHODS.get(name).entry.needs).teacher and needs.learns == "batches"
]  # fmt: skip


@pytest.mark.parametrize("name", GUIDES)
def test_plugin_accepts_or_refuses_every_method_with_a_teacher(name: str) -> None:
    toy = make_toy(name)
    model = LogitNetwork(toy.student.train())
    classes = toy.method.labels.teacher
    needs = METHODS.get(name).entry.needs
    if needs.index or needs.weights:
        with pytest.raises(InputError, match=f"method {name} does not guide a strategy: it"):
            distillation_plugin(name, model, toy.teacher, shape=SHAPE, teacher_classes=classes)
        return

    class Given:
        dataset = torch.utils.data.TensorDataset(toy.images, toy.labels)

    plugin = distillation_plugin(name, model, toy.teacher, shape=SHAPE, teacher_classes=classes)

    class Strategy:
        """What the hooks read of one."""

        device, train_epochs, dataloader, experience = torch.device("cpu"), 1, (1, 2), Given()
        mb_x, mb_y, loss = toy.images, toy.labels, torch.zeros(1)

        class clock:
            train_exp_iterations = 1

    strategy: Any = Strategy()
    strategy.model = model
    Given.dataset.eval = lambda: Given.dataset  # type: ignore[attr-defined]
    plugin.before_training_exp(strategy)
    plugin.before_forward(strategy)
    model(toy.images)
    plugin.before_backward(strategy)
    strategy.loss.backward()
    assert any(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in model.network.parameters())


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("ce", {}, "method ce does not guide a strategy: its loss reads no teacher's outputs"),
        ("avalanche/lwf", {}, "its loss reads no teacher's outputs"),
        ("crd", {}, "it has to know which images a batch holds"),
        ("lucir", {}, "it has a part in the student's weights"),
        ("kd", {}, "teacher and student share no class"),
        ("dkd", {"teacher_classes": range(OLD)}, "needs the teacher's own label space"),
        ("kd", {"teacher_classes": range(4)}, "names 4 classes and the teacher has 15 outputs"),
        ("refilled", {"stage": "first"}, "refilled has no stage 'first'; it has embedding, classifier"),
        ("refilled", {"shape": (3, 16, 8)}, "images must be square"),
        ("refilled", {"margins": 3}, r"no setting method\.margins; did you mean 'margin'"),
    ],
)
def test_plugin_refuses_unsuitable_methods(method: str, options: dict[str, Any], message: str) -> None:
    model = LogitNetwork(network(ALL))
    with pytest.raises(InputError, match=message):
        distillation_plugin(method, model, network(OLD, 2), **{"shape": SHAPE, **options})


def test_plugin_refuses_another_model(two: Any) -> None:
    plugin = distillation_plugin("refilled", LogitNetwork(network(ALL)), network(OLD, 2), shape=SHAPE)
    with pytest.raises(InputError, match="give both the same LogitNetwork"):
        train(two, "Naive", LogitNetwork(network(ALL)), [plugin])


def test_staged_strategy_refuses_avalanches_checkpoints(two: Any, tmp_path: Any) -> None:
    from avalanche.checkpointing import save_checkpoint

    model = LogitNetwork(network(ALL))
    strategy = staged_strategy("refilled", model, network(OLD, 2), training=Training(steps=2), shape=SHAPE)
    with pytest.raises(InputError, match="save_checkpoint is broken"), suppress_warnings():
        save_checkpoint(strategy, tmp_path / "strategy")
