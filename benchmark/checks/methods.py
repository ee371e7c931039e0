"""What every method keeps to."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import itertools
import re
from collections.abc import Iterator
from typing import Any, get_args

import torch
from torch import Tensor

from benchmark.backbones.network import Outputs
from benchmark.checks.check import (
    Broken,
    Contract,
    Rule,
    Subject,
    check_documented,
    check_light,
    check_settings,
    require,
)
from benchmark.checks.randomness import disturb, untouched
from benchmark.checks.resuming import check_goes_on
from benchmark.checks.toy import CLASSES, Toy, make_toy
from benchmark.methods import IncrementalDefaults, Needs, Stage, TransferContext
from benchmark.methods.base import Relation, Start
from benchmark.methods.description import describe
from benchmark.methods.episodic import EpisodicMethod

METHOD = Contract("method")
_DISJOINT = tuple(range(100, 100 + CLASSES))


def _of_losses(rule: Rule) -> Rule:
    """A rule on a method's loss, which one that learns from experiences in a loop of its own does not have."""

    @functools.wraps(rule)
    def check(subject: Subject) -> None:
        if subject.entry.needs.learns != "experiences":
            rule(subject)

    return check


@METHOD.rule
def documented(subject: Subject) -> None:
    """Its docstring says what it is, and where it is from if it has a teacher."""
    check_documented(subject)
    if subject.entry.needs.teacher:
        source = re.search(r"arXiv|doi|https?://|\b(19|20)\d\d\b", inspect.getdoc(subject.entry) or "")
        require(source is not None, "its docstring names no source: an arXiv number, a DOI, an address or a year")


@METHOD.rule
def light(subject: Subject) -> None:
    """Importing it imports neither torch nor anything else that is slow."""
    check_light(subject)


@METHOD.rule
def typed(subject: Subject) -> None:
    """Its settings are a frozen dataclass of typed values with defaults and bounds."""
    check_settings(subject.entry.Settings, "method")


@METHOD.rule
def declared(subject: Subject) -> None:
    """Its needs, slots, version and what is searched are of their types, and it can be described."""
    entry = subject.entry
    require(isinstance(entry.needs, Needs), f"its needs are a {type(entry.needs).__name__}, not Needs")
    require(
        isinstance(entry.incremental_defaults, IncrementalDefaults),
        f"its slots are a {type(entry.incremental_defaults).__name__}, not Slots",
    )
    require(type(entry.version) is int and entry.version >= 1, f"its version is {entry.version!r}, not 1 or more")
    own = entry.Settings()
    for name in entry.tunable:
        value = getattr(own, name, None)
        positive = isinstance(value, (int, float)) and value > 0
        require(positive, f"it declares {name!r} as searched, whose default is {value!r}, not a positive number")
    text, settings, needs, stages = describe(entry)
    require(bool(text and needs and stages), "its description is empty")
    require(all(all(row) for row in settings), "a setting cannot be described")


@METHOD.rule
def shared_out(subject: Subject) -> None:
    """The shares of its stages sum to 1, and no two have one name."""
    stages = make_toy(subject.name).method.stages()
    if subject.entry.needs.trains == "nothing":
        require(stages == [], f"it trains nothing and has {len(stages)} stages")
        return
    total = sum(stage.share for stage in stages)
    require(abs(total - 1) < 1e-6, f"the shares of its stages sum to {total:g}")
    require(len({stage.name for stage in stages}) == len(stages), "two of its stages have one name")


@METHOD.rule
@_of_losses
def terms(subject: Subject) -> None:
    """The loss of each stage is made of named, finite numbers with a gradient."""
    for stage, toy in _each_stage(subject):
        found = toy.terms(stage)
        require(isinstance(found, dict) and bool(found), f"stage {stage.name!r} has no terms")
        for name, value in found.items():
            where = f"stage {stage.name!r}, term {name!r}"
            require(isinstance(name, str), f"{where} is not named by text")
            require(isinstance(value, Tensor) and value.ndim == 0, f"{where} is no tensor without dimensions")
            require(bool(torch.isfinite(value)), f"{where} is {float(value.detach())}")
        require(any(value.requires_grad for value in found.values()), f"stage {stage.name!r} has no gradient")


@METHOD.rule
@_of_losses
def reaches(subject: Subject) -> None:
    """Gradients reach all of the student that it says it trains, and neither the rest nor the teacher."""
    toy = make_toy(subject.name)
    before = [{k: v.clone() for k, v in net.state_dict().items()} for net in (toy.student.backbone, toy.teacher)]
    reached: set[str] = set()
    for stage in toy.method.stages():
        toy.student.zero_grad()
        torch.stack(list(toy.terms(stage).values())).sum().backward()
        for key, parameter in toy.student.named_parameters():
            if parameter.grad is not None:
                require(bool(torch.isfinite(parameter.grad).all()), f"the gradient of {key} is not finite")
                if parameter.grad.abs().sum() > 0:
                    reached.add(key)
    learns = {"all": ("backbone.", "head."), "head": ("head.",), "nothing": ()}[toy.method.needs.trains]
    if learns and not any(stage.head for stage in toy.method.stages()):
        learns = ("backbone.",)
    wanted = {key for key, _ in toy.student.named_parameters() if key.startswith(learns)}
    require(reached >= wanted, f"no gradient reaches {', '.join(sorted(wanted - reached))}")
    require(reached <= wanted, f"a gradient reaches {', '.join(sorted(reached - wanted))}, which it does not train")
    require(all(p.grad is None for p in toy.teacher.parameters()), "a gradient reaches the teacher")
    require(not toy.teacher.training, "it puts the teacher into training mode")
    after = [net.state_dict() for net in (toy.student.backbone, toy.teacher)]
    same = [all(torch.equal(a[k], v) for k, v in b.items()) for a, b in zip(after, before, strict=True)]
    require(same[1], "it changes the teacher")
    require(same[0] or toy.method.needs.trains == "all", "it changes the student's backbone, which it does not train")


@METHOD.rule
@_of_losses
def reads(subject: Subject) -> None:
    """Its loss reads what it says it needs and nothing else: taps, teacher, the student's weights."""
    if issubclass(subject.entry, EpisodicMethod):
        return
    needs = subject.entry.needs
    for (stage, toy), (_, other) in zip(_each_stage(subject), _each_stage(subject), strict=True):
        asked = f"taps {needs.taps!r}, teacher {needs.teacher and stage.teacher}"
        try:
            found, again = _limited_terms(toy, stage, 1), _limited_terms(other, stage, 1.5)
        except (KeyError, AttributeError, AssertionError) as error:
            raise Broken(
                f"stage {stage.name!r} reads what it does not ask for ({asked}): {type(error).__name__} {error}"
            ) from None
        moved = [name for name in found if not torch.equal(found[name], again[name])]
        require(
            needs.weights or not moved,
            f"stage {stage.name!r}, term {', '.join(moved)} reads the student's weights: say so, Needs(weights=True)",
        )


@METHOD.rule
@_of_losses
def deterministic(subject: Subject) -> None:
    """The same seed gives the same loss and gradients, bit for bit; the generators of others stay as they are."""
    found = []
    for _ in range(2):
        disturb()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            with untouched(torch_too=False):
                toy = make_toy(subject.name)
                values = [value for stage in toy.method.stages() for value in toy.terms(stage).values()]
                if values:
                    torch.stack(values).sum().backward()
        gradients = [parameter.grad for parameter in toy.parameters() if parameter.grad is not None]
        found.append([*(value.detach() for value in values), *gradients])
    require(
        len(found[0]) == len(found[1]) and all(map(torch.equal, *found)), "twice the same loss gives different values"
    )


@METHOD.rule
@_of_losses
def leaves(subject: Subject) -> None:
    """Its loss changes nothing of the batch and the outputs that it is given."""
    for stage, toy in _each_stage(subject):
        if isinstance(toy.method, EpisodicMethod):
            return
        batch, (student, teacher) = toy.batch(stage), toy.outputs()
        given = {
            "labels": batch.labels,
            "index": batch.index,
            **{f"student's {name}": value for name, value in _tensors(student)},
            **{f"teacher's {name}": value for name, value in _tensors(teacher)},
        }
        before = {name: value.detach().clone() for name, value in given.items()}
        toy.method.loss(batch, student, teacher if toy.method.needs.teacher else None)
        changed = [name for name, value in given.items() if not torch.equal(value.detach(), before[name])]
        require(not changed, f"stage {stage.name!r} changes the {', '.join(changed)}")


@METHOD.rule
@_of_losses
def learns(subject: Subject) -> None:
    """A few steps lower the loss of every stage."""
    toy = make_toy(subject.name)
    for stage in toy.method.stages():
        if stage.reset_head:
            toy.student.reset_head()
        optimiser = torch.optim.SGD(toy.parameters(), lr=0.02)
        values = []
        for _ in range(8):
            loss = torch.stack(list(toy.terms(stage).values())).sum()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            values.append(float(loss.detach()))
        require(values[-1] < values[0], f"stage {stage.name!r}: eight steps lead from {values[0]:g} to {values[-1]:g}")


@METHOD.rule
@_of_losses
def connected(subject: Subject) -> None:
    """Its connector, if it has one, learns and can be kept."""
    toy, other = make_toy(subject.name), make_toy(subject.name)
    if toy.method.connector is None or other.method.connector is None:
        require(toy.method.connector is other.method.connector, "it has a connector only sometimes")
        return
    values = [value for stage in toy.method.stages() for value in toy.terms(stage).values()]
    torch.stack(values).sum().backward()
    idle = [name for name, p in toy.method.connector.named_parameters() if p.grad is None]
    require(not idle, f"no gradient reaches {', '.join(idle)} of its connector")
    kept = toy.method.connector.state_dict()
    with torch.no_grad():
        for parameter in other.method.connector.parameters():
            parameter.add_(1)
    other.method.connector.load_state_dict(kept)
    same = all(torch.equal(value, kept[name]) for name, value in other.method.connector.state_dict().items())
    require(same, "its connector is another after its state was kept and read")


@METHOD.rule
def applies(subject: Subject) -> None:
    """It says of every situation whether it applies, and where it does its loss is finite."""
    entry = subject.entry
    choices = get_args(Relation), ("a", "b"), get_args(Start), (None, 0, 5), _TRUTH, _TRUTH
    for relation, student, start, exemplars, many, episodes in itertools.product(*choices):
        where = TransferContext(relation, student, "a", start, exemplars, many=many, episodes=episodes)
        reason = entry.skip_reason(where)
        require(reason is None or (isinstance(reason, str) and bool(reason.strip())), f"of {where} it says {reason!r}")
    home: Relation = "extended" if entry.needs.labels == "extended" else "same"
    at_home = [TransferContext(home, "a", "a"), TransferContext(home, "a", "a", judged="embedding", episodes=True)]
    require(
        any(entry.skip_reason(where) is None for where in at_home), f"it does not apply to its own label space, {home}"
    )
    require(entry.backbone("a", "b") in ("a", "b"), "the backbone of its student is neither student's nor teacher's")
    if entry.skip_reason(TransferContext("disjoint", "a", "a")) is None and entry.needs.learns != "experiences":
        for stage, toy in _each_stage(subject, _DISJOINT):
            for name, value in toy.terms(stage).items():
                what = f"with a teacher of other classes stage {stage.name!r}, term {name!r}"
                require(bool(torch.isfinite(value)), f"{what} is {float(value.detach())}")


_TRUTH = (False, True)


@METHOD.rule
def continues(subject: Subject) -> None:
    """A run of it that is broken off goes on and ends bit for bit as one that never was."""
    check_goes_on(subject)


def _each_stage(subject: Subject, teacher_classes: tuple[int, ...] | None = None) -> Iterator[tuple[Stage, Toy]]:
    """Every stage with a toy of its own."""
    more: dict[str, Any] = {} if teacher_classes is None else {"teacher_classes": teacher_classes}
    for number in range(len(make_toy(subject.name, **more).method.stages())):
        toy = make_toy(subject.name, **more)
        yield toy.method.stages()[number], toy


def _limited_terms(toy: Toy, stage: Stage, scale: float) -> dict[str, Tensor]:
    """The loss by what the method says it reads, the student's weights scaled behind its back."""
    needs, (student, teacher) = toy.method.needs, toy.outputs()
    taps = {list(student.stages)[-1] if tap == "last" else tap for tap in needs.taps}
    limited, guide = (
        dataclasses.replace(outputs, stages={name: x for name, x in outputs.stages.items() if name in taps})
        for outputs in (student, teacher)
    )
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(5)
        for parameter in toy.student.parameters():
            parameter.mul_(scale)
        return toy.method.loss(toy.batch(stage), limited, guide if needs.teacher and stage.teacher else None)


def _tensors(outputs: Outputs) -> list[tuple[str, Tensor]]:
    return [*outputs.stages.items(), ("embedding", outputs.embedding), ("logits", outputs.logits)]
