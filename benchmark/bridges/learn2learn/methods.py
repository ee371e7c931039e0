"""Methods of learn2learn (Arnold et al. 2020, arXiv 2008.12284)."""

from __future__ import annotations

import functools
import importlib.util
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, Gt

from benchmark.methods import Stage
from benchmark.methods.episodic import Episode, EpisodicMethod
from benchmark.system.optional_packages import load_extra

if TYPE_CHECKING:
    from torch import Tensor, nn

    from benchmark.backbones.network import Network


@functools.cache
def load_learn2learn() -> Any:
    """The package, without what it says of itself; where it is missing, ``InputError`` with the command to type.

    It imports gym, which prints that it is old, and qpth, whose docstrings have backslashes that Python warns of.
    """
    if importlib.util.find_spec("gym_notices") is not None:
        importlib.import_module("gym_notices.notices").notices.clear()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"invalid escape sequence", DeprecationWarning)
        warnings.filterwarnings("ignore", r"invalid escape sequence", SyntaxWarning)
        return load_extra("learn2learn", "bridges", "learn2learn's method or task set")


def _full(outputs: Tensor) -> Tensor:
    """In float32 at the least: what losses and distances need after a forward pass in lower precision."""
    import torch

    return outputs.to(torch.promote_types(outputs.dtype, torch.float32))


@dataclass(frozen=True)
class Adaptation:
    """Steps on a support set and their rate, episodes per training step, and the rate of training.

    Steps and their rate are those of learn2learn's examples. ``first_order``: the gradient is not taken through the
    steps. ``lr_share``: of the run's rate; what other methods take well, 0.1, is too much for gradients through steps.
    """

    adaptation_steps: Annotated[int, Ge(1)] = 1
    adaptation_lr: Annotated[float, Gt(0)] = 0.5
    first_order: bool = False
    tasks: Annotated[int, Ge(1)] = 1
    lr_share: Annotated[float, Gt(0)] = 0.2


@dataclass(frozen=True)
class HeadAdaptation(Adaptation):
    """As ``Adaptation``; more and smaller steps, which cost little on a head."""

    adaptation_steps: Annotated[int, Ge(1)] = 5
    adaptation_lr: Annotated[float, Gt(0)] = 0.1


class _Adapting(EpisodicMethod):
    """What MAML and ANIL have in common: a copy that takes a few steps on the support set answers the queries."""

    Settings = Adaptation
    tunable = ("adaptation_lr",)

    def stages(self) -> list[Stage]:
        """One, at a share of the run's rate."""
        return [Stage(lr=self.settings.lr_share)]

    def learner(self, module: nn.Module, *, first_order: bool) -> Any:
        """learn2learn's copy of a module, which adapts and passes gradients on to the module's own weights."""
        algorithms = load_learn2learn().algorithms
        return algorithms.MAML(module, lr=self.settings.adaptation_lr, first_order=first_order).clone()

    def logits(self, student: Network, episode: Episode, *, first_order: bool) -> Tensor:
        """Logits of the queries after adaptation to the support set."""
        raise NotImplementedError

    def episode_loss(self, student: Network, episode: Episode) -> dict[str, Tensor]:
        """``CE(z_q, y_q)`` of the adapted copy."""
        from torch.nn.functional import cross_entropy

        logits = self.logits(student, episode, first_order=self.settings.first_order)
        return {"ce": cross_entropy(logits, episode.query_labels)}

    def answer(self, student: Network, episode: Episode) -> Tensor:
        """As in training, but nothing further is differentiated."""
        return self.logits(student, episode, first_order=True).detach()


class MAML(_Adapting):
    """Learn weights from which a few steps on a support set lead far; learn2learn's MAML.

    loss = CE of the queries under w', where w' = w - adaptation_lr * gradient of CE of the support set, step by step

    Model-agnostic meta-learning: Finn et al., ICML 2017, arXiv 1703.03400. The whole network takes
    ``adaptation_steps`` of plain gradient descent on the support set, and the cross-entropy of the queries under the
    weights reached is minimised in those it set out from. There is no teacher.

    Batch normalisation: learn2learn's own examples normalise queries by the statistics of all queries asked together,
    which tells each of them about the others. Here they are normalised by the statistics of the support set under the
    adapted weights, in training and when judged, so that each query is answered by itself. The support images therefore
    go through the network once more than there are steps, and count as often among the images of a run.
    """

    def passes(self, support: int, queries: int) -> int:
        """Support images once a step and once for their statistics."""
        return support * (self.settings.adaptation_steps + 1) + queries

    def logits(self, student: Network, episode: Episode, *, first_order: bool) -> Tensor:
        """Logits of the queries after adaptation of the whole network."""
        import torch
        from torch.nn.functional import cross_entropy

        learner = self.learner(student, first_order=first_order)
        norms = [module for module in learner.modules() if isinstance(module, torch.nn.modules.batchnorm._BatchNorm)]
        for norm in norms:  # of the copy: the student keeps its own mode
            norm.train()
            norm.momentum = 1.0
        for _ in range(self.settings.adaptation_steps):
            learner.adapt(cross_entropy(_full(learner(episode.support).logits), episode.support_labels))
        with torch.no_grad():
            learner(episode.support)
        for norm in norms:
            norm.eval()
        return _full(learner(episode.queries).logits)


class ANIL(_Adapting):
    """MAML whose head alone adapts to a support set; learn2learn's ANIL.

    loss = CE of the queries under the head v' and the embedding e, where v' = v - adaptation_lr * gradient of CE of the
    support set in v, step by step

    Almost no inner loop: Raghu et al., ICLR 2020, arXiv 1909.09157. As ``maml``, but the embedding is the same before
    and after; it is learnt through the adaptation of the head. Batch normalisation is that of every method: statistics
    of the batch in training, of all training when judged.
    """

    Settings = HeadAdaptation
    head_alone = True

    def logits(self, student: Network, episode: Episode, *, first_order: bool) -> Tensor:
        """Logits of the queries after adaptation of the head."""
        import torch

        embedding = _full(student.embed(torch.cat([episode.support, episode.queries])))
        support, queries = embedding.split([len(episode.support), len(episode.queries)])
        embedded = Episode(support, episode.support_labels, queries, episode.query_labels)
        return self._adapted(student, embedded, first_order=first_order)

    def answer_embedded(self, student: Network, episode: Episode) -> Tensor:
        """By the head alone; nothing further is differentiated."""
        return self._adapted(student, episode, first_order=True).detach()

    def _adapted(self, student: Network, episode: Episode, *, first_order: bool) -> Tensor:
        from torch.nn.functional import cross_entropy

        learner = self.learner(student.head, first_order=first_order)
        for _ in range(self.settings.adaptation_steps):
            learner.adapt(cross_entropy(_full(learner(episode.support)), episode.support_labels))
        return _full(learner(episode.queries))


class ProtoNet(EpisodicMethod):
    """Learn an embedding by prototypes of episodes; learn2learn's prototypical networks.

    loss = CE(-d(e, c_k), y) of the queries, c_k the mean embedding of the support images of class k

    Snell et al., NeurIPS 2017, arXiv 1703.05175. Distances are ``euclidean``, squared, or ``cosine``. There is no
    teacher. What is judged is the embedding, by ``protocol.head`` as for every method; ``--set
    protocol.head=euclidean`` is the paper's.
    """

    @dataclass(frozen=True)
    class Settings:
        """The distance, and episodes per training step."""

        distance: Literal["euclidean", "cosine"] = "euclidean"
        tasks: Annotated[int, Ge(1)] = 1

    adapts = False

    def stages(self) -> list[Stage]:
        """One, in which there is no use of the head."""
        return [Stage(head=False)]

    def episode_loss(self, student: Network, episode: Episode) -> dict[str, Tensor]:
        """``CE(-d(e_q, prototypes), y_q)``."""
        import torch
        from torch.nn.functional import cross_entropy

        embedding = _full(student.embed(torch.cat([episode.support, episode.queries])))
        support, queries = embedding.split([len(episode.support), len(episode.queries)])
        classifier = load_learn2learn().nn.PrototypicalClassifier(
            support, episode.support_labels, distance=self.settings.distance
        )
        return {"ce": cross_entropy(classifier(queries), episode.query_labels)}
