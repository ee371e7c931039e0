"""The suite's methods for Avalanche: a plugin that adds a loss to any strategy, and a strategy of all stages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from benchmark.backbones.network import Network, Outputs
from benchmark.bridges.avalanche.benchmark import load_avalanche, suppress_warnings
from benchmark.errors import InputError
from benchmark.methods import METHODS, Batch, LabelSpaces, Method, Stage, TransferContext
from benchmark.methods.requirements import Relation
from benchmark.settings import build_settings
from benchmark.spec import Training
from benchmark.training.initialisation import build_method
from benchmark.training.optimisation import build_optimiser, share_steps


class LogitNetwork(nn.Module):
    """A network as a model for Avalanche's strategies: from images to logits.

    Attributes:
        connector: The method's connector, if any; the strategy's optimiser then trains it too.
        record_outputs: Whether to record ``outputs``.
        outputs: All outputs for the latest images while ``record_outputs`` is set, else None: outputs with gradients
            cannot be copied, and strategies copy their models.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        self.connector: nn.Module | None = None
        self.record_outputs = False
        self.outputs: Outputs | None = None

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (B, K)."""
        outputs: Outputs = self.network(images)
        if self.record_outputs:
            self.outputs = outputs
        return outputs.logits


class MethodLoss:
    """A method's loss on the batches of a strategy; for the arguments see ``distillation_plugin``."""

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
        method_settings: Any = build_settings(entry.Settings, settings, "method")
        _check(method, entry, labels, method_settings)
        channels, height, width = shape
        if height != width:
            raise InputError(f"shape = {shape}: images must be square, as (3, 32, 32)")
        self.model, self.teacher = model, teacher.eval().requires_grad_(False)
        self.method = build_method(
            method, method_settings, labels, model.network, teacher, seed, channels=channels, size=height
        )
        if self.method.connector is not None:
            model.connector = self.method.connector
        self._labels: list[Tensor] = []
        self._embeddings: list[Tensor] = []

    def prepare_experience(self, dataset: Any, device: torch.device) -> None:
        """Prepare the method for an experience.

        Labels and teacher embeddings are stored for later experiences; images are not. The embeddings are of the images
        as the data set shows them: its transforms decide whether they are augmented, not the method's settings.
        """
        self.teacher.to(device)
        with torch.no_grad():
            for images, labels, *_ in torch.utils.data.DataLoader(dataset, batch_size=256):
                self._labels.append(labels.to(device))
                if self.method.reads_train_embeddings:
                    self._embeddings.append(self.teacher.embed(images.to(device)).float())
        embeddings = torch.cat(self._embeddings) if self._embeddings else None
        self.method.prepare(self.model.network, torch.cat(self._labels), embeddings)

    def terms(self, images: Tensor, labels: Tensor, stage: str, progress: float) -> dict[str, Tensor]:
        """Return the method's terms for the batch of the model's latest forward pass.

        Args:
            images: Images (B, C, H, W).
            labels: Labels (B,).
            stage: Name of the stage.
            progress: Share of the stage's steps that are done.
        """
        assert self.model.outputs is not None
        with torch.no_grad():
            teacher_outputs: Outputs = self.teacher(images)
        batch = Batch(labels, torch.empty(0, dtype=torch.int64), stage, progress)
        return self.method.loss(batch, self.model.outputs.float(), teacher_outputs.float())


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
    """Return a ``SupervisedPlugin`` that adds a method's loss to any strategy.

    Statistics of all training images, such as class centres, are those of the experiences so far.

    Args:
        method: Name of the method.
        model: The strategy's model.
        teacher: The teacher; it is set to eval mode.
        shape: Shape (C, H, W) of an image; H = W.
        teacher_classes: The benchmark's class of each output of the teacher; empty for a teacher of other classes.
        stage: Name of the stage whose loss is used; empty for the last one. For ``refilled`` that is cross-entropy and
            the local classifier.
        mode: ``add`` adds all terms except cross-entropy to the strategy's loss; ``replace`` replaces the loss by the
            sum of all terms.
        seed: Seed of a connector's weights.
        **settings: Settings of the method.

    Raises:
        InputError: The method has no teacher, or reads the student's weights or the positions of images.
    """
    method_loss = MethodLoss(method, model, teacher, shape, teacher_classes, seed, settings)
    stages = [part.name for part in method_loss.method.stages()]
    if stage and stage not in stages:
        raise InputError(f"{method} has no stage {stage!r}; it has {', '.join(stages)}")
    return _plugin(method_loss, stage or stages[-1], mode)


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
    """Return a strategy that trains by all stages of a method on every experience, such as both of ``refilled``.

    A stage that resets the head resets it in the first experience only: later experiences keep what the head knows of
    earlier classes.

    Args:
        method: Name of the method.
        model: The strategy's model.
        teacher: The teacher; it is set to eval mode.
        training: Steps per experience (shared among the stages), images per step, optimiser and learning rate. Sampler
            and crops are the benchmark's.
        shape: Shape (C, H, W) of an image; H = W.
        teacher_classes: The benchmark's class of each output of the teacher; empty for a teacher of other classes.
        device: Device of the training.
        plugins: Further plugins of Avalanche.
        evaluator: Avalanche's evaluation plugin.
        seed: Seed of a connector's weights.
        **settings: Settings of the method.

    Raises:
        InputError: The method has no teacher, or reads the student's weights or the positions of images.
    """
    method_loss = MethodLoss(method, model, teacher, shape, teacher_classes, seed, settings)
    plugin = _plugin(method_loss, "", "replace")
    template: Any = load_avalanche().training.templates.SupervisedTemplate

    class Staged(template):  # type: ignore[misc]
        """A strategy that runs the stages in order, each with its own optimiser and schedule."""

        def _train_exp(self, experience: Any, eval_streams: Any = None, **kwargs: Any) -> None:
            for stage, steps in share_steps(method_loss.method.stages(), training.steps):
                if stage.reset_head and self.clock.train_exp_counter == 0:
                    model.network.reset_head()
                self.optimizer, self.scheduler = build_optimiser(
                    model.network, method_loss.method, stage, steps, training
                )
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

        __getstate__ = _refuse_checkpoint

    with suppress_warnings():
        return Staged(
            model=model,
            optimizer=build_optimiser(model.network, method_loss.method, Stage(), training.steps, training)[0],
            criterion=nn.CrossEntropyLoss(), train_mb_size=training.batch_size, eval_mb_size=256, device=device,
            plugins=[*plugins, plugin], evaluator=evaluator,
        )  # fmt: skip


def _check(name: str, entry: type[Method], labels: LabelSpaces, settings: Any) -> None:
    """Raise ``InputError`` if a method cannot be used with a strategy between these label spaces."""
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


def _refuse_checkpoint(self: Any) -> Any:
    raise InputError("Avalanche's save_checkpoint is broken; keep model.state_dict() by torch.save")


def _plugin(method_loss: MethodLoss, stage: str, mode: str) -> Any:
    base: Any = load_avalanche().training.plugins.SupervisedPlugin

    class Distillation(base):  # type: ignore[misc]
        """Computes the loss in Avalanche's loop; ``begin`` and ``steps`` delimit a stage within an experience."""

        def __init__(self) -> None:
            super().__init__()
            self.stage, self.begin, self.steps = stage, 0, 0

        def before_training_exp(self, strategy: Any, **_: Any) -> None:
            if strategy.model is not method_loss.model:
                raise InputError("the plugin's model is not the strategy's; give both the same LogitNetwork")
            method_loss.prepare_experience(strategy.experience.dataset.eval(), strategy.device)

        def before_forward(self, strategy: Any, **_: Any) -> None:
            method_loss.model.record_outputs = True

        def before_backward(self, strategy: Any, **_: Any) -> None:
            steps = self.steps or strategy.train_epochs * len(strategy.dataloader)
            progress = (strategy.clock.train_exp_iterations - self.begin) / steps
            terms = method_loss.terms(strategy.mb_x, strategy.mb_y, self.stage, progress)
            if mode == "add":
                terms = {"strategy": strategy.loss, **{name: term for name, term in terms.items() if name != "ce"}}
            strategy.loss = torch.stack([term.reshape(()) for term in terms.values()]).sum()

        def after_backward(self, strategy: Any, **_: Any) -> None:
            method_loss.model.record_outputs, method_loss.model.outputs = False, None

        __getstate__ = _refuse_checkpoint

    return Distillation()
