"""What a method is: settings, needs, stages, and a loss of named terms.

Files in this folder import torch nowhere at their top, so that listing the methods stays instant.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from benchmark.errors import InputError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from benchmark.backbones.network import Network, Outputs

Relation = Literal["same", "overlap", "disjoint", "extended"]
Start = Literal["fresh", "teacher"]


@functools.lru_cache(maxsize=64)
def index_tensor(indices: tuple[int, ...], device: torch.device) -> Tensor:
    """The indices on a device, sent there once: sending them at every step would make the host wait."""
    import torch

    return torch.tensor(indices, dtype=torch.int64, device=device)


@dataclass(frozen=True)
class LabelSpaces:
    """The classes of student and teacher, by identity, each in the order of its network's outputs."""

    student: tuple[int, ...]
    teacher: tuple[int, ...]

    def shared(self) -> tuple[list[int], list[int]]:
        """Student outputs and teacher outputs of the classes both have, matched by identity."""
        return self._shared

    @functools.cached_property
    def _shared(self) -> tuple[list[int], list[int]]:
        position = {c: i for i, c in enumerate(self.teacher)}
        pairs = [(i, position[c]) for i, c in enumerate(self.student) if c in position]
        return [i for i, _ in pairs], [j for _, j in pairs]


@dataclass(frozen=True)
class TransferContext:
    """Where a method is to be used: how the student's classes stand to the teacher's, and both backbones by name.

    start: how a student starts whose method takes either; exemplars: images kept per class of earlier classes, None
    where there are no such classes; judged: what of the student is; origin: the backbone of the network a student may
    start from, where that is not the teacher; many: students are trained side by side, on embeddings and logits alone;
    episodes: what is judged is answers to episodes of novel classes.
    """

    relation: Relation
    student: str
    teacher: str
    start: Start = "fresh"
    exemplars: int | None = None
    judged: Literal["embedding", "logits"] = "logits"
    origin: str | None = None
    many: bool = False
    episodes: bool = False


@dataclass(frozen=True)
class Needs:
    """What a method asks for, as data.

    teacher: whether the teacher's outputs enter the loss; taps: stages it reads on both networks unless its settings
    say others, beside logits and embedding; weights: whether its loss reads the student's weights; labels: which label
    spaces it makes sense for; train_embeddings: whether ``prepare`` is to be given the teacher's embeddings of all
    training images.

    start: whether the student's weights are drawn, are the teacher's (with its head's rows of the classes that both
    have, by identity), or either, as ``student.start`` says; trains: the whole student, its head alone on a frozen
    backbone, or nothing. Where not all is trained the student is the teacher itself. learns: from batches, by ``loss``,
    from episodes, as an ``EpisodicMethod`` does, or by another library's loop, as an ``ExperienceMethod``.

    exemplars: whether it makes no sense without images of earlier classes; index: whether its loss reads which images a
    batch holds.
    """

    teacher: bool = False
    taps: tuple[str, ...] = ()
    weights: bool = False
    labels: Literal["any", "overlap", "same", "extended"] = "any"
    train_embeddings: bool = False
    start: Literal["fresh", "teacher", "any"] = "any"
    trains: Literal["all", "head", "nothing"] = "all"
    learns: Literal["batches", "episodes", "experiences"] = "batches"
    exemplars: bool = False
    index: bool = False


Rebalance = Literal["none", "balanced", "align"]
Head = Literal["net", "ncm", "nme"]


@dataclass(frozen=True)
class IncrementalDefaults:
    """What completes a method where earlier classes are to be kept; settings of the protocol may say otherwise.

    memory: the images of earlier classes that it trains on (``all`` for an upper bound); rebalance: ``balanced`` ends
    training with as many images of each class, at a tenth of the rate, ``align`` scales the head's new rows to the mean
    norm of the old ones; head: the network's own, the nearest mean of the training images (``ncm``) or of as many
    exemplars of every class (``nme``).
    """

    memory: Literal["exemplars", "none", "all"] = "exemplars"
    rebalance: Rebalance = "none"
    head: Head = "net"


@dataclass(frozen=True)
class Stage:
    """A part of training with its own loss. ``share``: its part of the steps all methods are given alike.

    reset_head: draw the head anew at its start, unless the student has it from the teacher and goes on with it;
    lr: the rate at its start, as a share of the run's; final_lr: the rate at its end, as a share of that, where a
    cosine leads there whatever the run's schedule is (None: the run's schedule); balanced: train on as many images of
    each class as the smallest one has; goes_on: the stage whose loss, as at its end, this one has in place of its own;
    head, teacher: whether its loss reaches the head, and reads the teacher.
    """

    name: str = "train"
    share: float = 1.0
    reset_head: bool = False
    lr: float = 1.0
    final_lr: float | None = None
    balanced: bool = False
    continues: str | None = None
    head: bool = True
    teacher: bool = True


@dataclass(frozen=True)
class Shapes:
    """Shapes of a network's taps for one image, by tap name: stages (C, H, W), embedding (D,), logits (K,)."""

    taps: Mapping[str, tuple[int, ...]]

    @property
    def stages(self) -> list[str]:
        """Names of the stages, from input to output."""
        return [name for name, shape in self.taps.items() if len(shape) == 3]

    def map(self, name: str) -> tuple[int, int, int]:
        """The shape (C, H, W) of a stage; a name that is no stage raises ``InputError`` with those there are."""
        if name not in self.stages:
            raise InputError(f"the network has no stage {name!r}; it has {', '.join(self.stages)}")
        channels, height, width = self.taps[name]
        return channels, height, width

    def named(self, names: str) -> list[str]:
        """Stages from text such as ``stage1,stage2``, where ``last`` is the last one; unknown ones as in ``map``."""
        found = [self.stages[-1] if name.strip() == "last" else name.strip() for name in names.split(",")]
        for name in found:
            self.map(name)
        if len(set(found)) < len(found):
            raise InputError(f"taps {names!r} name a stage twice")
        return found

    def one(self, name: str) -> str:
        """A single stage by its name or ``last``; several raise ``InputError``."""
        found = self.named(name)
        if len(found) > 1:
            raise InputError(f"method.tap = {name!r}: this method takes one stage")
        return found[0]


@dataclass(frozen=True)
class Batch:
    """What the loss learns of a batch beside the networks' outputs.

    labels: B, in the student's label space; index: B, positions among the training images; stage: the name of the
    stage; progress: share of its steps that are done, in [0, 1), or 1 where another stage goes on with its loss.
    """

    labels: Tensor
    index: Tensor
    stage: str
    progress: float


@dataclass(frozen=True)
class NoSettings:
    """For a method without settings."""


class Method:
    """Base of all methods. ``version`` rises when the same settings give other results than before.

    ``tunable``: its own settings that ``tune`` searches beside the learning rate, the weights of its terms; the range
    of each is from a tenth of its default to ten times that.
    """

    Settings: ClassVar[type] = NoSettings
    needs: ClassVar[Needs] = Needs()
    incremental_defaults: ClassVar[IncrementalDefaults] = IncrementalDefaults()
    version: ClassVar[int] = 1
    tunable: ClassVar[tuple[str, ...]] = ()

    def __init__(self, settings: Any, labels: LabelSpaces, student: Shapes, teacher: Shapes) -> None:
        self.settings = settings
        self.labels = labels
        self.connector: nn.Module | None = self.build_connector(student, teacher)

    @classmethod
    def skip_reason(cls, situation: TransferContext, settings: Any = None) -> str | None:
        """None where the method makes sense, else the reason why not. ``settings``: its own, or None for defaults."""
        if cls.needs.labels == "same" and situation.relation != "same":
            return "it compares outputs class by class and needs the teacher's own label space"
        if cls.needs.labels == "overlap" and situation.relation == "disjoint":
            return "it compares outputs class by class and teacher and student share no class"
        if cls.needs.labels == "extended" and situation.relation != "extended":
            if situation.exemplars is not None:
                return "it adds classes to those of its teacher, and this teacher has classes of its own"
            return "it adds classes to those of its teacher; the incremental protocols do that"
        if cls.needs.learns == "episodes" and not situation.episodes:
            return "it learns to answer episodes; the fewshot protocols ask them"
        stages = cls.stages_for(cls.Settings() if settings is None else settings)
        if situation.judged == "logits" and stages and not any(stage.head for stage in stages):
            return "its settings leave the head untrained, and the head is what is judged"
        if situation.exemplars == 0 and cls.incremental_defaults.head != "net":
            return "its head is the nearest class mean, and without exemplars earlier classes have none"
        if situation.exemplars == 0 and cls.needs.exemplars:
            return "it replays exemplars of earlier classes, and here are 0"
        if situation.many:
            if cls.needs.taps or cls.needs.weights or cls.build_connector is not Method.build_connector:
                return "many students learn side by side here; it needs more of each than embedding and logits"
            if cls.needs.trains == "head":
                return "it would train nothing but heads step by step; logistic-regression fits them"
        origin = situation.teacher if cls.needs.trains != "all" else situation.origin or situation.teacher
        if cls.starts(situation.start) == "teacher" and situation.student != origin:
            what = "the student starts from" if cls.needs.trains == "all" else "the student is"
            return (
                f"{what} the teacher and takes its backbone, which is {origin}, not {situation.student}; "
                f"set student.backbone={origin}" + (" or student.start=fresh" if cls.needs.start == "any" else "")
            )
        return None

    @classmethod
    def starts(cls, wanted: Start) -> Start:
        """How its student starts: as wanted where it takes either."""
        return wanted if cls.needs.start == "any" else cls.needs.start

    @classmethod
    def backbone(cls, student: str, teacher: str) -> str:
        """The student's backbone where nobody asks for one: the teacher's where the student is the teacher itself."""
        return student if cls.needs.trains == "all" else teacher

    @property
    def reads_train_embeddings(self) -> bool:
        """Whether ``prepare`` uses the teacher's embeddings with these settings."""
        return self.needs.train_embeddings

    @classmethod
    def stages_for(cls, settings: Any) -> list[Stage]:
        """The stages that such settings give, without any network."""
        method = cls.__new__(cls)
        method.settings = settings
        return method.stages()

    def build_connector(self, student: Shapes, teacher: Shapes) -> nn.Module | None:
        """A module trained along with the student, such as a regressor between maps; none by default."""
        return None

    def stages(self) -> list[Stage]:
        """The parts of training, in order; their shares sum to 1. None where nothing is trained."""
        return [Stage()] if self.needs.trains != "nothing" else []

    def prepare(self, student: Network, labels: Tensor, embeddings: Tensor | None) -> None:
        """Before training: the student as it starts, on its device, and the labels (N) of all training images.

        embeddings: the teacher's of the same images (N x D) where ``needs.train_embeddings``, else None.
        """

    def shared_logits(self, student: Outputs, teacher: Outputs) -> tuple[Tensor, Tensor]:
        """Logits of both networks over the classes that both have, matched by identity: B x shared, twice."""
        if self.labels.student == self.labels.teacher:
            return student.logits, teacher.logits
        device = student.logits.device
        columns, teacher_columns = (index_tensor(tuple(part), device) for part in self.labels.shared())
        return student.logits.index_select(1, columns), teacher.logits.index_select(1, teacher_columns)

    def loss(self, batch: Batch, student: Outputs, teacher: Outputs | None) -> dict[str, Tensor]:
        """Named, weighted terms; their sum is what the student minimises. ``teacher`` is None unless needed.

        Abstract, but for methods without stages, which are never asked for a loss.
        """
        raise NotImplementedError
