"""Checks of methods."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import itertools
import re
from collections.abc import Iterable, Iterator
from typing import get_args

import torch
from torch import Tensor

from benchmark.backbones.network import Network, Outputs
from benchmark.checks.check import (
    Candidate,
    CheckFailed,
    CheckFunction,
    CheckSuite,
    require,
    require_documentation,
    require_light_import,
    require_typed_settings,
)
from benchmark.checks.randomness import advance_global_generators, global_generators_unchanged
from benchmark.checks.resuming import require_equal_resumed_run
from benchmark.checks.toy import CLASSES, Toy, make_toy
from benchmark.methods import IncrementalDefaults, Method, Needs, Stage, TransferContext
from benchmark.methods.description import describe
from benchmark.methods.episodic import EpisodicMethod
from benchmark.methods.requirements import Relation, Start

METHOD_CHECKS = CheckSuite("method")
_OTHER_CLASSES = tuple(range(100, 100 + CLASSES))


def _needs_loss(function: CheckFunction) -> CheckFunction:
    """Pass methods that learn from experiences: they train in a loop of their own and have no loss to check."""

    @functools.wraps(function)
    def check(candidate: Candidate) -> None:
        if candidate.entry.needs.learns != "experiences":
            function(candidate)

    return check


@METHOD_CHECKS.register
def is_documented(candidate: Candidate) -> None:
    """Its docstring describes it, and names a source if it has a teacher."""
    require_documentation(candidate)
    if candidate.entry.needs.teacher:
        source = re.search(r"arXiv|doi|https?://|\b(19|20)\d\d\b", inspect.getdoc(candidate.entry) or "")
        require(source is not None, "its docstring names no source: an arXiv number, a DOI, an address or a year")


@METHOD_CHECKS.register
def imports_nothing_heavy(candidate: Candidate) -> None:
    """Importing its module imports neither torch nor another slow package."""
    require_light_import(candidate)


@METHOD_CHECKS.register
def settings_are_typed(candidate: Candidate) -> None:
    """Its settings are a frozen dataclass of typed values with defaults and bounds."""
    require_typed_settings(candidate.entry.Settings, "method")


@METHOD_CHECKS.register
def declarations_are_valid(candidate: Candidate) -> None:
    """Its needs, incremental defaults, version and tunable settings have the right types, and it can be described."""
    entry = candidate.entry
    require(isinstance(entry.needs, Needs), f"its needs are a {type(entry.needs).__name__}, not Needs")
    require(
        isinstance(entry.incremental_defaults, IncrementalDefaults),
        f"its incremental_defaults are a {type(entry.incremental_defaults).__name__}, not IncrementalDefaults",
    )
    require(type(entry.version) is int and entry.version >= 1, f"its version is {entry.version!r}, not 1 or more")
    settings = entry.Settings()
    for name in entry.tunable:
        default = getattr(settings, name, None)
        positive = isinstance(default, (int, float)) and default > 0
        require(positive, f"it declares {name!r} as tunable, whose default is {default!r}, not a positive number")
    text, setting_rows, needs, stages = describe(entry)
    require(bool(text and needs and stages), "its description is empty")
    require(all(all(row) for row in setting_rows), "a setting cannot be described")


@METHOD_CHECKS.register
def can_be_built(candidate: Candidate) -> None:
    """It can be built for two networks and prepared for training."""
    make_toy(candidate.name)


@METHOD_CHECKS.register_after("can_be_built", "the method cannot be built")
def stage_shares_sum_to_one(candidate: Candidate) -> None:
    """The shares of its stages sum to 1, and their names differ."""
    stages = make_toy(candidate.name).method.stages()
    if candidate.entry.needs.trains == "nothing":
        require(stages == [], f"it trains nothing and has {len(stages)} stages")
        return
    total = sum(stage.share for stage in stages)
    require(abs(total - 1) < 1e-6, f"the shares of its stages sum to {total:g}")
    require(len({stage.name for stage in stages}) == len(stages), "two of its stages have the same name")


@METHOD_CHECKS.register_after("can_be_built", "the method cannot be built")
@_needs_loss
def loss_terms_are_finite(candidate: Candidate) -> None:
    """The loss of each stage consists of named, finite numbers with a gradient."""
    episodic = issubclass(candidate.entry, EpisodicMethod)
    name, base = ("episode_loss", EpisodicMethod) if episodic else ("loss", Method)
    inputs = "student, episode" if episodic else "batch, student, teacher"
    own = getattr(candidate.entry, name)
    require(own is not getattr(base, name) or not _stages(candidate), f"it has no method `{name}(self, {inputs})`")
    try:
        inspect.signature(own).bind(None, *inputs.split(", "))
    except TypeError:
        raise CheckFailed(
            f"`{name}{inspect.signature(own)}` is called with {inputs}: these must be its inputs"
        ) from None
    for stage, toy in _stages_with_toys(candidate):
        try:
            terms = toy.terms(stage)
        except Exception:
            if _reads_teacher_undeclared(toy, stage):
                raise CheckFailed("its loss reads the teacher: `needs = Needs(teacher=True)` is missing") from None
            raise
        require(bool(terms), f"stage {stage.name!r} has no terms")
        for name, value in terms.items():
            require(bool(torch.isfinite(value)), f"stage {stage.name!r}, term {name!r} is {float(value.detach())}")
        require(any(value.requires_grad for value in terms.values()), f"stage {stage.name!r} has no gradient")


@METHOD_CHECKS.register_after("loss_terms_are_finite", "the loss cannot be evaluated")
@_needs_loss
def every_term_trains(candidate: Candidate) -> None:
    """Every term, alone, has a gradient for a parameter that is trained."""
    dead: dict[tuple[str, str], bool] = {}
    for progress in (0.0, 0.5, 0.9):  # a weight may rise or fall over a stage
        for stage, toy in _stages_with_toys(candidate):
            _perturb(toy.parameters())  # a distance from the start has no gradient at the start
            for name, value in toy.terms(stage, progress).items():
                gradients: tuple[Tensor | None, ...] = ()
                if value.requires_grad:
                    gradients = torch.autograd.grad(value, toy.parameters(), retain_graph=True, allow_unused=True)
                reaches = any(gradient is not None and bool(gradient.any()) for gradient in gradients)
                dead[stage.name, name] = dead.get((stage.name, name), True) and not reaches
    for (stage_name, name), never in dead.items():
        require(
            not never,
            f"stage {stage_name!r}, term {name!r} has no gradient for any trained parameter: it teaches nothing; is "
            "the student's side detached?",
        )


@METHOD_CHECKS.register_after("loss_terms_are_finite", "the loss cannot be evaluated")
@_needs_loss
def gradients_reach_student(candidate: Candidate) -> None:
    """Gradients reach every part of the student that it trains, and neither other parts nor the teacher."""
    toy = make_toy(candidate.name)
    trains = toy.method.needs.trains
    networks = toy.student.backbone, toy.teacher
    states_before = [{key: value.clone() for key, value in network.state_dict().items()} for network in networks]
    reached: set[str] = set()
    for stage in toy.method.stages():
        toy.student.zero_grad()
        torch.stack(list(toy.terms(stage).values())).sum().backward()
        for key, parameter in toy.student.named_parameters():
            if parameter.grad is not None:
                require(bool(torch.isfinite(parameter.grad).all()), f"the gradient of {key} is not finite")
                if parameter.grad.abs().sum() > 0:
                    reached.add(key)
    trained_prefixes = {"all": ("backbone.", "head."), "head": ("head.",), "nothing": ()}[trains]
    if trained_prefixes and not any(stage.head for stage in toy.method.stages()):
        trained_prefixes = ("backbone.",)
    trained = {key for key, _ in toy.student.named_parameters() if key.startswith(trained_prefixes)}
    require(reached >= trained, f"no gradient reaches {', '.join(sorted(trained - reached))}")
    require(reached <= trained, f"a gradient reaches {', '.join(sorted(reached - trained))}, which it does not train")
    require(all(parameter.grad is None for parameter in toy.teacher.parameters()), "a gradient reaches the teacher")
    require(not toy.teacher.training, "it puts the teacher into training mode")
    backbone_unchanged, teacher_unchanged = (
        all(torch.equal(network.state_dict()[key], value) for key, value in state.items())
        for network, state in zip(networks, states_before, strict=True)
    )
    require(teacher_unchanged, "it changes the teacher")
    require(backbone_unchanged or trains == "all", "it changes the student's backbone, which it does not train")


@METHOD_CHECKS.register_after("loss_terms_are_finite", "the loss cannot be evaluated")
@_needs_loss
def reads_declared_inputs_only(candidate: Candidate) -> None:
    """Its loss reads the taps, the teacher and the student's weights only if its needs declare them."""
    if issubclass(candidate.entry, EpisodicMethod):
        return
    needs = candidate.entry.needs
    pairs = zip(_stages_with_toys(candidate), _stages_with_toys(candidate), strict=True)
    for (stage, toy), (_, scaled_toy) in pairs:
        try:
            terms, scaled_terms = _terms_of_declared(toy, stage, 1), _terms_of_declared(scaled_toy, stage, 1.5)
        except (KeyError, AttributeError, AssertionError) as error:
            declared = f"taps {needs.taps!r}, teacher {needs.teacher and stage.teacher}"
            raise CheckFailed(
                f"stage {stage.name!r} reads what its needs do not declare ({declared}): {type(error).__name__} {error}"
            ) from None
        changed = [name for name in terms if not torch.equal(terms[name], scaled_terms[name])]
        require(
            needs.weights or not changed,
            f"stage {stage.name!r}, term {', '.join(changed)} reads the student's weights: declare Needs(weights=True)",
        )


@METHOD_CHECKS.register_after("loss_terms_are_finite", "the loss cannot be evaluated")
@_needs_loss
def is_deterministic(candidate: Candidate) -> None:
    """The same seed gives the same loss and gradients bit for bit, and global generators stay unchanged."""
    repetitions = []
    for _ in range(2):
        advance_global_generators()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            with global_generators_unchanged(allow_torch_draws=True):
                toy = make_toy(candidate.name)
                values = [value for stage in toy.method.stages() for value in toy.terms(stage).values()]
                if values:
                    torch.stack(values).sum().backward()
        gradients = [parameter.grad for parameter in toy.parameters() if parameter.grad is not None]
        repetitions.append([*(value.detach() for value in values), *gradients])
    first, second = repetitions
    equal = len(first) == len(second) and all(map(torch.equal, first, second))
    require(equal, "the same loss computed twice gives different values")


@METHOD_CHECKS.register_after("loss_terms_are_finite", "the loss cannot be evaluated")
@_needs_loss
def leaves_inputs_unchanged(candidate: Candidate) -> None:
    """Its loss changes neither the batch nor the outputs of the networks."""
    for stage, toy in _stages_with_toys(candidate):
        if isinstance(toy.method, EpisodicMethod):
            return
        batch, (student, teacher) = toy.batch(stage), toy.outputs()
        inputs = {
            "labels": batch.labels,
            "index": batch.index,
            **{f"student's {name}": value for name, value in _named_tensors(student)},
            **{f"teacher's {name}": value for name, value in _named_tensors(teacher)},
        }
        before = {name: value.detach().clone() for name, value in inputs.items()}
        toy.method.loss(batch, student, teacher if toy.method.needs.teacher else None)
        changed = [name for name, value in inputs.items() if not torch.equal(value.detach(), before[name])]
        require(not changed, f"stage {stage.name!r} changes the {', '.join(changed)}")


@METHOD_CHECKS.register_after("loss_terms_are_finite", "the loss cannot be evaluated")
@_needs_loss
def loss_decreases(candidate: Candidate) -> None:
    """A few steps lower the loss of every stage."""
    toy = make_toy(candidate.name)
    for stage in toy.method.stages():
        if stage.reset_head:
            toy.student.reset_head()
        optimiser = torch.optim.SGD(toy.parameters(), lr=0.02)
        losses = []
        for _ in range(8):
            loss = torch.stack(list(toy.terms(stage).values())).sum()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(float(loss.detach()))
        require(losses[-1] < losses[0], f"stage {stage.name!r}: eight steps lead from {losses[0]:g} to {losses[-1]:g}")


@METHOD_CHECKS.register_after("loss_terms_are_finite", "the loss cannot be evaluated")
@_needs_loss
def connector_state_round_trips(candidate: Candidate) -> None:
    """If it has a connector, gradients reach all of it, and its state can be saved and loaded."""
    toy, other = make_toy(candidate.name), make_toy(candidate.name)
    if toy.method.connector is None or other.method.connector is None:
        require(toy.method.connector is other.method.connector, "only one of two equal objects has a connector")
        return
    values = [value for stage in toy.method.stages() for value in toy.terms(stage).values()]
    torch.stack(values).sum().backward()
    untrained = [name for name, parameter in toy.method.connector.named_parameters() if parameter.grad is None]
    require(not untrained, f"no gradient reaches {', '.join(untrained)} of its connector")
    saved = toy.method.connector.state_dict()
    with torch.no_grad():
        for parameter in other.method.connector.parameters():
            parameter.add_(1)
    other.method.connector.load_state_dict(saved)
    equal = all(torch.equal(value, saved[name]) for name, value in other.method.connector.state_dict().items())
    require(equal, "its connector differs after its state was saved and loaded")


@METHOD_CHECKS.register
def skip_reasons_are_valid(candidate: Candidate) -> None:
    """For every transfer context it either applies or gives a reason."""
    entry = candidate.entry
    choices = get_args(Relation), ("a", "b"), get_args(Start), (None, 0, 5), (False, True), (False, True)
    for relation, student, start, exemplars, many, episodes in itertools.product(*choices):
        context = TransferContext(relation, student, "a", start, exemplars, parallel_students=many, episodic=episodes)
        reason = entry.skip_reason(context)
        valid = reason is None or (isinstance(reason, str) and bool(reason.strip()))
        require(valid, f"its skip_reason is {reason!r}, neither None nor a text, for {context}")
    home: Relation = "extended" if entry.needs.labels == "extended" else "same"
    home_contexts = (
        TransferContext(home, "a", "a"),
        TransferContext(home, "a", "a", evaluated="embedding", episodic=True),
    )
    require(
        any(entry.skip_reason(context) is None for context in home_contexts),
        f"it does not apply to its own label space, {home}",
    )
    require(entry.backbone("a", "b") in ("a", "b"), "the backbone of its student is neither student's nor teacher's")


@METHOD_CHECKS.register_after("loss_terms_are_finite", "the loss cannot be evaluated")
@_needs_loss
def ignores_numbers_of_classes(candidate: Candidate) -> None:
    """Where the teacher's classes are others than the student's, no term depends on how they are numbered."""
    orders = torch.arange(CLASSES).roll(2), torch.arange(CLASSES).flip(0)
    relations: tuple[tuple[Relation, tuple[int, ...]], ...] = (
        ("disjoint", _OTHER_CLASSES), ("overlap", (*range(2, CLASSES), *_OTHER_CLASSES[:2]))
    )  # fmt: skip
    for relation, classes in relations:
        if candidate.entry.skip_reason(TransferContext(relation, "a", "a")) is not None:
            continue
        for number, stage in enumerate(_stages(candidate)):
            place = f"with a teacher of {'other' if relation == 'disjoint' else 'some other'} classes"
            terms = _seeded_terms(make_toy(candidate.name, classes), number)
            for name, value in terms.items():
                label = f"{place} stage {stage.name!r}, term {name!r}"
                require(bool(torch.isfinite(value)), f"{label} is {float(value.detach())}")
            for order in orders:
                # disjoint: the numbers of outputs mean nothing; overlap: outputs are known by their class alone
                renumbered = classes if relation == "disjoint" else tuple(classes[i] for i in order.tolist())
                toy = make_toy(candidate.name, renumbered)
                _permute_outputs(toy.teacher, order)
                for name, value in _seeded_terms(toy, number).items():
                    require(
                        torch.allclose(value, terms[name], rtol=1e-3, atol=1e-6),
                        f"{place} stage {stage.name!r}, term {name!r} changes if the teacher's outputs are numbered in "
                        "another order: it compares classes by their number; take `self.shared_logits`, or declare "
                        "`labels='same'` in its needs",
                    )


@METHOD_CHECKS.register_after("loss_terms_are_finite", "the loss cannot be evaluated")
def resumes_bit_for_bit(candidate: Candidate) -> None:
    """A run that is interrupted in each stage and resumed gives the same result bit for bit."""
    require_equal_resumed_run(candidate)


def _stages(candidate: Candidate) -> list[Stage]:
    stages: list[Stage] = make_toy(candidate.name).method.stages()
    return stages


def _reads_teacher_undeclared(toy: Toy, stage: Stage) -> bool:
    """Whether a loss that fails without the teacher's outputs succeeds with them, and its needs do not ask for them."""
    if toy.method.needs.teacher or isinstance(toy.method, EpisodicMethod):
        return False
    try:
        toy.method.loss(toy.batch(stage), *toy.outputs())
    except Exception:
        return False
    return True


def _seeded_terms(toy: Toy, stage: int) -> dict[str, Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return {name: value.detach() for name, value in toy.terms(toy.method.stages()[stage]).items()}


def _perturb(parameters: Iterable[torch.nn.Parameter]) -> None:
    generator = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for parameter in parameters:
            parameter.add_(0.01 * torch.randn(parameter.shape, generator=generator))


def _permute_outputs(network: Network, order: Tensor) -> None:
    """Permute the outputs of a network in place."""
    with torch.no_grad():
        for parameter in (network.head.weight, network.head.bias):
            parameter.copy_(parameter[order])


def _stages_with_toys(
    candidate: Candidate, teacher_classes: tuple[int, ...] = tuple(range(CLASSES))
) -> Iterator[tuple[Stage, Toy]]:
    """Yield every stage with a new toy problem."""
    for number in range(len(make_toy(candidate.name, teacher_classes).method.stages())):
        toy = make_toy(candidate.name, teacher_classes)
        yield toy.method.stages()[number], toy


def _terms_of_declared(toy: Toy, stage: Stage, scale: float) -> dict[str, Tensor]:
    """The loss terms from declared inputs only. The student's weights are scaled after its forward pass."""
    needs, (student, teacher) = toy.method.needs, toy.outputs()
    taps = {list(student.stages)[-1] if tap == "last" else tap for tap in needs.taps}
    student, teacher = (
        dataclasses.replace(outputs, stages={name: value for name, value in outputs.stages.items() if name in taps})
        for outputs in (student, teacher)
    )
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(5)
        for parameter in toy.student.parameters():
            parameter.mul_(scale)
        return toy.method.loss(toy.batch(stage), student, teacher if needs.teacher and stage.teacher else None)


def _named_tensors(outputs: Outputs) -> list[tuple[str, Tensor]]:
    return [*outputs.stages.items(), ("embedding", outputs.embedding), ("logits", outputs.logits)]
