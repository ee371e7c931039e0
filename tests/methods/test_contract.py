"""Contract of every registered method."""

from __future__ import annotations

import dataclasses
import inspect

import pytest
import torch

from benchmark.contracts.toy import CLASSES, make_toy
from benchmark.errors import InputError
from benchmark.methods import METHODS, Situation
from benchmark.spec import build_settings

NAMES = METHODS.names()
DISJOINT = tuple(range(100, 100 + CLASSES))


@pytest.mark.parametrize("name", NAMES)
def test_stages_share_the_whole_budget(name: str) -> None:
    stages = make_toy(name).method.stages()
    if METHODS.get(name).entry.needs.trains == "nothing":
        assert stages == []
        return
    assert sum(stage.share for stage in stages) == pytest.approx(1)
    assert len({stage.name for stage in stages}) == len(stages)


@pytest.mark.parametrize("name", NAMES)
def test_a_few_steps_lower_the_loss_of_every_stage(name: str) -> None:
    toy = make_toy(name)
    for stage in toy.method.stages():
        if stage.fresh_head:
            toy.student.fresh_head()
        optimiser = torch.optim.SGD(toy.parameters(), lr=0.02)
        values = []
        for _ in range(8):
            loss = torch.stack(list(toy.terms(stage).values())).sum()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            values.append(float(loss.detach()))
        assert values[-1] < values[0]


@pytest.mark.parametrize("name", NAMES)
def test_gradient_reaches_the_student_and_never_the_teacher(name: str) -> None:
    toy = make_toy(name)
    before_student = {key: value.clone() for key, value in toy.student.backbone.state_dict().items()}
    before = {key: value.clone() for key, value in toy.teacher.state_dict().items()}
    reached: set[str] = set()
    for stage in toy.method.stages():
        toy.student.zero_grad()
        torch.stack(list(toy.terms(stage).values())).sum().backward()
        for key, parameter in toy.student.named_parameters():
            if parameter.grad is not None:
                assert torch.isfinite(parameter.grad).all()
                if parameter.grad.abs().sum() > 0:
                    reached.add(key)
    learns = {"all": ("backbone.", "head."), "head": ("head.",), "nothing": ()}[toy.method.needs.trains]
    if learns and not any(stage.head for stage in toy.method.stages()):
        learns = ("backbone.",)
    assert reached == {key for key, _ in toy.student.named_parameters() if key.startswith(learns)}
    assert all(p.grad is None for p in toy.teacher.parameters())
    assert not toy.teacher.training
    if toy.method.needs.trains != "all":
        after = toy.student.backbone.state_dict()
        assert all(torch.equal(value, after[key]) for key, value in before_student.items())
    assert all(torch.equal(before[key], value) for key, value in toy.teacher.state_dict().items())


@pytest.mark.parametrize("name", NAMES)
def test_a_connector_learns_and_its_state_survives(name: str) -> None:
    toy, other = make_toy(name), make_toy(name)
    if toy.method.connector is None:
        assert other.method.connector is None
        return
    assert other.method.connector is not None
    terms = [toy.terms(stage) for stage in toy.method.stages()]
    torch.stack([value for part in terms for value in part.values()]).sum().backward()
    assert all(p.grad is not None for p in toy.method.connector.parameters())
    other.method.connector.load_state_dict(toy.method.connector.state_dict())
    pairs = zip(toy.method.connector.state_dict().values(), other.method.connector.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("name", NAMES)
def test_settings_reject_what_they_do_not_know(name: str) -> None:
    settings = METHODS.get(name).entry.Settings
    assert build_settings(settings, {}, "method") == settings()
    with pytest.raises(InputError, match=r"no setting method\.nonsense"):
        build_settings(settings, {"nonsense": 1}, "method")
    for field in dataclasses.fields(settings):
        if field.type != "str":
            with pytest.raises(InputError, match=rf"method\.{field.name}"):
                build_settings(settings, {field.name: "nonsense"}, "method")


@pytest.mark.parametrize("name", NAMES)
def test_label_spaces_are_data(name: str) -> None:
    method = METHODS.get(name).entry
    home = "extended" if method.needs.labels == "extended" else "same"
    if method.needs.learns == "episodes":
        assert "fewshot protocols" in str(method.applies(Situation(home, "a", "a")))
        for relation in ("same", "disjoint"):
            assert method.applies(Situation(relation, "a", "b", judged="embedding", episodes=True)) is None
        return
    assert method.applies(Situation(home, "a", "a")) is None
    if method.applies(Situation("disjoint", "a", "a")) is None:
        toy = make_toy(name, teacher_classes=DISJOINT)
        for stage in toy.method.stages():
            assert all(torch.isfinite(value) for value in toy.terms(stage).values())
    else:
        assert method.needs.labels in ("same", "overlap", "extended")
    assert (method.applies(Situation(home, "a", "b")) is None) == (method.needs.start != "teacher")
    assert (method.applies(Situation(home, "a", "b", start="teacher")) is None) == (method.needs.start == "fresh")
    assert (method.applies(Situation("extended", "a", "a", exemplars=0)) is None) == (
        method.needs.labels in ("any", "overlap", "extended") and method.slots.head == "net"
    )
    assert method.backbone("a", "b") == ("a" if method.needs.trains == "all" else "b")


@pytest.mark.parametrize("name", NAMES)
def test_the_docstring_says_what_it_is(name: str) -> None:
    text = inspect.getdoc(METHODS.get(name).entry) or ""
    first = text.split("\n", 1)[0]
    assert first.endswith(".")
    if METHODS.get(name).entry.needs.teacher:
        assert "arXiv" in text
