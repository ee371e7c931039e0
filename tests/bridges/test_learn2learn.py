"""learn2learn's methods on the suite's episodes, against plain loops without learn2learn."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from benchmark.backbones.network import Network, build_network
from benchmark.bridges.learn2learn import methods as bridge
from benchmark.data import ImageSet
from benchmark.data.augmentation import Normalisation
from benchmark.data.episodes import sample_episodes
from benchmark.errors import InputError
from benchmark.experiment.estimation import estimate
from benchmark.experiment.planning import Plan, make_plan
from benchmark.experiment.request import Request
from benchmark.methods import METHODS, LabelSpaces, Shapes
from benchmark.methods.episodic import Episode, EpisodicMethod
from benchmark.records.store import Store
from benchmark.system.progress import Silent
from benchmark.training import TeacherStore, Trainer, correct_queries, select_device
from benchmark.training.episodic_loop import count_correct_answers, training_queries
from benchmark.training.trained_network import TrainedNetwork
from protocols.base import Result

DEVICE = select_device("cpu", "float32")
NAMES = ("maml", "anil", "protonet")
WAY, SHOT, QUERIES = 3, 2, 4


def method(name: str, **settings: Any) -> EpisodicMethod:
    entry = METHODS.get(name).entry
    made = entry(entry.Settings(**settings), LabelSpaces((0, 1, 2), ()), Shapes({}), Shapes({}))
    assert isinstance(made, EpisodicMethod)
    return made


def network(classes: int = WAY) -> Network:
    return build_network("conv4-16", channels=3, size=16, classes=classes, seed=1).double()


def episode(seed: int = 0, noise: float = 1.0) -> Episode:
    generator = torch.Generator().manual_seed(seed)
    prototypes = torch.randn(WAY, 3, 16, 16, generator=generator, dtype=torch.float64)
    labels = torch.arange(WAY)
    parts: list[Tensor] = []
    for count in (SHOT, QUERIES):
        own = labels.repeat_interleave(count)
        drawn = torch.randn(len(own), 3, 16, 16, generator=generator, dtype=torch.float64)
        parts += [prototypes[own] + noise * drawn, own]
    return Episode(*parts)


def by_hand(student: Network, task: Episode, steps: int, lr: float, first_order: bool) -> Tensor:
    """MAML's logits from explicit weights: no learn2learn, no shared buffers, statistics taken layer by layer."""
    weights = dict(student.named_parameters())
    statistics: dict[str, Tensor] = {}

    def forward(x: Tensor, measure: bool) -> Tensor:
        for i in range(4):
            x = torch.nn.functional.conv2d(x, weights[f"backbone.blocks.{i}.0.weight"], padding=1)
            if measure:
                statistics[f"mean {i}"] = x.mean((0, 2, 3))
                statistics[f"var {i}"] = x.var((0, 2, 3), unbiased=False)
                statistics[f"kept var {i}"] = x.var((0, 2, 3), unbiased=True)
            var = statistics[f"var {i}" if measure else f"kept var {i}"]
            mean = statistics[f"mean {i}"]
            if not measure:
                mean, var = mean.detach(), var.detach()
            x = (x - mean[:, None, None]) / (var[:, None, None] + 1e-5).sqrt()
            scale, shift = (weights[f"backbone.blocks.{i}.1.{name}"] for name in ("weight", "bias"))
            x = torch.relu(torch.nn.functional.max_pool2d(x * scale[:, None, None] + shift[:, None, None], 2))
        return x.flatten(1) @ weights["head.weight"].T + weights["head.bias"]

    for _ in range(steps):
        loss = cross_entropy(forward(task.support, measure=True), task.support_labels)
        gradients = torch.autograd.grad(loss, list(weights.values()), create_graph=not first_order)
        weights = {name: w - lr * g for (name, w), g in zip(weights.items(), gradients, strict=True)}
    forward(task.support, measure=True)
    return forward(task.queries, measure=False)


@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("steps", [1, 3])
def test_maml_gradient_passes_through_the_steps(steps: int, first_order: bool) -> None:
    settings = {"adaptation_steps": steps, "adaptation_lr": 0.3, "first_order": first_order}
    ours, plain = network(), network()
    task = episode()
    loss = method("maml", **settings).episode_loss(ours.train(), task)["ce"]
    expected = cross_entropy(by_hand(plain, task, steps, 0.3, first_order), task.query_labels)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-9)
    loss.backward()
    expected.backward()
    for (name, a), (_, b) in zip(ours.named_parameters(), plain.named_parameters(), strict=True):
        assert torch.allclose(a.grad, b.grad, rtol=1e-7, atol=1e-12), name


def test_first_order_gradient_differs() -> None:
    gradients = []
    for first_order in (False, True):
        student = network().train()
        method("maml", first_order=first_order).episode_loss(student, episode())["ce"].backward()
        gradients.append(student.backbone.get_parameter("blocks.0.0.weight").grad)
    assert not torch.allclose(*gradients, rtol=0.01)


def test_anil_adapts_the_head_alone() -> None:
    task, ours, plain = episode(), network().train(), network().train()
    loss = method("anil", adaptation_steps=3, adaptation_lr=0.3).episode_loss(ours, task)["ce"]
    embedding = plain.embed(torch.cat([task.support, task.queries]))
    weight, bias = plain.head.weight, plain.head.bias
    for _ in range(3):
        logits = embedding[: WAY * SHOT] @ weight.T + bias
        both = torch.autograd.grad(cross_entropy(logits, task.support_labels), [weight, bias], create_graph=True)
        weight, bias = weight - 0.3 * both[0], bias - 0.3 * both[1]
    expected = cross_entropy(embedding[WAY * SHOT :] @ weight.T + bias, task.query_labels)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-9)
    loss.backward()
    expected.backward()
    for (name, a), (_, b) in zip(ours.named_parameters(), plain.named_parameters(), strict=True):
        assert torch.allclose(a.grad, b.grad, rtol=1e-7, atol=1e-12), name


def test_protonet_is_the_distance_to_prototypes() -> None:
    task, student = episode(), network().train()
    embedding = student.embed(torch.cat([task.support, task.queries]))
    prototypes = torch.stack([embedding[c * SHOT : (c + 1) * SHOT].mean(0) for c in range(WAY)])
    expected = cross_entropy(
        torch.stack([-(q - prototypes).square().sum(1) for q in embedding[WAY * SHOT :]]), task.query_labels
    )
    ours = method("protonet").episode_loss(network().train(), task)["ce"]
    assert ours.item() == pytest.approx(expected.item(), rel=1e-9)
    cosine = method("protonet", distance="cosine").episode_loss(network().train(), task)["ce"]
    assert not np.isclose(cosine.item(), expected.item())


@pytest.mark.parametrize("name", ["maml", "anil"])
def test_answer_is_independent_of_other_queries_and_leaves_the_student_unchanged(name: str) -> None:
    """Neither other queries nor earlier episodes change an answer."""
    chosen, student, task = method(name), network().eval(), episode()
    weights = copy.deepcopy(dict(student.named_parameters()))
    whole = chosen.answer(student, task)
    for q in (0, 5, 11):
        alone = Episode(task.support, task.support_labels, task.queries[q : q + 1], task.query_labels[q : q + 1])
        assert torch.allclose(chosen.answer(student, alone)[0], whole[q], rtol=1e-9)
    chosen.answer(student, episode(1))
    assert torch.equal(chosen.answer(student, task), whole)
    assert not whole.requires_grad
    assert not any(module.training for module in student.modules())
    assert all(torch.equal(value, weights[key]) for key, value in student.named_parameters())
    assert all(module.momentum == 0.1 for module in student.modules() if isinstance(module, torch.nn.BatchNorm2d))


@pytest.mark.parametrize("name", ["maml", "anil"])
def test_answer_follows_the_labels_of_the_support_set(name: str) -> None:
    """If the support labels are permuted, so are the answers, with the same weights."""
    chosen, student, task = method(name, adaptation_steps=20, adaptation_lr=0.3), network().train(), episode(noise=0.2)
    for _ in range(50):  # until its running statistics are those of the images
        student(task.queries)
    student.eval()
    turned = Episode(task.support, (task.support_labels + 1) % WAY, task.queries, task.query_labels)
    answers = chosen.answer(student, task).argmax(1)
    assert (answers == task.query_labels).double().mean() > 0.9
    assert (chosen.answer(student, turned).argmax(1) == (answers + 1) % WAY).double().mean() > 0.9


def test_nearest_centroid_equals_learn2learns_prototypical_head(tiny: ImageSet) -> None:
    """On the same episode tensors: query by query, through its classifier and through our evaluator."""
    classifier = bridge.load_learn2learn().nn.PrototypicalClassifier
    features = torch.randn(len(tiny.images), 24, dtype=torch.float64).float()
    drawn = sample_episodes(tiny, tiny.splits["test"], way=5, shot=3, query=4, episodes=60, seed=1)
    labels = torch.arange(5)
    for normalise, distance in ((False, "euclidean"), (True, "euclidean"), (True, "cosine")):
        x = torch.nn.functional.normalize(features, dim=1) if normalise else features
        counts = []
        for support, query in zip(drawn.support, drawn.query, strict=True):
            head = classifier(x[support.ravel()], labels.repeat_interleave(3), distance=distance)
            counts.append(int((head(x[query.ravel()]).argmax(1) == labels.repeat_interleave(4)).sum()))
        ours = correct_queries(features, drawn.support, drawn.query, normalise=normalise)
        if distance == "euclidean":
            assert ours.tolist() == counts
        else:  # prototypes brought to unit length are other prototypes
            assert abs(ours.mean() - np.mean(counts)) < 1


def test_counted_answers_of_maml_equal_a_loop(tiny: ImageSet) -> None:
    chosen, student = method("maml"), network(classes=5).float().eval()
    drawn = sample_episodes(tiny, tiny.splits["test"], way=5, shot=1, query=2, episodes=6, seed=1)
    normalisation = Normalisation((0.5,) * 3, (0.25,) * 3)
    found = count_correct_answers(student, chosen, tiny, drawn, normalisation, DEVICE, Silent())
    for number in range(6):
        support, queries = (
            torch.from_numpy((tiny.images[part[number].ravel()] / 255 - 0.5) / 0.25).permute(0, 3, 1, 2).float()
            for part in (drawn.support, drawn.query)
        )
        logits = by_hand(student, Episode(support, torch.arange(5), queries, torch.empty(0)), 1, 0.5, True)
        assert int((logits.argmax(1) == torch.arange(5).repeat_interleave(2)).sum()) == found[number]


def test_counted_answers_of_anil_equal_a_loop(tiny: ImageSet) -> None:
    chosen, student = method("anil"), network(classes=5).float().eval()
    drawn = sample_episodes(tiny, tiny.splits["test"], way=5, shot=2, query=3, episodes=20, seed=1)
    found = count_correct_answers(
        student, chosen, tiny, drawn, Normalisation((0.5,) * 3, (0.25,) * 3), DEVICE, Silent()
    )
    labels = torch.arange(5)
    for number in range(20):
        support, queries = (
            torch.from_numpy((tiny.images[part[number].ravel()] / 255 - 0.5) / 0.25).permute(0, 3, 1, 2).float()
            for part in (drawn.support, drawn.query)
        )
        with torch.no_grad():
            known, asked = student.embed(support), student.embed(queries)
        weight, bias = (p.detach().clone().requires_grad_() for p in (student.head.weight, student.head.bias))
        for _ in range(5):
            loss = cross_entropy(known @ weight.T + bias, labels.repeat_interleave(2))
            steps = torch.autograd.grad(loss, [weight, bias])
            weight, bias = (p - 0.1 * step for p, step in zip((weight, bias), steps, strict=True))
        right = (asked @ weight.T + bias).argmax(1) == labels.repeat_interleave(3)
        assert int(right.sum()) == found[number]


@pytest.mark.parametrize("name", ["anil", "protonet"])
def test_estimate_includes_the_answers_of_a_methods_own_head(tmp_path: Path, name: str) -> None:
    def work(episodes: int) -> dict[str, float]:
        small = ("protocol.queries=5", f"protocol.episodes={episodes}")
        plan = make_plan(Request("fewshot-5way1shot", name, "tiny", overrides=small), tmp_path)
        return estimate(plan, [0], store=Store(tmp_path), data_root=tmp_path, device=DEVICE)["work"]

    few, many = work(100), work(10_000)
    assert 10 < many["answering_seconds_per_seed"] / few["answering_seconds_per_seed"] < 1000


def untuned(name: str) -> tuple[str, ...]:
    """Override settings that tuning chose on other data by their defaults."""
    own = METHODS.get(name).entry.Settings()
    return ("training.lr=0.1", *(f"method.{x}={getattr(own, x)}" for x in METHODS.get(name).entry.tunable))


def go(root: Path, name: str, *overrides: str) -> tuple[Plan, Result]:
    steps = () if any("training.steps" in item for item in overrides) else ("training.steps=150",)
    small = (*untuned(name), *steps, "teacher.steps=2", "protocol.episodes=200", "protocol.queries=5")
    plan = make_plan(Request("fewshot-5way1shot", name, "tiny", overrides=(*small, *overrides)), root)
    trainer = Trainer(plan.spec(0), TeacherStore(root / "teachers"), DEVICE, Silent())
    return plan, plan.protocol.run(plan.data, trainer, 0)


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Plan, Result]]:
    return {name: go(tmp_path_factory.mktemp(name), name) for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_method_learns_and_is_evaluated_on_the_episodes_of_every_method(
    learnt: dict[str, tuple[Plan, Result]], name: str
) -> None:
    plan, found = learnt[name]
    losses = [row["ce"] for row in found.student.metadata["history"]]
    assert float(losses[-1]) < float(losses[0]) - 0.3
    assert found.score.value > 0.4
    episodes = plan.protocol.episodes(plan.data, 0)  # type: ignore[attr-defined]
    assert found.facts["episodes_hash"] == episodes.hash
    assert found.arrays["disjoint_correct_student"].shape == found.arrays["disjoint_correct_pixels"].shape
    assert found.student.episodic_method is not None
    assert found.references["common_head"].value > 0.3
    assert found.arrays["correct_common_head"].shape == found.arrays["correct_student"].shape
    assert found.arrays["disjoint_correct_common_head"].shape == found.arrays["disjoint_correct_student"].shape
    facts = found.student.metadata
    assert facts["steps"] == 150
    assert facts["images"] == 150 * (60 + (5 if name == "maml" else 0))  # 60 of 64: what 5 ways divide


def test_run_repeats_bit_for_bit(tmp_path: Path) -> None:
    results = [go(tmp_path, "maml", "training.steps=5", "method.tasks=2")[1] for _ in range(2)]
    for a, b in zip(*(found.student.network.state_dict().values() for found in results), strict=True):
        assert torch.equal(a, b)
    assert np.array_equal(*(found.arrays["correct_student"] for found in results))


def test_trained_student_is_at_chance_on_shuffled_query_labels(learnt: dict[str, tuple[Plan, Result]]) -> None:
    plan, found = learnt["anil"]
    student: TrainedNetwork = found.student
    drawn = plan.protocol.episodes(plan.data, 0)  # type: ignore[attr-defined]
    shuffled = np.random.default_rng(0).permuted(drawn.query.reshape(200, -1), axis=1).reshape(drawn.query.shape)
    assert student.episodic_method is not None
    counts = count_correct_answers(
        student.network, student.episodic_method, plan.data, type(drawn)(drawn.classes, drawn.support, shuffled),
        student.normalisation, DEVICE, Silent(),
    )  # fmt: skip
    assert counts.mean() / 25 == pytest.approx(0.2, abs=0.02)


def test_protonet_answers_by_its_own_prototypes(learnt: dict[str, tuple[Plan, Result]], tmp_path: Path) -> None:
    """The nearest mean of raw embeddings, which is the common head without normalisation."""
    _, found = learnt["protonet"]
    euclidean = go(tmp_path, "protonet", "protocol.head=euclidean")[1]
    assert np.array_equal(found.arrays["correct_student"], euclidean.arrays["correct_student"])
    assert np.mean(euclidean.arrays["correct_student"] == euclidean.arrays["correct_common_head"]) > 0.99
    assert not np.array_equal(found.arrays["correct_student"], found.arrays["correct_common_head"])


def test_training_episodes_hold_training_images_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmark.training import episodic_loop

    seen = []

    def noted(*words: Any, **options: Any) -> Any:
        seen.append(sample_episodes(*words, **options))
        return seen[-1]

    monkeypatch.setattr(episodic_loop, "sample_episodes", noted)
    plan, found = go(tmp_path, "protonet", "training.steps=40")
    (drawn,) = seen
    shown = np.concatenate([drawn.support.ravel(), drawn.query.ravel()])
    assert set(shown) <= set(found.student.task.train)
    assert len(set(shown)) > 0.9 * len(found.student.task.train)
    assert set(drawn.classes.ravel()) == set(plan.data.splits["train"])


def test_batch_too_small_for_an_episode_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"batch_size = 16 leaves no query in 2 episodes .* set it to at least 20"):
        go(tmp_path, "maml", "method.tasks=2", "training.batch_size=16")
    from benchmark.spec import Training

    assert training_queries(Training(batch_size=20), 5, 1, 2) == 1


def test_missing_learn2learn_names_the_install_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "learn2learn", None)
    bridge.load_learn2learn.cache_clear()
    with pytest.raises(InputError, match=r'learn2learn.* pip install "\.\[bridges\]"'):
        go(tmp_path, "maml")
    bridge.load_learn2learn.cache_clear()


@pytest.mark.slow
def test_listing_does_not_import_learn2learn_and_importing_it_prints_nothing() -> None:
    listing = (
        "import sys\n"
        "from benchmark.cli import main\n"
        "sys.argv = ['benchmark', 'list', 'methods', '--protocol', 'fewshot-5way1shot']\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'learn2learn', 'gym'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", listing], check=True, capture_output=True, text=True)
    assert all(name in done.stdout for name in NAMES)
    loading = "from benchmark.bridges.learn2learn.methods import load_learn2learn; load_learn2learn().algorithms.MAML"
    done = subprocess.run([sys.executable, "-W", "error", "-c", loading], check=True, capture_output=True, text=True)
    assert done.stdout == done.stderr == ""
