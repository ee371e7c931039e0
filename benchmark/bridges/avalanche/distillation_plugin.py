"""Our methods for Avalanche's users: a plugin that adds a loss to any strategy, and a strategy of all stages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from benchmark.backbones.network import Network, Outputs
from benchmark.bridges.avalanche.benchmark import load_avalanche, quiet
from benchmark.errors import InputError
from benchmark.methods import METHODS, Batch, LabelSpaces, Method, Stage, TransferContext
from benchmark.methods.base import Relation
from benchmark.settings import build_settings
from benchmark.spec import Training
from benchmark.training.initialisation import build_method
from benchmark.training.optimisation import build_optimiser, share_steps


class LogitNetwork(nn.Module):
    """A network as Avalanche's strategies want a model: from images to logits.

    ``outputs``: all that it made of the latest images while it ``keeps``; None else, for what is kept of a batch cannot
    be copied. A method's connector joins it, and with it the strategy's optimiser.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        self.connector: nn.Module | None = None
        self.keeps = False
        self.outputs: Outputs | None = None

    def forward(self, images: Tensor) -> Tensor:
        outputs: Outputs = self.network(images)
        if self.keeps:
            self.outputs = outputs
        return outputs.logits


class Guidance:
    """A method's loss on the batches of a strategy. The arguments are those of ``distillation_plugin``."""

    def __init__(
        self, method: str, model: LogitNetwork, teacher: Network, shape: tuple[int, int, int],
        teacher_classes: Sequence[int], seed: int, settings: dict[str, Any],
    ) -> None:  # fmt: skip
        entry = METHODS.get(method).entry
        labels = LabelSpaces(tuple(range(model.network.head.out_features)), tuple(teacher_classes))
        if labels.teacher and len(labels.teacher) != teacher.head.out_features:
            raise InputError(
                f"teacher_classes names {len(labels.teacher)} classes and the teacher has {teacher.head.out_features} "
                "outputs; name the benchmark's class of each, or none for a teacher of other classes"
            )
        built: Any = build_settings(entry.Settings, settings, "method")
        _check(method, entry, labels, built)
        channels, height, width = shape
        if height != width:
            raise InputError(f"shape = {shape}: images must be square, as (3, 32, 32)")
        self.model, self.teacher = model, teacher.eval().requires_grad_(False)
        self.method = build_method(method, built, labels, model.network, teacher, seed, channels=channels, size=height)
        if self.method.connector is not None:
            model.connector = self.method.connector
        self._labels: list[Tensor] = []
        self._embeddings: list[Tensor] = []

    def meet(self, dataset: Any, device: torch.device) -> None:
        """Prepare for an experience. What the teacher makes of its images is kept for later ones, not the images."""
        self.teacher.to(device)
        with torch.no_grad():
            for images, labels, *_ in torch.utils.data.DataLoader(dataset, batch_size=256):
                self._labels.append(labels.to(device))
                if self.method.reads_train_embeddings:
                    self._embeddings.append(self.teacher.embed(images.to(device)).float())
        embeddings = torch.cat(self._embeddings) if self._embeddings else None
        self.method.prepare(self.model.network, torch.cat(self._labels), embeddings)

    def terms(self, images: Tensor, labels: Tensor, stage: str, progress: float) -> dict[str, Tensor]:
        """The method's terms of the batch that the model has just seen."""
        assert self.model.outputs is not None
        with torch.no_grad():
            guide: Outputs = self.teacher(images)
        batch = Batch(labels, torch.empty(0, dtype=torch.int64), stage, progress)
        return self.method.loss(batch, self.model.outputs.float(), guide.float())


def distillation_plugin(
    method: str,
    model: LogitNetwork,
    teacher: Network,
    *,
    shape: tuple[int, int, int],
    teacher_classes: Sequence[int] = (),
    stage: str = "",
    mode: Literal["add", "replace"] = "add",
    seed: int = 0,
    **settings: Any,
) -> Any:
    """A ``SupervisedPlugin`` with which any strategy distils: ``method`` by its name, with ``settings`` of its own.

    ``model`` is the strategy's model, ``teacher`` guides it in eval mode; ``shape``: of an image, C x H x W, square;
    ``teacher_classes``: the benchmark's class of each of the teacher's outputs, none for a teacher of other classes.
    ``stage``: whose loss it is, the last by default: of ``refilled`` cross-entropy and the local classifier. ``add``
    adds its terms to the strategy's loss, all but cross-entropy, which the strategy has; ``replace`` puts all of them
    in the loss's place. ``seed``: of a connector's weights.

    What a method knows of all training images, such as class centres, is of the experiences so far. Methods without a
    teacher, that read the student's weights, or which image is which, raise ``InputError``.
    """
    guidance = Guidance(method, model, teacher, shape, teacher_classes, seed, settings)
    stages = [part.name for part in guidance.method.stages()]
    if stage and stage not in stages:
        raise InputError(f"{method} has no stage {stage!r}; it has {', '.join(stages)}")
    return _plugin(guidance, stage or stages[-1], mode)


def staged_strategy(
    method: str,
    model: LogitNetwork,
    teacher: Network,
    *,
    training: Training,
    shape: tuple[int, int, int],
    teacher_classes: Sequence[int] = (),
    device: str | torch.device = "cpu",
    plugins: Sequence[Any] = (),
    evaluator: Any = None,
    seed: int = 0,
    **settings: Any,
) -> Any:
    """A strategy that trains by all stages of a method on every experience: by both of ``refilled``.

    ``training``: steps per experience, which the stages share, images per step, and the optimiser with its rate, as in
    every run; sampler and crops are the benchmark's affair. A stage that asks for a fresh head gets one on the first
    experience alone: later ones go on with what is known of earlier classes. The rest is as of ``distillation_plugin``.
    """
    guidance = Guidance(method, model, teacher, shape, teacher_classes, seed, settings)
    plugin = _plugin(guidance, "", "replace")
    template: Any = load_avalanche().training.templates.SupervisedTemplate

    class Staged(template):  # type: ignore[misc]
        """Every stage with an optimiser and a rate of its own."""

        def _train_exp(self, experience: Any, eval_streams: Any = None, **kwargs: Any) -> None:
            for stage, steps in share_steps(guidance.method.stages(), training.steps):
                if stage.reset_head and self.clock.train_exp_counter == 0:
                    model.network.reset_head()
                self.optimizer, self.scheduler = build_optimiser(model.network, guidance.method, stage, steps, training)
                plugin.stage, plugin.begin, plugin.steps = stage.name, self.clock.train_exp_iterations, steps
                while self.clock.train_exp_iterations < plugin.begin + steps:
                    self._before_training_epoch(**kwargs)
                    self.training_epoch(**kwargs)
                    self._after_training_epoch(**kwargs)
                self._stop_training = False

        def _after_update(self, **kwargs: Any) -> None:
            self.scheduler.step()
            super()._after_update(**kwargs)

        def _after_training_iteration(self, **kwargs: Any) -> None:
            super()._after_training_iteration(**kwargs)
            if self.clock.train_exp_iterations == plugin.begin + plugin.steps:
                self.stop_training()

        __getstate__ = _not_kept

    with quiet():
        return Staged(
            model=model,
            optimizer=build_optimiser(model.network, guidance.method, Stage(), training.steps, training)[0],
            criterion=nn.CrossEntropyLoss(), train_mb_size=training.batch_size, eval_mb_size=256, device=device,
            plugins=[*plugins, plugin], evaluator=evaluator,
        )  # fmt: skip


def _check(name: str, entry: type[Method], labels: LabelSpaces, settings: Any) -> None:
    """Raise ``InputError`` where a method cannot guide a strategy between these label spaces."""
    needs = entry.needs
    if not needs.teacher or needs.learns != "batches":
        reason: str | None = "its loss reads no teacher's outputs"
    elif needs.weights or needs.trains != "all":
        reason = "it has a part in the student's weights, which are the strategy's"
    elif needs.index:
        reason = "it has to know which images a batch holds, and Avalanche's batches do not say"
    else:
        student, teacher = set(labels.student), set(labels.teacher)
        relation: Relation = "overlap" if student & teacher else "disjoint"
        if teacher and teacher <= student:
            relation = "same" if teacher == student else "extended"
        reason = entry.skip_reason(TransferContext(relation, "model", "model"), settings)
    if reason is not None:
        raise InputError(f"method {name} does not guide a strategy: {reason}")


def _not_kept(self: Any) -> Any:
    raise InputError("Avalanche's save_checkpoint is broken; keep model.state_dict() by torch.save")


def _plugin(guidance: Guidance, stage: str, mode: str) -> Any:
    base: Any = load_avalanche().training.plugins.SupervisedPlugin

    class Distillation(base):  # type: ignore[misc]
        """The guidance in Avalanche's loop. ``begin``, ``steps``: of the stage, where it is part of an experience."""

        def __init__(self) -> None:
            super().__init__()
            self.stage, self.begin, self.steps = stage, 0, 0

        def before_training_exp(self, strategy: Any, **_: Any) -> None:
            if strategy.model is not guidance.model:
                raise InputError("the plugin's model is not the strategy's; give both the same LogitNetwork")
            guidance.meet(strategy.experience.dataset.eval(), strategy.device)

        def before_forward(self, strategy: Any, **_: Any) -> None:
            guidance.model.keeps = True

        def before_backward(self, strategy: Any, **_: Any) -> None:
            steps = self.steps or strategy.train_epochs * len(strategy.dataloader)
            progress = (strategy.clock.train_exp_iterations - self.begin) / steps
            terms = guidance.terms(strategy.mb_x, strategy.mb_y, self.stage, progress)
            if mode == "add":
                terms = {"strategy": strategy.loss, **{name: term for name, term in terms.items() if name != "ce"}}
            strategy.loss = torch.stack([term.reshape(()) for term in terms.values()]).sum()

        def after_backward(self, strategy: Any, **_: Any) -> None:
            guidance.model.keeps, guidance.model.outputs = False, None

        __getstate__ = _not_kept

    return Distillation()
