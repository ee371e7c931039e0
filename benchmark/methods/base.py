"""What a method is: settings, needs, stages, and a loss of named terms.

Files in this package do not import torch at the top, so that listing the methods stays instant.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast

from benchmark.errors import InputError
from benchmark.methods.applicability import RULES, Rule
from benchmark.methods.requirements import IncrementalDefaults, LabelSpaces, Needs, Start, Traits, TransferContext

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from benchmark.backbones.network import Network, Outputs


@functools.lru_cache(maxsize=64)
def index_tensor(indices: tuple[int, ...], device: torch.device) -> Tensor:
    """Return the indices as an int64 tensor on ``device``.

    The tensor is cached: sending the indices at every step would make the host wait.
    """
    import torch

    return torch.tensor(indices, dtype=torch.int64, device=device)


Loss = TypeVar("Loss", bound=Callable[..., Any])


def returns_terms(loss: Loss) -> Loss:
    """Decorate a loss: what it returns must be a dictionary of named numbers, each a tensor without dimensions.

    Raises:
        InputError: It is not; the message names the file, the method, the stage and the term. Raised by the decorated
            loss.
    """
    source = f"{Path(loss.__code__.co_filename).name}, line {loss.__code__.co_firstlineno}"

    @functools.wraps(loss)
    def checked(method: Any, *inputs: Any, **named: Any) -> Any:
        terms = loss(method, *inputs, **named)
        if type(terms) is dict and all(type(name) is str and getattr(v, "shape", 1) == () for name, v in terms.items()):
            return terms
        place = f"{source}: {loss.__name__} of {type(method).__name__}"
        stage = getattr(inputs[0], "stage", None) if inputs else None
        where = place if stage is None else f"{place}, stage {stage!r}"
        if not isinstance(terms, Mapping):
            raise InputError(
                f"{where}: it returns {_a(terms)}; it must return a dictionary of named terms, as "
                '{"ce": ..., "difference": ...}'
            )
        for name, value in terms.items():
            if not isinstance(name, str):
                raise InputError(f"{where}: the name {name!r} of a term is not a string")
            shape = getattr(value, "shape", None)
            if shape is None:
                raise InputError(f"{where}: term {name!r} is {_a(value)}; it must be a tensor without dimensions")
            if shape != ():
                raise InputError(
                    f"{where}: term {name!r} is not a tensor without dimensions: its shape is {tuple(shape)}; "
                    "take its mean or its sum"
                )
        return dict(terms)

    return cast(Loss, checked)


def _a(value: object) -> str:
    name = type(value).__name__
    return "None" if value is None else f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


@dataclass(frozen=True)
class Stage:
    """A part of training with its own loss."""

    name: str = "train"
    share: float = 1.0
    """Share of the training steps; every method has the same number of steps."""
    reset_head: bool = False
    """Draw a new head at the start, unless the student keeps the head it received from the teacher."""
    lr: float = 1.0
    """Learning rate at the start, as a share of the run's rate."""
    final_lr: float | None = None
    """Learning rate at the end, as a share of the rate at the start, reached by a cosine; None: the run's schedule."""
    balanced: bool = False
    """Train on equally many images of each class: the number of the smallest class."""
    continues: str | None = None
    """Name of the stage whose loss this stage uses, with ``progress`` = 1."""
    head: bool = True
    """The loss reaches the head."""
    teacher: bool = True
    """The loss reads the teacher."""


@dataclass(frozen=True)
class Shapes:
    """Shapes of a network's taps for one image, by tap name: stages (C, H, W), embedding (D,), logits (K,)."""

    taps: Mapping[str, tuple[int, ...]]

    @property
    def stages(self) -> list[str]:
        """Names of the stages, from input to output."""
        return [name for name, shape in self.taps.items() if len(shape) == 3]

    def map(self, name: str) -> tuple[int, int, int]:
        """Return the shape (C, H, W) of a stage.

        Raises:
            InputError: The network has no stage of this name.
        """
        if name not in self.stages:
            raise InputError(f"the network has no stage {name!r}; it has {', '.join(self.stages)}")
        channels, height, width = self.taps[name]
        return channels, height, width

    def parse_stages(self, text: str) -> list[str]:
        """Read stage names from text such as ``stage1,stage2``; ``last`` is the last stage.

        Raises:
            InputError: A stage does not exist, or is named twice.
        """
        names = [self.stages[-1] if name.strip() == "last" else name.strip() for name in text.split(",")]
        for name in names:
            self.map(name)
        if len(set(names)) < len(names):
            raise InputError(f"taps {text!r} name a stage twice")
        return names

    def single_stage(self, text: str) -> str:
        """Read one stage name, or ``last``.

        Raises:
            InputError: The stage does not exist, or the text names several.
        """
        names = self.parse_stages(text)
        if len(names) > 1:
            raise InputError(f"method.tap = {text!r}: this method takes one stage")
        return names[0]


@dataclass(frozen=True)
class Batch:
    """The part of a loss's input that does not come from a network."""

    labels: Tensor
    """Labels (B,) in the student's label space."""
    index: Tensor
    """Positions (B,) of the images in the training set."""
    stage: str
    """Name of the stage."""
    progress: float
    """Share of the stage's steps that are done, in [0, 1); 1 in a stage that continues this one."""


@dataclass(frozen=True)
class NoSettings:
    """Settings of a method without settings."""


class Method:
    """Base of all methods: a subclass states its settings, its needs and its loss."""

    Settings: ClassVar[type] = NoSettings
    """Dataclass of the method's settings."""
    needs: ClassVar[Needs] = Needs()
    incremental_defaults: ClassVar[IncrementalDefaults] = IncrementalDefaults()
    version: ClassVar[int] = 1
    """Raised if the same settings give other results than before."""
    tunable: ClassVar[tuple[str, ...]] = ()
    """Settings that ``tune`` searches beside the learning rate, from a tenth of the default to ten times it."""
    family: ClassVar[str] = ""
    """Name of the family, see ``families.FAMILIES``; tables and figures group methods by it."""
    equation: ClassVar[str] = ""
    r"""LaTeX of the loss, for the documentation; a blank line separates formulas. Not inherited by subclasses.

    Symbols are those of docs/methods/index.md; a setting stands in ``\texttt`` by its name.
    """
    rules: ClassVar[tuple[Rule, ...]] = RULES
    """Rules of applicability; a method may add rules of its own."""

    def __init_subclass__(cls, **options: Any) -> None:
        """Check what the loss of a subclass returns, wherever it is called."""
        super().__init_subclass__(**options)
        for name in ("loss", "episode_loss"):
            if name in vars(cls):
                setattr(cls, name, returns_terms(vars(cls)[name]))

    def __init__(self, settings: Any, labels: LabelSpaces, student: Shapes, teacher: Shapes) -> None:
        self.settings = settings
        self.labels = labels
        self.connector: nn.Module | None = self.build_connector(student, teacher)

    @classmethod
    def skip_reason(cls, context: TransferContext, settings: Any = None) -> str | None:
        """Return the reason why the method does not apply, or None if it does.

        Args:
            context: The conditions of use.
            settings: The method's settings; None for the defaults.
        """
        traits = cls.traits(cls.Settings() if settings is None else settings)
        reasons = (rule(traits, context) for rule in cls.rules)
        return next((reason for reason in reasons if reason is not None), None)

    @classmethod
    def traits(cls, settings: Any) -> Traits:
        """Return what the rules of applicability read of the method with these settings."""
        stages = cls.stages_for(settings)
        trains_head = not stages or any(stage.head for stage in stages)
        return Traits(cls.needs, cls.incremental_defaults, settings, trains_head, cls.has_connector())

    @classmethod
    def starts(cls, requested: Start) -> Start:
        """Return the start of the student: the requested one if the method accepts either."""
        return requested if cls.needs.start == "any" else cls.needs.start

    @classmethod
    def reads_teacher(cls, requested: Start) -> bool:
        """Return whether anything of the teacher can reach the student, for a requested start of the student."""
        needs = cls.needs
        alone = needs.trains == "all" and needs.labels == "any" and needs.learns != "experiences"
        reads = needs.teacher or needs.train_embeddings or bool(needs.taps) or cls.starts(requested) == "teacher"
        return reads or not alone

    @classmethod
    def backbone(cls, student: str, teacher: str) -> str:
        """Return the default backbone of the student: the teacher's if the student is the teacher itself."""
        return student if cls.needs.trains == "all" else teacher

    @classmethod
    def has_connector(cls) -> bool:
        """Return whether the method may build a connector."""
        return cls.build_connector is not Method.build_connector

    @property
    def reads_train_embeddings(self) -> bool:
        """Whether ``prepare`` uses the teacher's embeddings with these settings."""
        return self.needs.train_embeddings

    @property
    def augments_train_embeddings(self) -> bool:
        """Whether these embeddings are of random crops, as training shows the images, not of the images themselves."""
        return False

    @classmethod
    def stages_for(cls, settings: Any) -> list[Stage]:
        """Return the stages for given settings; no network is needed."""
        method = cls.__new__(cls)
        method.settings = settings
        return method.stages()

    def build_connector(self, student: Shapes, teacher: Shapes) -> nn.Module | None:
        """Build a module that is trained with the student, such as a regressor between maps; None by default."""
        return None

    def stages(self) -> list[Stage]:
        """Return the parts of training in order; their shares sum to 1. Empty if nothing is trained."""
        return [Stage()] if self.needs.trains != "nothing" else []

    def prepare(self, student: Network, labels: Tensor, embeddings: Tensor | None) -> None:
        """Prepare for training; called once before the first step.

        Args:
            student: The student with its initial weights, on its device.
            labels: Labels (N,) of all training images.
            embeddings: The teacher's embeddings (N, D) of these images if ``needs.train_embeddings``, else None.
        """

    def shared_logits(self, student: Outputs, teacher: Outputs) -> tuple[Tensor, Tensor]:
        """Return the logits of both networks, each (B, shared), over the classes that both have, in the same order."""
        if self.labels.student == self.labels.teacher:
            return student.logits, teacher.logits
        device = student.logits.device
        columns, teacher_columns = (index_tensor(tuple(part), device) for part in self.labels.shared())
        return student.logits.index_select(1, columns), teacher.logits.index_select(1, teacher_columns)

    def loss(self, batch: Batch, student: Outputs, teacher: Outputs | None) -> dict[str, Tensor]:
        """Compute the terms of the loss for a batch.

        Abstract, except for methods without stages: their loss is never computed.

        Args:
            batch: Labels, positions and stage.
            student: The student's outputs for the batch.
            teacher: The teacher's outputs; None unless ``needs.teacher``.

        Returns:
            Weighted scalar terms by name; the student minimises their sum.
        """
        raise NotImplementedError
