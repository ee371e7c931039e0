"""What a method is: settings, needs, stages, and a loss of named terms.

Files in this folder import torch nowhere at their top, so that listing the methods stays instant.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from benchmark.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from benchmark.backbones.network import Outputs

Relation = Literal["same", "overlap", "disjoint"]


@dataclass(frozen=True)
class LabelSpaces:
    """The classes of student and teacher, by identity, each in the order of its network's outputs."""

    student: tuple[int, ...]
    teacher: tuple[int, ...]

    @property
    def relation(self) -> Relation:
        """``same`` (equal sets), ``overlap`` (some shared) or ``disjoint``."""
        if set(self.student) == set(self.teacher):
            return "same"
        return "overlap" if set(self.student) & set(self.teacher) else "disjoint"

    def shared(self) -> tuple[list[int], list[int]]:
        """Student outputs and teacher outputs of the classes both have, matched by identity."""
        position = {c: i for i, c in enumerate(self.teacher)}
        pairs = [(i, position[c]) for i, c in enumerate(self.student) if c in position]
        return [i for i, _ in pairs], [j for _, j in pairs]


@dataclass(frozen=True)
class Needs:
    """What a method asks for, as data.

    teacher: whether the teacher's outputs enter the loss; taps: stage names it reads on both networks beside logits
    and embedding; labels: which label spaces it makes sense for; train_embeddings: whether ``prepare`` is to be
    called with the teacher's embeddings of all training images.
    """

    teacher: bool = False
    taps: tuple[str, ...] = ()
    labels: Literal["any", "overlap", "same"] = "any"
    train_embeddings: bool = False


@dataclass(frozen=True)
class Stage:
    """A part of training with its own loss. ``share``: its part of the steps all methods are given alike.

    fresh_head: draw the head anew at its start; final_lr: the rate at its end, as a share of the initial rate.
    """

    name: str = "train"
    share: float = 1.0
    fresh_head: bool = False
    final_lr: float = 0.0


@dataclass(frozen=True)
class Shapes:
    """Shapes of a network's taps for one image, by tap name: stages (C, H, W), embedding (D,), logits (K,)."""

    taps: Mapping[str, tuple[int, ...]]

    def map(self, name: str) -> tuple[int, int, int]:
        """The shape (C, H, W) of a stage; a name that is no stage raises ``InputError`` with those there are."""
        shape = self.taps.get(name, ())
        if len(shape) != 3:
            stages = ", ".join(tap for tap, s in self.taps.items() if len(s) == 3)
            raise InputError(f"the network has no stage {name!r}; it has {stages}")
        return (shape[0], shape[1], shape[2])


@dataclass(frozen=True)
class Batch:
    """What the loss learns of a batch beside the networks' outputs.

    labels: B, in the student's label space; index: B, positions among the training images; stage: the name of the
    stage; progress: share of the stage's steps that are done, in [0, 1).
    """

    labels: Tensor
    index: Tensor
    stage: str
    progress: float


@dataclass(frozen=True)
class NoSettings:
    """For a method without settings."""


class Method:
    """Base of all methods. ``version`` rises when the same settings give other results than before."""

    Settings: ClassVar[type] = NoSettings
    needs: ClassVar[Needs] = Needs()
    version: ClassVar[int] = 1

    def __init__(self, settings: Any, labels: LabelSpaces, student: Shapes, teacher: Shapes) -> None:
        self.settings = settings
        self.labels = labels
        self.connector: nn.Module | None = self.build_connector(student, teacher)

    @classmethod
    def applies(cls, labels: Relation) -> str | None:
        """None where the method makes sense for such label spaces, else the reason why not."""
        if cls.needs.labels == "same" and labels != "same":
            return "it compares outputs class by class and needs the teacher's own label space"
        if cls.needs.labels == "overlap" and labels == "disjoint":
            return "it compares outputs class by class and teacher and student share no class"
        return None

    def build_connector(self, student: Shapes, teacher: Shapes) -> nn.Module | None:
        """A module trained along with the student, such as a regressor between maps; none by default."""
        return None

    def stages(self) -> list[Stage]:
        """The parts of training, in order; their shares sum to 1."""
        return [Stage()]

    def prepare(self, embeddings: Tensor, labels: Tensor) -> None:
        """Receive the teacher's embeddings (N x D) of all training images and their labels (N), before training."""

    def loss(self, batch: Batch, student: Outputs, teacher: Outputs | None) -> dict[str, Tensor]:
        """Named, weighted terms; their sum is what the student minimises. ``teacher`` is None unless needed."""
        raise NotImplementedError
