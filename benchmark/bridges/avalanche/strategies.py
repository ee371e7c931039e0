"""Strategies of Avalanche (Carta et al., JMLR 2023, arXiv 2302.01766) as methods of the incremental protocols."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge, Gt, Lt

from benchmark.methods import IncrementalDefaults, LabelSpaces, Needs, Shapes
from benchmark.methods.external_loop import ExperienceMethod, Experiences
from benchmark.system.optional_packages import check_extra

if TYPE_CHECKING:
    from torch import Tensor

    from benchmark.backbones.network import Network


class AvalancheMethod(ExperienceMethod):
    """Base of the strategies.

    The teacher is experience 0, trained on for no epoch, so that a strategy keeps of it what it keeps after training.
    What it keeps as a network is brought to eval mode, as every teacher here: Avalanche leaves it in training mode,
    where batch normalisation goes by the batch at hand and drifts. An incomplete batch at the end of an epoch is left
    out, so that every step has as many images as that of any method.
    """

    incremental_defaults = IncrementalDefaults(memory="none")

    def __init__(self, settings: Any, labels: LabelSpaces, student: Shapes, teacher: Shapes) -> None:
        check_extra("avalanche", "bridges", "Avalanche's method")
        super().__init__(settings, labels, student, teacher)

    def learn(self, student: Network, experiences: Experiences) -> None:
        """Experience 0 for its hooks alone, then experience 1 for all steps."""
        from torch.nn import CrossEntropyLoss

        from benchmark.bridges.avalanche.benchmark import load_avalanche, quiet
        from benchmark.bridges.avalanche.position_data import Eye, Pace, Seeing, position_benchmark

        with quiet():
            strategies = load_avalanche().training.supervised
            eye = Eye(experiences)
            first, second = position_benchmark(experiences).train_stream
            given = {
                "model": Seeing(student, eye), "optimizer": experiences.optimiser, "criterion": CrossEntropyLoss(),
                "train_mb_size": experiences.batch_size, "eval_mb_size": 256, "train_epochs": 0,
                "device": experiences.device, "plugins": [Pace(experiences.ended)], "evaluator": None,
            }  # fmt: skip
            strategy = self.strategy(strategies, given, experiences)
            loading = {"eval_streams": [], "drop_last": len(experiences.new) >= strategy.train_mb_size}
            if self.starts("teacher") == "teacher":
                strategy.train(first, **loading)
                self.replayed(strategy)
            eye.augments = True
            strategy.train_epochs = experiences.steps  # enough: every epoch has a step
            strategy.train([first, second] if self.incremental_defaults.memory == "all" else second, **loading)

    def strategy(self, strategies: Any, given: dict[str, Any], experiences: Experiences) -> Any:
        """Avalanche's strategy. ``strategies``: the module of all; ``given``: what each is given."""
        raise NotImplementedError

    def replayed(self, strategy: Any) -> None:
        """After experience 0: nothing, unless the strategy keeps a network."""


class Naive(AvalancheMethod):
    """Train on by cross-entropy on new images alone; Avalanche's Naive.

    loss = CE(z_s, y) over all classes

    From the teacher's weights: ``finetune``, with images in another order.
    """

    def strategy(self, strategies: Any, given: dict[str, Any], experiences: Experiences) -> Any:
        """As it is."""
        return strategies.Naive(**given)


class LwF(AvalancheMethod):
    """Cross-entropy, and old outputs kept by distillation; Avalanche's LwF. Li and Hoiem 2016, arXiv 1606.09282.

    loss = CE(z_s, y) over all classes + alpha * KL(softmax(z_t / T) || softmax(z_s / T)) over the old outputs

    Unlike the paper and ``lwf``, its cross-entropy is over old outputs too, and there is no factor T^2: with these
    defaults, which are Avalanche's, little is kept. No exemplars.
    """

    @dataclass(frozen=True)
    class Settings:
        """Weight and temperature of the divergence."""

        alpha: Annotated[float, Ge(0)] = 1.0
        temperature: Annotated[float, Gt(0)] = 2.0

    tunable = ("alpha",)
    needs = Needs(teacher=True, labels="extended", start="teacher", learns="experiences")

    def strategy(self, strategies: Any, given: dict[str, Any], experiences: Experiences) -> Any:
        """With both settings."""
        return strategies.LwF(alpha=self.settings.alpha, temperature=self.settings.temperature, **given)

    def replayed(self, strategy: Any) -> None:
        """Its copy of the teacher to eval mode."""
        plugin = next(plugin for plugin in strategy.plugins if hasattr(plugin, "lwf"))
        plugin.lwf.prev_model.eval()


@dataclass(frozen=True)
class Rehearsal:
    """The share of each batch that is exemplars, where there are as many; Avalanche replays as many as are new."""

    memory_share: Annotated[float, Gt(0), Lt(1)] = 0.5

    def count(self, experiences: Experiences) -> int:
        """Exemplars in a batch, one at the least."""
        return max(1, min(round(self.memory_share * experiences.batch_size), len(experiences.old)))


class Replay(AvalancheMethod):
    """Half of each batch replays exemplars of old classes; Avalanche's Replay.

    loss = CE(z_s, y) over all classes

    From the teacher's weights. The exemplars are those of every method. A batch has ``training.batch_size`` images with
    them, where Avalanche's would have twice as many; ``replay`` draws its batches from both at random, so that it shows
    exemplars as rarely as there are few.
    """

    Settings = Rehearsal
    needs = Needs(labels="extended", start="teacher", learns="experiences", exemplars=True)
    incremental_defaults = IncrementalDefaults(memory="exemplars")

    def strategy(self, strategies: Any, given: dict[str, Any], experiences: Experiences) -> Any:
        """With room for all exemplars, kept by class."""
        from benchmark.bridges.avalanche.benchmark import load_avalanche

        count, size = self.settings.count(experiences), len(experiences.old)
        fresh = given["train_mb_size"] - count
        training = load_avalanche().training
        memory = training.plugins.ReplayPlugin(
            size, batch_size=fresh, batch_size_mem=count,
            storage_policy=training.storage_policy.ClassBalancedBuffer(size),
        )  # fmt: skip
        return strategies.Naive(**{**given, "train_mb_size": fresh, "plugins": [*given["plugins"], memory]})


class EWC(AvalancheMethod):
    """Hold weights as far as old classes need them; Avalanche's EWC. Kirkpatrick et al. 2017, arXiv 1612.00796.

    loss = CE(z_s, y) over all classes + penalty * sum F (w - w_0)^2

    F is the mean over batches of the teacher's own images, in plain views, of the squared gradient of their
    cross-entropy over old outputs: rows of new outputs are free. No exemplars. The default penalty is that of
    Avalanche's example, which finds, as is found here, that old classes are forgotten all the same where classes are
    added.
    """

    @dataclass(frozen=True)
    class Settings:
        """The weight of the penalty, Avalanche's ``ewc_lambda``."""

        penalty: Annotated[float, Ge(0)] = 0.4

    tunable = ("penalty",)

    def strategy(self, strategies: Any, given: dict[str, Any], experiences: Experiences) -> Any:
        """With a cross-entropy that knows old outputs alone, until experience 0 is over."""

        def of_old(logits: Tensor, labels: Tensor) -> Tensor:
            loss: Tensor = given["criterion"](logits[:, : experiences.old_classes], labels)
            return loss

        strategy = strategies.EWC(ewc_lambda=self.settings.penalty, **given)
        strategy._criterion = of_old
        self._criterion = given["criterion"]
        return strategy

    def replayed(self, strategy: Any) -> None:
        """All outputs from here on."""
        strategy._criterion = self._criterion


@dataclass(frozen=True)
class DarkRehearsal(Rehearsal):
    """As ``Rehearsal``; weights of kept logits and of labels of exemplars, Avalanche's ``alpha`` and ``beta``."""

    logits: Annotated[float, Ge(0)] = 0.1
    labels: Annotated[float, Ge(0)] = 0.5


class DER(AvalancheMethod):
    """Replay exemplars with the logits they had; Avalanche's DER. As DER++: Buzzega et al. 2020, arXiv 2004.07211.

    loss = CE of new images + logits * MSE(z_s, z_0) of exemplars + labels * CE of exemplars

    From the teacher's weights; z_0 are the logits of all outputs before the first step, those of new classes as they
    were drawn. Exemplars and batches as in ``avalanche/replay``. Defaults are Avalanche's.
    """

    Settings = DarkRehearsal
    tunable = ("logits", "labels")
    needs = Needs(teacher=True, labels="extended", start="teacher", learns="experiences", exemplars=True)
    incremental_defaults = IncrementalDefaults(memory="exemplars")

    def strategy(self, strategies: Any, given: dict[str, Any], experiences: Experiences) -> Any:
        """With room for all exemplars."""
        count = self.settings.count(experiences)
        return strategies.DER(
            mem_size=len(experiences.old), batch_size_mem=count, alpha=self.settings.logits, beta=self.settings.labels,
            **{**given, "train_mb_size": given["train_mb_size"] - count},
        )  # fmt: skip


class ICaRL(AvalancheMethod):
    """Sigmoid outputs, old ones distilled, and nearest means of exemplars; Avalanche's ICaRL. arXiv 1611.07725.

    loss = bce * mean over all outputs of BCE(sigmoid(z_s), target); targets are the teacher's sigmoids for old classes
    and the label for new ones

    Exemplars, which are those of every method, mix with new images at random. What is judged is the nearest mean of
    exemplars, as of ``icarl``; Avalanche's own means are not used. The default weight 20 stands for the authors'
    learning rate of 2, twenty times that of every method here, as in ``icarl``.
    """

    @dataclass(frozen=True)
    class Settings:
        """Weight of the loss."""

        bce: Annotated[float, Gt(0)] = 20.0

    tunable = ("bce",)
    needs = Needs(teacher=True, labels="extended", start="teacher", learns="experiences", exemplars=True)
    incremental_defaults = IncrementalDefaults(head="nme")

    def strategy(self, strategies: Any, given: dict[str, Any], experiences: Experiences) -> Any:
        """On backbone and head apart; it has a criterion of its own."""
        from benchmark.bridges.avalanche.position_data import SeeingEmbedding, Weight

        seeing = given["model"]
        own = {name: value for name, value in given.items() if name not in ("model", "criterion")}
        own["plugins"] = [Weight(self.settings.bce), *given["plugins"]]
        strategy = strategies.ICaRL(
            feature_extractor=SeeingEmbedding(seeing.network.backbone, seeing.eye), classifier=seeing.network.head,
            memory_size=len(experiences.old) // experiences.old_classes, fixed_memory=False, buffer_transform=None,
            **own,
        )  # fmt: skip
        # it learns this in its first step, which experience 0 does not have, by one more forward pass in training mode
        plugin = next(plugin for plugin in strategy.plugins if hasattr(plugin, "x_memory"))
        plugin.input_size, plugin.output_size = (), seeing.network.head.out_features
        plugin.embedding_size = seeing.network.backbone.dim
        return strategy

    def replayed(self, strategy: Any) -> None:
        """Its copy of the teacher's backbone to eval mode; the copy itself tells by its mode which head is meant."""
        strategy._criterion.old_model.feature_extractor.eval()


class Joint(AvalancheMethod):
    """Train a fresh network on all images of all classes; Avalanche's JointTraining. The upper bound.

    loss = CE(z_s, y) over all classes

    As ``joint``, with images in another order.
    """

    needs = Needs(labels="extended", start="fresh", learns="experiences")
    incremental_defaults = IncrementalDefaults(memory="all")

    def strategy(self, strategies: Any, given: dict[str, Any], experiences: Experiences) -> Any:
        """As it is."""
        return strategies.JointTraining(**given)
