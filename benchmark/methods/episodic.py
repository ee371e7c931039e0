"""What a method is that learns from episodes, and the names of those that the bridge to learn2learn brings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from benchmark.methods import METHODS, Method, Needs

if TYPE_CHECKING:
    from torch import Tensor

    from benchmark.backbones.network import Network


@dataclass(frozen=True)
class Episode:
    """A task of N classes on a device.

    support: N * K x C x H x W, normalised; queries: N * Q x C x H x W; labels of both: positions among the N classes.
    """

    support: Tensor
    support_labels: Tensor
    queries: Tensor
    query_labels: Tensor


class EpisodicMethod(Method):
    """Base of methods that learn from episodes of base classes, as many ways and shots as those they are judged on.

    They take as many steps as every method. A step shows them no more images than ``training.batch_size``, in ``tasks``
    episodes: what the support images leave of these are queries. The student's head has one output for each way.

    adapts: whether it answers queries by what it makes of the support set; else its embedding is judged, as of others.
    head_alone: whether it adapts nothing but the head: an image is then embedded once for all episodes that are asked.
    """

    needs = Needs(start="fresh", learns="episodes")
    adapts: ClassVar[bool] = True
    head_alone: ClassVar[bool] = False

    @property
    def tasks(self) -> int:
        """Episodes per step, as the settings say."""
        tasks: int = self.settings.tasks
        return tasks

    def passes(self, support: int, queries: int) -> int:
        """How many images go through the student for an episode of so many images: one shown twice counts twice."""
        return support + queries

    def episode_loss(self, student: Network, episode: Episode) -> dict[str, Tensor]:
        """Named terms of one episode; their sum, averaged over a step's episodes, is what the student minimises."""
        raise NotImplementedError

    def answer(self, student: Network, episode: Episode) -> Tensor:
        """Logits of the queries (N * Q x N) by a student in eval mode, which it leaves as it is.

        Each query is answered by itself: what else is asked changes nothing.
        """
        raise NotImplementedError

    def answer_embedded(self, student: Network, episode: Episode) -> Tensor:
        """As ``answer``, of an episode of embeddings (N * K x D and N * Q x D); asked where ``head_alone``."""
        raise NotImplementedError


for _name, _entry, _help in (
    ("maml", "MAML", "Learn weights from which a few steps on a support set lead far; learn2learn's MAML."),
    ("anil", "ANIL", "MAML whose head alone adapts to a support set; learn2learn's ANIL."),
    ("protonet", "ProtoNet", "Learn an embedding by prototypes of episodes; learn2learn's prototypical networks."),
):
    METHODS.register_lazy(_name, f"benchmark.bridges.learn2learn.methods:{_entry}", help=_help)
