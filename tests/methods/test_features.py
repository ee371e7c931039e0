"""Methods on maps, embeddings and logits equal their formulas and follow their settings."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy, softplus

from benchmark import losses
from benchmark.checks.toy import Toy, make_toy
from benchmark.errors import InputError
from benchmark.methods import Batch, Stage

TRAIN = Stage()


def total(toy: Toy, stage: Stage = TRAIN) -> torch.Tensor:
    return torch.stack(list(toy.terms(stage).values())).sum()


@pytest.mark.parametrize("name", ["at", "sp", "pkt", "dkd", "crd", "vid", "nst", "fitnet"])
def test_method_cross_entropy_has_weight_one(name: str) -> None:
    toy = make_toy(name)
    assert torch.allclose(toy.terms(TRAIN)["ce"], cross_entropy(toy.student(toy.images).logits, toy.labels))


@pytest.mark.parametrize(
    ("name", "weight"), [("at", "attention"), ("sp", "similarity"), ("pkt", "pkt"), ("crd", "crd"), ("vid", "vid"),
                         ("nst", "nst"), ("dist", "dist"), ("kd", "kd")]
)  # fmt: skip
def test_method_skips_a_term_of_weight_zero(name: str, weight: str) -> None:
    assert set(make_toy(name, **{weight: 0.0}).terms(TRAIN)) == {"ce"}


@pytest.mark.parametrize("name", ["kd", "dist"])
def test_method_skips_cross_entropy_of_weight_zero(name: str) -> None:
    assert set(make_toy(name, ce=0.0).terms(TRAIN)) == {name}


def test_at_sums_attention_over_its_stages() -> None:
    toy = make_toy("at", attention=7.0, taps="stage2, stage3")
    student, teacher = toy.student(toy.images).stages, toy.teacher(toy.images).stages

    def attention(features: torch.Tensor) -> torch.Tensor:
        energy = features.pow(2).mean(1).flatten(1)
        return energy / energy.norm(dim=1, keepdim=True)

    wanted = sum((attention(student[s]) - attention(teacher[s])).pow(2).mean() for s in ("stage2", "stage3"))
    assert torch.allclose(toy.terms(TRAIN)["attention"], 7 * wanted)


def test_nst_sums_selectivity_over_its_stages() -> None:
    toy = make_toy("nst", nst=3.0)
    student, teacher = toy.student(toy.images).stages, toy.teacher(toy.images).stages
    wanted = sum(losses.nst_loss(student[s], teacher[s]) for s in ("stage1", "stage2", "stage3"))
    assert torch.allclose(toy.terms(TRAIN)["nst"], 3 * wanted)


@pytest.mark.parametrize(("tap", "stage"), [("last", "stage4"), ("stage3", "stage3")])
def test_sp_uses_the_stage_of_its_settings(tap: str, stage: str) -> None:
    toy = make_toy("sp", similarity=2.0, tap=tap)
    student, teacher = toy.student(toy.images).stages[stage], toy.teacher(toy.images).stages[stage]

    def similarities(features: torch.Tensor) -> torch.Tensor:
        gram = features.flatten(1) @ features.flatten(1).T
        return gram / gram.norm(dim=1, keepdim=True)

    wanted = (similarities(student) - similarities(teacher)).pow(2).sum() / 24**2
    assert torch.allclose(toy.terms(TRAIN)["similarity"], 2 * wanted, rtol=1e-4)


def test_pkt_equals_its_formula() -> None:
    toy = make_toy("pkt", pkt=5.0)
    wanted = losses.pkt_loss(toy.student.embed(toy.images), toy.teacher.embed(toy.images))
    assert torch.allclose(toy.terms(TRAIN)["pkt"], 5 * wanted)


def test_vid_equals_the_likelihood_under_its_regressors() -> None:
    toy = make_toy("vid", vid=2.0)
    student, teacher = toy.student(toy.images).stages, toy.teacher(toy.images).stages
    wanted = torch.zeros(())
    for stage, regressor in zip(("stage1", "stage2", "stage3"), toy.method.regressors, strict=True):  # type: ignore[attr-defined]
        first, second, third = (regressor.layers[i] for i in (0, 2, 4))
        mean = third(second(first(student[stage]).relu()).relu())
        variance = (softplus(regressor.log_scale) + 1e-5)[:, None, None]
        assert torch.allclose(variance, torch.tensor(5.0))
        wanted = wanted + (0.5 * ((mean - teacher[stage]).square() / variance + variance.log())).mean()
    assert torch.allclose(toy.terms(TRAIN)["vid"], 2 * wanted)


@pytest.mark.parametrize("name", ["at", "nst", "vid"])
def test_method_refuses_unknown_stages(name: str) -> None:
    with pytest.raises(InputError, match="no stage 'stage9'; it has stage1, stage2, stage3, stage4"):
        make_toy(name, taps="stage1,stage9")


def test_dist_equals_its_formula() -> None:
    toy = make_toy("dist", ce=0.5, dist=3.0, temperature=2.0)
    terms = toy.terms(TRAIN)
    student, teacher = toy.student(toy.images).logits, toy.teacher(toy.images).logits
    assert torch.allclose(terms["ce"], 0.5 * cross_entropy(student, toy.labels))
    assert torch.allclose(terms["dist"], 3 * losses.dist_loss(student, teacher, 2.0))


@pytest.mark.parametrize("name", ["dkd", "dist"])
def test_method_matches_classes_by_identity(name: str) -> None:
    """A teacher whose outputs are a permutation of the student's classes gives the loss of the sorted teacher."""
    order = (3, 0, 5, 1, 4, 2)
    toy, in_order = make_toy(name, teacher_classes=order), make_toy(name)
    with torch.no_grad():
        in_order.teacher.head.weight[list(order)] = toy.teacher.head.weight
        in_order.teacher.head.bias[list(order)] = toy.teacher.head.bias
    assert torch.allclose(total(toy), total(in_order), rtol=1e-5)


def test_dkd_warms_up_linearly() -> None:
    toy = make_toy("dkd", alpha=2.0, beta=3.0, temperature=2.0, warmup=0.25)
    student, teacher = toy.student(toy.images).logits, toy.teacher(toy.images).logits
    full = losses.dkd_loss(student, teacher, toy.labels, 2.0, 3.0, 2.0)
    assert set(toy.terms(TRAIN, progress=0.0)) == {"ce"}
    assert torch.allclose(toy.terms(TRAIN, progress=0.1)["dkd"], 0.4 * full)
    for progress in (0.25, 0.9):
        assert torch.allclose(toy.terms(TRAIN, progress=progress)["dkd"], full)
    assert torch.allclose(make_toy("dkd", warmup=0.0).terms(TRAIN, progress=0.0)["dkd"],
                          losses.dkd_loss(student, teacher, toy.labels))  # fmt: skip


def test_fitnet_two_stages_equal_their_formulas() -> None:
    toy = make_toy("fitnet", form="two-stage", hint_share=0.25, kd=0.8, temperature=2.0)
    assert [(s.name, s.share, s.reset_head) for s in toy.method.stages()] == [
        ("hint", 0.25, False), ("kd", 0.75, False)
    ]  # fmt: skip
    hint = toy.terms(Stage("hint"))
    assert list(hint) == ["hint"]
    assert toy.method.connector is not None
    student, teacher = toy.student(toy.images), toy.teacher(toy.images)
    wanted = (toy.method.connector(student.tap("stage2")) - teacher.tap("stage2")).square().mean()
    assert torch.allclose(hint["hint"], 100 * wanted)
    second = toy.terms(Stage("kd"))
    assert torch.allclose(second["ce"], 0.2 * cross_entropy(student.logits, toy.labels), rtol=1e-5)
    assert torch.allclose(second["kd"], 0.8 * losses.kd_loss(student.logits, teacher.logits, 2.0))


def test_fitnet_hint_trains_no_later_layer() -> None:
    toy = make_toy("fitnet", form="two-stage")
    total(toy, Stage("hint")).backward()
    reached = {key for key, p in toy.student.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    early = ("backbone.blocks.0", "backbone.blocks.1")
    assert reached == {key for key, _ in toy.student.named_parameters() if key.startswith(early)}


@pytest.mark.parametrize(("settings", "names"), [({"hint": 0.0}, ["kd"]), ({"hint_share": 0.0}, ["kd"]),
                                                 ({"hint_share": 1.0}, ["hint"])])  # fmt: skip
def test_fitnet_can_omit_either_stage(settings: dict[str, float], names: list[str]) -> None:
    toy = make_toy("fitnet", form="two-stage", **settings)
    assert [stage.name for stage in toy.method.stages()] == names
    assert all(toy.terms(stage) for stage in toy.method.stages())


def test_refilled_batch_centers_equal_global_ones_on_all_images() -> None:
    """On a batch that holds all training images both kinds of centres agree; on a part of them they do not."""
    stage = Stage("classifier")
    over_all, over_batch = make_toy("refilled"), make_toy("refilled", centers="batch")
    assert torch.allclose(over_all.terms(stage)["local"], over_batch.terms(stage)["local"], rtol=1e-5)
    part = torch.arange(0, 24, 2)
    values = []
    for toy in (over_all, over_batch):
        batch = Batch(toy.labels[part], part, "classifier", 0.0)
        values.append(toy.method.loss(batch, toy.student(toy.images[part]), toy.teacher(toy.images[part]))["local"])
    assert not torch.allclose(values[0], values[1], rtol=1e-5)


def test_refilled_cvpr20_equals_its_formula() -> None:
    toy = make_toy("refilled-cvpr20")
    part = torch.arange(16)
    labels, present = toy.labels[part], toy.labels[part].unique()
    student, teacher = toy.student(toy.images[part]), toy.teacher(toy.images[part])
    assert len(present) == 4
    centers = torch.stack([teacher.embedding[labels == c].mean(0) for c in present])
    centers = centers / centers.norm(dim=1, keepdim=True)
    theirs = (teacher.embedding @ centers.T / 2).softmax(1)
    ours = (student.logits[:, present] / 2).log_softmax(1)
    divergence = (theirs * (theirs.log() - ours)).mean()
    for progress in (0.0, 0.3):
        terms = toy.method.loss(Batch(labels, part, "classifier", progress), student, teacher)
        decay = torch.exp(torch.tensor(-0.05 * 200 * progress))
        assert torch.allclose(terms["local"], 1000 * decay * divergence, rtol=1e-4)
        assert torch.allclose(terms["ce"], cross_entropy(student.logits, labels))
    first = toy.method.loss(Batch(labels, part, "embedding", 0.0), student, teacher)
    wanted = losses.tuple_matching_loss(student.embedding, teacher.embedding, labels, tuples="triplet")
    assert torch.allclose(first["tuples"], wanted)
    assert [(s.name, s.share) for s in toy.method.stages()] == [("embedding", 0.5), ("classifier", 0.5)]
