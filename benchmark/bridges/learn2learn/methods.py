"""Methods of learn2learn (Arnold et al. 2020, arXiv 2008.12284)."""

from __future__ import annotations

import functools
import importlib.util
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, Gt

from benchmark.methods import METHODS, Stage
from benchmark.methods.episodic import Episode, EpisodicMethod
from benchmark.system.optional_packages import load_extra

if TYPE_CHECKING:
    from torch import Tensor, nn

    from benchmark.backbones.network import Network


@functools.cache
def load_learn2learn() -> Any:
    """Import learn2learn without the notices of its dependencies.

    gym prints that it is outdated; Python warns of backslashes in docstrings of qpth.

    Raises:
        InputError: learn2learn is not installed; the message has the command to install it.
    """
    if importlib.util.find_spec("gym_notices") is not None:
        importlib.import_module("gym_notices.notices").notices.clear()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"invalid escape sequence", DeprecationWarning)
        warnings.filterwarnings("ignore", r"invalid escape sequence", SyntaxWarning)
        return load_extra("learn2learn", "bridges", "learn2learn's method or task set")


def _full(outputs: Tensor) -> Tensor:
    """Return the outputs in float32 or higher; losses and distances need it after a forward pass in lower precision."""
    import torch

    return outputs.to(torch.promote_types(outputs.dtype, torch.float32))


@dataclass(frozen=True)
class Adaptation:
    """Steps on a support set and their rate, episodes per training step, and the rate of training.

    The defaults of steps and their rate are those of learn2learn's examples.
    """

    adaptation_steps: Annotated[int, Ge(1)] = 1
    adaptation_lr: Annotated[float, Gt(0)] = 0.5
    first_order: bool = False
    """Do not differentiate through the adaptation steps."""
    tasks: Annotated[int, Ge(1)] = 1
    lr_share: Annotated[float, Gt(0)] = 0.2
    """Share of the run's learning rate; the whole rate, 0.1, is too high for gradients through steps."""


@dataclass(frozen=True)
class HeadAdaptation(Adaptation):
    """The settings of ``Adaptation`` with more and smaller steps, which are cheap for a head."""

    adaptation_steps: Annotated[int, Ge(1)] = 5
    adaptation_lr: Annotated[float, Gt(0)] = 0.1


class _Adapting(EpisodicMethod):
    """Base of MAML and ANIL: a copy that takes a few steps on the support set answers the queries."""

    Settings = Adaptation
    tunable = ("adaptation_lr",)

    def stages(self) -> list[Stage]:
        """Return one stage, at a share of the run's rate."""
        return [Stage(lr=self.settings.lr_share)]

    def learner(self, module: nn.Module, *, first_order: bool) -> Any:
        """Return learn2learn's copy of a module; it adapts and passes gradients to the module's weights."""
        algorithms = load_learn2learn().algorithms
        return algorithms.MAML(module, lr=self.settings.adaptation_lr, first_order=first_order).clone()

    def logits(self, student: Network, episode: Episode, *, first_order: bool) -> Tensor:
        """Return the logits (N * Q, N) of the queries after adaptation to the support set."""
        raise NotImplementedError

    def episode_loss(self, student: Network, episode: Episode) -> dict[str, Tensor]:
        """Return the cross-entropy of the queries under the adapted copy."""
        from torch.nn.functional import cross_entropy

        logits = self.logits(student, episode, first_order=self.settings.first_order)
        return {"ce": cross_entropy(logits, episode.query_labels)}

    def answer(self, student: Network, episode: Episode) -> Tensor:
        """Return the logits of the queries, as in training but without gradients."""
        return self.logits(student, episode, first_order=True).detach()


@METHODS.register("maml")
class MAML(_Adapting):
    """Learn weights that adapt to a support set in a few steps; learn2learn's MAML.

    loss = CE of the queries under w', where w' = w - adaptation_lr * gradient of CE of the support set, step by step

    Model-agnostic meta-learning: Finn et al., ICML 2017, arXiv 1703.03400. The whole network takes ``adaptation_steps``
    of plain gradient descent on the support set. The cross-entropy of the queries under the adapted weights is
    minimised with respect to the initial weights. There is no teacher.

    Batch normalisation: learn2learn's own examples normalise queries by the statistics of all queries of an episode, so
    that the answer to a query depends on the others. Here the statistics are those of the support set under the adapted
    weights, in training and in evaluation, and each query is answered independently. The support images therefore pass
    through the network once more than there are steps, and are counted as often.
    """

    equation = r"""
    \mathcal{L}(w) = \mathrm{CE}\left(z(x_q; w'),\ y_q\right), \qquad
    w' = w - \texttt{adaptation\_lr}\ \nabla_w \mathrm{CE}\left(z(x_{\mathrm{sup}}; w),\ y_{\mathrm{sup}}\right)
    """

    def passes(self, support: int, queries: int) -> int:
        """Return the images of one episode: support images once per step and once for their statistics."""
        return support * (self.settings.adaptation_steps + 1) + queries

    def logits(self, student: Network, episode: Episode, *, first_order: bool) -> Tensor:
        """Return the logits of the queries after adaptation of the whole network."""
        import torch
        from torch.nn.functional import cross_entropy

        learner = self.learner(student, first_order=first_order)
        norms = [module for module in learner.modules() if isinstance(module, torch.nn.modules.batchnorm._BatchNorm)]
        for norm in norms:  # in the copy: the student keeps its own mode
            norm.train()
            norm.momentum = 1.0
        for _ in range(self.settings.adaptation_steps):
            learner.adapt(cross_entropy(_full(learner(episode.support).logits), episode.support_labels))
        with torch.no_grad():
            learner(episode.support)
        for norm in norms:
            norm.eval()
        return _full(learner(episode.queries).logits)


@METHODS.register("anil")
class ANIL(_Adapting):
    """Adapt the head alone to a support set, as MAML; learn2learn's ANIL.

    loss = CE of the queries under the head v' and the embedding e, where v' = v - adaptation_lr * gradient of CE of the
    support set in v, step by step

    Almost no inner loop: Raghu et al., ICLR 2020, arXiv 1909.09157. Unlike in ``maml``, adaptation leaves the embedding
    as it is; the embedding is learnt through the adaptation of the head. Batch normalisation is that of every method:
    statistics of the batch in training, running statistics in evaluation.
    """

    equation = r"""
    \mathcal{L}(w, v) = \mathrm{CE}\left(v' e(x_q; w),\ y_q\right), \qquad
    v' = v - \texttt{adaptation\_lr}\ \nabla_v \mathrm{CE}\left(v\, e(x_{\mathrm{sup}}; w),\ y_{\mathrm{sup}}\right)
    """

    Settings = HeadAdaptation
    head_alone = True

    def logits(self, student: Network, episode: Episode, *, first_order: bool) -> Tensor:
        """Return the logits of the queries after adaptation of the head."""
        import torch

        embedding = _full(student.embed(torch.cat([episode.support, episode.queries])))
        support, queries = embedding.split([len(episode.support), len(episode.queries)])
        embedded = Episode(support, episode.support_labels, queries, episode.query_labels)
        return self._adapted(student, embedded, first_order=first_order)

    def answer_embedded(self, student: Network, episode: Episode) -> Tensor:
        """Return the logits of embedded queries, without gradients."""
        return self._adapted(student, episode, first_order=True).detach()

    def _adapted(self, student: Network, episode: Episode, *, first_order: bool) -> Tensor:
        from torch.nn.functional import cross_entropy

        learner = self.learner(student.head, first_order=first_order)
        for _ in range(self.settings.adaptation_steps):
            learner.adapt(cross_entropy(_full(learner(episode.support)), episode.support_labels))
        return _full(learner(episode.queries))


@METHODS.register("protonet")
class ProtoNet(EpisodicMethod):
    """Learn an embedding by prototypes of episodes; learn2learn's prototypical networks.

    loss = CE(-d(e, c_k), y) of the queries, c_k the mean embedding of the support images of class k

    Snell et al., NeurIPS 2017, arXiv 1703.05175. The distance is squared ``euclidean`` or ``cosine``. There is no
    teacher. Queries are answered by the nearest prototype in the same distance, as in the paper.
    """

    equation = r"""
    \mathcal{L} = \mathrm{CE}\left(\left(- d(e_q, c_k)\right)_k,\ y_q\right), \qquad
    c_k = \underset{y_{\mathrm{sup}} = k}{\mathrm{mean}}\ e_{\mathrm{sup}}
    """

    @dataclass(frozen=True)
    class Settings:
        """Distance, and episodes per training step."""

        distance: Literal["euclidean", "cosine"] = "euclidean"
        tasks: Annotated[int, Ge(1)] = 1

    head_alone = True

    def stages(self) -> list[Stage]:
        """Return one stage, which does not use the head."""
        return [Stage(head=False)]

    def episode_loss(self, student: Network, episode: Episode) -> dict[str, Tensor]:
        """Return the cross-entropy of the queries, with negative distances to the prototypes as logits."""
        import torch
        from torch.nn.functional import cross_entropy

        embedding = _full(student.embed(torch.cat([episode.support, episode.queries])))
        support, queries = embedding.split([len(episode.support), len(episode.queries)])
        embedded = Episode(support, episode.support_labels, queries, episode.query_labels)
        return {"ce": cross_entropy(self._logits(embedded), episode.query_labels)}

    def answer_embedded(self, student: Network, episode: Episode) -> Tensor:
        """Return the negative distances of embedded queries to the prototypes, without gradients."""
        return self._logits(episode).detach()

    def _logits(self, embedded: Episode) -> Tensor:
        classifier = load_learn2learn().nn.PrototypicalClassifier(
            embedded.support, embedded.support_labels, distance=self.settings.distance
        )
        logits: Tensor = classifier(embedded.queries)
        return logits
