"""What a method requires of a run, and the conditions that a protocol offers it."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, Literal

Relation = Literal["same", "overlap", "disjoint", "extended"]
"""The student's classes against the teacher's; ``extended``: the student has all of the teacher's classes and more."""
Start = Literal["fresh", "teacher"]
"""Initial weights of a student: drawn at random, or copied from the teacher."""
Rebalance = Literal["none", "balanced", "align"]
"""Correction of the bias towards new classes, see ``IncrementalDefaults``."""
Head = Literal["net", "ncm", "nme"]
"""Classifier of an incremental student, see ``IncrementalDefaults``."""


@dataclass(frozen=True)
class LabelSpaces:
    """The class identities of student and teacher, each in the order of its network's outputs."""

    student: tuple[int, ...]
    teacher: tuple[int, ...]

    def shared(self) -> tuple[list[int], list[int]]:
        """Match the classes that both networks have, by identity.

        Returns:
            The student's output indices and the teacher's output indices of these classes, in the same order.
        """
        return self._shared

    @functools.cached_property
    def _shared(self) -> tuple[list[int], list[int]]:
        position = {c: i for i, c in enumerate(self.teacher)}
        pairs = [(i, position[c]) for i, c in enumerate(self.student) if c in position]
        return [i for i, _ in pairs], [j for _, j in pairs]


@dataclass(frozen=True)
class TransferContext:
    """The conditions under which a method is used."""

    label_relation: Relation
    """Relation between student and teacher classes."""
    student: str
    """Name of the student's backbone."""
    teacher: str
    """Name of the teacher's backbone."""
    start: Start = "fresh"
    """Initial weights for a method that accepts either."""
    exemplars: int | None = None
    """Images kept per old class; None if the protocol has no old classes."""
    evaluated: Literal["embedding", "logits"] = "logits"
    """The student output that is evaluated."""
    start_backbone: str | None = None
    """Backbone of the network that a student may start from; None if that network is the teacher."""
    parallel_students: bool = False
    """True if many students are trained together; only embeddings and logits are then available."""
    episodic: bool = False
    """True if the student answers episodes of novel classes."""


@dataclass(frozen=True)
class Needs:
    """The requirements of a method, as data."""

    teacher: bool = False
    """The loss reads the teacher's outputs."""
    taps: tuple[str, ...] = ()
    """Stages that the loss reads from both networks, beside logits and embedding (settings may override)."""
    weights: bool = False
    """The loss reads the student's weights."""
    labels: Literal["any", "overlap", "same", "extended"] = "any"
    """Label spaces for which the method is defined."""
    train_embeddings: bool = False
    """``prepare`` receives the teacher's embeddings of all training images."""
    start: Literal["fresh", "teacher", "any"] = "any"
    """Initial student weights: drawn, the teacher's, or either (``student.start`` decides).

    From the teacher the head receives the rows of the classes that both networks have, matched by identity.
    """
    trains: Literal["all", "head", "nothing"] = "all"
    """The trained part: the whole student, its head on a frozen backbone, or nothing.

    Unless all of it is trained, the student is the teacher itself.
    """
    learns: Literal["batches", "episodes", "experiences"] = "batches"
    """The loop: over batches, over episodes (``EpisodicMethod``), or another library's (``ExperienceMethod``)."""
    exemplars: bool = False
    """The method is undefined without images of old classes."""
    index: bool = False
    """The loss reads the positions of a batch's images in the training set."""


@dataclass(frozen=True)
class IncrementalDefaults:
    """The default choices of a method if classes are added; settings of the protocol may override the last two."""

    memory: Literal["exemplars", "none", "all"] = "exemplars"
    """Images of old classes in the training set; ``all`` gives an upper bound."""
    rebalance: Rebalance = "none"
    """Correction of the bias towards new classes.

    ``balanced`` ends training with equally many images of each class, at a tenth of the rate. ``align`` scales the
    head's rows of new classes to the mean norm of the rows of old classes.
    """
    head: Head = "net"
    """Classifier: the network's head, or the nearest class mean.

    The mean is over all training images (``ncm``) or over equally many exemplars of each class (``nme``).
    """


@dataclass(frozen=True)
class Traits:
    """What the rules of applicability read of a method with given settings."""

    needs: Needs
    incremental_defaults: IncrementalDefaults
    settings: Any
    trains_head: bool
    """Some stage trains the head, or there is no stage."""
    has_connector: bool
    """The method may build a connector."""
