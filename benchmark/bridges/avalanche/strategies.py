"""Strategies of Avalanche (Carta et al., JMLR 2023, arXiv 2302.01766) as methods of the incremental protocols."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge, Gt, Lt

from benchmark.methods import METHODS, IncrementalDefaults, LabelSpaces, Needs, Shapes
from benchmark.methods.external_loop import ExperienceMethod, Experiences
from benchmark.system.optional_packages import check_extra

if TYPE_CHECKING:
    from torch import Tensor

    from benchmark.backbones.network import Network


class AvalancheMethod(ExperienceMethod):
    """Base of Avalanche's strategies.

    The teacher is experience 0, with no epoch of training: the strategy then stores what it stores after training. A
    network that it stores is set to eval mode, as every teacher here; Avalanche leaves it in training mode, in which
    batch normalisation uses the statistics of the batch and drifts. An incomplete batch at the end of an epoch is
    dropped, so that every step has as many images as a step of any method.
    """

    family = "avalanche"
    incremental_defaults = IncrementalDefaults(memory="none")

    def __init__(self, settings: Any, labels: LabelSpaces, student: Shapes, teacher: Shapes) -> None:
        check_extra("avalanche", "bridges", "Avalanche's method")
        super().__init__(settings, labels, student, teacher)

    def train(self, student: Network, experiences: Experiences) -> None:
        """Run experience 0 for its hooks alone, then train on experience 1 for all steps."""
        from torch.nn import CrossEntropyLoss

        from benchmark.bridges.avalanche.benchmark import load_avalanche, suppress_warnings
        from benchmark.bridges.avalanche.position_data import (
            PositionLoader,
            PositionModel,
            StepLimitPlugin,
            position_benchmark,
        )

        with suppress_warnings():
            strategies = load_avalanche().training.supervised
            loader = PositionLoader(experiences)
            first, second = position_benchmark(experiences).train_stream
            arguments = {
                "model": PositionModel(student, loader), "optimizer": experiences.optimiser,
                "criterion": CrossEntropyLoss(), "train_mb_size": experiences.batch_size, "eval_mb_size": 256,
                "train_epochs": 0, "device": experiences.device, "plugins": [StepLimitPlugin(experiences.ended)],
                "evaluator": None,
            }  # fmt: skip
            strategy = self.strategy(strategies, arguments, experiences)
            options = {"eval_streams": [], "drop_last": len(experiences.new) >= strategy.train_mb_size}
            if self.starts("teacher") == "teacher":
                strategy.train(first, **options)
                self.after_teacher_experience(strategy)
            loader.augments = True
            strategy.train_epochs = experiences.steps  # enough: every epoch has a step
            strategy.train([first, second] if self.incremental_defaults.memory == "all" else second, **options)

    def strategy(self, strategies: Any, arguments: dict[str, Any], experiences: Experiences) -> Any:
        """Build Avalanche's strategy.

        Args:
            strategies: The module ``avalanche.training.supervised``.
            arguments: The keyword arguments that every strategy receives.
            experiences: The images and settings of the training.
        """
        raise NotImplementedError

    def after_teacher_experience(self, strategy: Any) -> None:
        """Adjust the strategy between experience 0 and experience 1; by default nothing is done."""


@METHODS.register("avalanche/naive")
class Naive(AvalancheMethod):
    """Train on by cross-entropy on new images alone; Avalanche's Naive.

    loss = CE(z_s, y) over all classes

    The student starts from the teacher's weights. It is ``finetune`` with the images in another order.
    """

    equation = r"""
    \mathcal{L} = \mathrm{CE}(z_s, y)
    """

    def strategy(self, strategies: Any, arguments: dict[str, Any], experiences: Experiences) -> Any:
        """Build Avalanche's Naive."""
        return strategies.Naive(**arguments)


@METHODS.register("avalanche/lwf")
class LwF(AvalancheMethod):
    """Cross-entropy, and old outputs kept by distillation; Avalanche's LwF. Li and Hoiem 2016, arXiv 1606.09282.

    loss = CE(z_s, y) over all classes + alpha * KL(softmax(z_t / T) || softmax(z_s / T)) over the old outputs

    Unlike in the paper and ``lwf``, the cross-entropy includes the old outputs, and there is no factor T^2. With
    Avalanche's defaults, used here, little is kept. There are no exemplars.
    """

    equation = r"""
    \mathcal{L} = \mathrm{CE}(z_s, y)
      + \texttt{alpha}\,\frac{1}{B} \sum_{i=1}^{B}
        \mathrm{KL}\left(\sigma(z_t^i / T) \,\|\, \sigma\left((z_s^{ik} / T)_{k\ \text{old}}\right)\right)
    """

    @dataclass(frozen=True)
    class Settings:
        """Weight and temperature of the divergence."""

        alpha: Annotated[float, Ge(0)] = 1.0
        temperature: Annotated[float, Gt(0)] = 2.0

    tunable = ("alpha",)
    needs = Needs(teacher=True, labels="extended", start="teacher", learns="experiences")

    def strategy(self, strategies: Any, arguments: dict[str, Any], experiences: Experiences) -> Any:
        """Build Avalanche's LwF."""
        return strategies.LwF(alpha=self.settings.alpha, temperature=self.settings.temperature, **arguments)

    def after_teacher_experience(self, strategy: Any) -> None:
        """Set its copy of the teacher to eval mode."""
        plugin = next(plugin for plugin in strategy.plugins if hasattr(plugin, "lwf"))
        plugin.lwf.prev_model.eval()


@dataclass(frozen=True)
class ExemplarShare:
    """The share of each batch that is exemplars. Avalanche itself replays as many exemplars as there are new images."""

    memory_share: Annotated[float, Gt(0), Lt(1)] = 0.5

    def count(self, experiences: Experiences) -> int:
        """Return the number of exemplars in a batch: at least one, at most all of them."""
        return max(1, min(round(self.memory_share * experiences.batch_size), len(experiences.old)))


@METHODS.register("avalanche/replay")
class Replay(AvalancheMethod):
    """Half of each batch replays exemplars of old classes; Avalanche's Replay.

    loss = CE(z_s, y) over all classes

    The student starts from the teacher's weights. The exemplars are those of every method. A batch has
    ``training.batch_size`` images including exemplars; Avalanche's own batches would have twice as many. ``replay``
    draws its batches at random from both, and therefore shows few exemplars rarely.
    """

    equation = r"""
    \mathcal{L} = \mathrm{CE}(z_s, y), \qquad \texttt{memory\_share}\ \text{of each batch is exemplars}
    """

    Settings = ExemplarShare
    needs = Needs(labels="extended", start="teacher", learns="experiences", exemplars=True)
    incremental_defaults = IncrementalDefaults(memory="exemplars")

    def strategy(self, strategies: Any, arguments: dict[str, Any], experiences: Experiences) -> Any:
        """Build Naive with a buffer for all exemplars, balanced by class."""
        from benchmark.bridges.avalanche.benchmark import load_avalanche

        count, size = self.settings.count(experiences), len(experiences.old)
        fresh = arguments["train_mb_size"] - count
        training = load_avalanche().training
        memory = training.plugins.ReplayPlugin(
            size, batch_size=fresh, batch_size_mem=count,
            storage_policy=training.storage_policy.ClassBalancedBuffer(size),
        )  # fmt: skip
        return strategies.Naive(**{**arguments, "train_mb_size": fresh, "plugins": [*arguments["plugins"], memory]})


@METHODS.register("avalanche/ewc")
class EWC(AvalancheMethod):
    """Hold weights as far as old classes need them; Avalanche's EWC. Kirkpatrick et al. 2017, arXiv 1612.00796.

    loss = CE(z_s, y) over all classes + penalty * sum F (w - w_0)^2

    F is the squared gradient of the cross-entropy over old outputs, averaged over batches of the teacher's own images
    without augmentation. Rows of new outputs are free. There are no exemplars. The default penalty is that of
    Avalanche's example. Old classes are forgotten nevertheless, there as here.
    """

    equation = r"""
    \mathcal{L} = \mathrm{CE}(z_s, y) + \texttt{penalty} \sum_j F_j \left(w_j - w_{0,j}\right)^2
    """

    @dataclass(frozen=True)
    class Settings:
        """Weight of the penalty, Avalanche's ``ewc_lambda``."""

        penalty: Annotated[float, Ge(0)] = 0.4

    tunable = ("penalty",)

    def strategy(self, strategies: Any, arguments: dict[str, Any], experiences: Experiences) -> Any:
        """Build Avalanche's EWC, with a cross-entropy over old outputs until experience 0 is over."""

        def old_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
            loss: Tensor = arguments["criterion"](logits[:, : experiences.old_classes], labels)
            return loss

        strategy = strategies.EWC(ewc_lambda=self.settings.penalty, **arguments)
        strategy._criterion = old_cross_entropy
        self._criterion = arguments["criterion"]
        return strategy

    def after_teacher_experience(self, strategy: Any) -> None:
        """Use the cross-entropy over all outputs."""
        strategy._criterion = self._criterion


@dataclass(frozen=True)
class DarkReplay(ExemplarShare):
    """The share of exemplars; weights of their logits and labels, Avalanche's ``alpha`` and ``beta``."""

    logits: Annotated[float, Ge(0)] = 0.1
    labels: Annotated[float, Ge(0)] = 0.5


@METHODS.register("avalanche/der")
class DER(AvalancheMethod):
    """Replay exemplars with the logits they had; Avalanche's DER. As DER++: Buzzega et al. 2020, arXiv 2004.07211.

    loss = CE of new images + logits * MSE(z_s, z_0) of exemplars + labels * CE of exemplars

    The student starts from the teacher's weights. z_0 are the logits of all outputs before the first step, including
    those of the freshly drawn rows of new classes. Exemplars and batches are as in ``avalanche/replay``. The defaults
    are Avalanche's.
    """

    equation = r"""
    \mathcal{L} = \underset{\text{new}}{\mathrm{CE}}(z_s, y)
      + \texttt{logits}\ \underset{\text{exemplars}}{\mathrm{mean}} \left(z_s - z_0\right)^2
      + \texttt{labels}\ \underset{\text{exemplars}}{\mathrm{CE}}(z_s, y)
    """

    Settings = DarkReplay
    tunable = ("logits", "labels")
    needs = Needs(teacher=True, labels="extended", start="teacher", learns="experiences", exemplars=True)
    incremental_defaults = IncrementalDefaults(memory="exemplars")

    def strategy(self, strategies: Any, arguments: dict[str, Any], experiences: Experiences) -> Any:
        """Build Avalanche's DER with a buffer for all exemplars."""
        count = self.settings.count(experiences)
        return strategies.DER(
            mem_size=len(experiences.old), batch_size_mem=count, alpha=self.settings.logits, beta=self.settings.labels,
            **{**arguments, "train_mb_size": arguments["train_mb_size"] - count},
        )  # fmt: skip


@METHODS.register("avalanche/icarl")
class ICaRL(AvalancheMethod):
    """Sigmoid outputs, old ones distilled, and nearest means of exemplars; Avalanche's ICaRL. arXiv 1611.07725.

    loss = bce * mean over all outputs of BCE(sigmoid(z_s), target); targets are the teacher's sigmoids for old classes
    and the label for new ones

    The exemplars are those of every method; they mix with new images at random. The classifier is the nearest mean of
    exemplars, as for ``icarl``; Avalanche's own means are not used. As in ``icarl``, the default weight 20 stands for
    the authors' learning rate of 2, twenty times that of every method here.
    """

    equation = r"""
    \mathcal{L} = \frac{\texttt{bce}}{B K} \sum_{i=1}^{B} \sum_{k=1}^{K} \mathrm{BCE}\left(s(z_s^{ik}),\ g^{ik}\right),
    \qquad
    g^{ik} = \begin{cases} s(z_t^{ik}) & k\ \text{old} \\
      1\ \text{if}\ y^i = k,\ \text{else}\ 0 & k\ \text{new} \end{cases},
    \qquad s(u) = \frac{1}{1 + e^{-u}}
    """

    @dataclass(frozen=True)
    class Settings:
        """Weight of the loss."""

        bce: Annotated[float, Gt(0)] = 20.0

    tunable = ("bce",)
    needs = Needs(teacher=True, labels="extended", start="teacher", learns="experiences", exemplars=True)
    incremental_defaults = IncrementalDefaults(head="nme")

    def strategy(self, strategies: Any, arguments: dict[str, Any], experiences: Experiences) -> Any:
        """Build Avalanche's ICaRL from backbone and head; it has its own criterion."""
        from benchmark.bridges.avalanche.position_data import LossScalePlugin, PositionBackbone

        model = arguments["model"]
        arguments = {name: value for name, value in arguments.items() if name not in ("model", "criterion")}
        arguments["plugins"] = [LossScalePlugin(self.settings.bce), *arguments["plugins"]]
        strategy = strategies.ICaRL(
            feature_extractor=PositionBackbone(model.network.backbone, model.loader), classifier=model.network.head,
            memory_size=len(experiences.old) // experiences.old_classes, fixed_memory=False, buffer_transform=None,
            **arguments,
        )  # fmt: skip
        # Avalanche reads these sizes by a forward pass in its first step, which experience 0 does not have
        plugin = next(plugin for plugin in strategy.plugins if hasattr(plugin, "x_memory"))
        plugin.input_size, plugin.output_size = (), model.network.head.out_features
        plugin.embedding_size = model.network.backbone.dim
        return strategy

    def after_teacher_experience(self, strategy: Any) -> None:
        """Set the backbone of its copy of the teacher to eval mode; the mode of the whole copy selects its head."""
        strategy._criterion.old_model.feature_extractor.eval()


@METHODS.register("avalanche/joint")
class Joint(AvalancheMethod):
    """Train a fresh network on all images of all classes; Avalanche's JointTraining. The upper bound.

    loss = CE(z_s, y) over all classes

    It is ``joint`` with the images in another order.
    """

    equation = r"""
    \mathcal{L} = \mathrm{CE}(z_s, y)
    """

    needs = Needs(labels="extended", start="fresh", learns="experiences")
    incremental_defaults = IncrementalDefaults(memory="all")

    def strategy(self, strategies: Any, arguments: dict[str, Any], experiences: Experiences) -> Any:
        """Build Avalanche's JointTraining."""
        return strategies.JointTraining(**arguments)


METHODS.register_unavailable(
    "avalanche/bic",
    "Avalanche 0.6.0 breaks off in its bias correction: it passes torch an argument that no longer exists; "
    "take wa, or --set protocol.rebalance=align, which correct the same bias",
)
METHODS.register_unavailable(
    "avalanche/feature-distillation",
    "Avalanche 0.6.0 passes torch's mse_loss an argument that it does not have; take lucir, which keeps embeddings too",
)
