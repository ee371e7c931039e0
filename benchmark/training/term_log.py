"""History, divergence and progress of a training: shared by the four training loops."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.system.progress import Progress
from benchmark.training.cost_clock import CostClock
from benchmark.training.finite import DivergedError, tensor_that_is_not_finite

_REPORT_SECONDS = 0.5


@dataclass
class TrainingResult:
    """The cost and the course of one training.

    Attributes:
        steps: Steps of the optimiser, summed over students.
        images: Images that went through students; a repeated image counts again.
        seconds: Seconds of the loop.
        history: Rows with the stage, the step and the mean of each term since the row before.
    """

    steps: int = 0
    images: int = 0
    seconds: float = 0.0
    history: list[dict[str, float | str]] = field(default_factory=list)

    def merged(self, other: TrainingResult) -> TrainingResult:
        """Return the sum of two trainings; their histories are averaged by images, row by row."""
        if not self.images:
            return other
        share = other.images / (self.images + other.images)
        history = [
            {k: v if isinstance(v, str) else (1 - share) * v + share * float(other_row[k]) for k, v in row.items()}
            for row, other_row in zip(self.history, other.history, strict=True)
        ]
        return TrainingResult(
            self.steps + other.steps, self.images + other.images, self.seconds + other.seconds, history
        )

    def summary(self, *, seconds: float, students: int = 1) -> dict[str, Any]:
        """Return what a record says about the training.

        Args:
            seconds: Seconds of everything the student took, the loop included.
            students: Number of students; steps and images are recorded per student.
        """
        return {
            "steps": self.steps // students, "images": self.images // students, "seconds": seconds,
            "loop_seconds": self.seconds, "history": self.history,
        }  # fmt: skip


class TermLog:
    """Averages the named terms of a loss and keeps the ``TrainingResult`` of a loop.

    A loop calls ``add`` and ``end_step`` in every step, and ``report`` after it has saved its checkpoint.
    """

    def __init__(
        self, progress: Progress, title: str, steps: int, *, rows: int = 20, students: int = 1,
        clock: CostClock | None = None, rate: str = "training.lr",
    ) -> None:  # fmt: skip
        """Start the clock of the training.

        Args:
            progress: Receives title, terms and rate.
            title: Name of the training.
            steps: Steps of the whole training, for each student.
            rows: Number of history rows; the last step of each stage adds one.
            students: Number of students.
            clock: Clock of the recorded seconds; by default one of its own.
            rate: Setting of the learning rate, for the message of a training that diverges.
        """
        self.result = TrainingResult()
        self._progress = progress
        self._title = title
        self._rate = rate
        self._steps = steps
        self._total = steps * students
        self._every = max(1, steps // rows)
        self._clock = clock or CostClock()
        self._started = self._clock.now()
        self._reported = time.perf_counter()
        self._students = 1
        self._step = 0
        self._stage = ""
        self._sums: dict[str, Tensor] = {}
        self._since = 0
        self._latest: dict[str, float] = {}

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """Show the training as one piece of work while the context lasts."""
        self._progress.begin(self._title, self._total)
        try:
            yield
        finally:
            self._progress.end()

    def add(self, terms: Mapping[str, Tensor]) -> None:
        """Add the terms of one step, or a part of them."""
        for name, term in terms.items():
            self._sums[name] = self._sums.get(name, torch.zeros((), device=term.device)) + term.detach()

    def end_step(self, stage: str, *, images: int, last: bool) -> None:
        """Count a step, and write a history row if one is due.

        Args:
            stage: Name of the stage.
            images: Images of this step, over all students.
            last: Whether this step is the last one of its stage.

        Raises:
            DivergedError: If the mean of a term since the last row is not finite.
        """
        self._stage = stage
        self._step += 1
        self._since += 1
        self.result.steps += self._students
        self.result.images += images
        if self._step % self._every == 0 or last:
            self._write_row()
            self._sums, self._since = {}, 0

    def report(self, *, last: bool) -> None:
        """Show the latest terms and the rate, at most twice a second and after the last step of a stage."""
        if time.perf_counter() - self._reported > _REPORT_SECONDS or last:
            self._reported = time.perf_counter()
            terms = " ".join(f"{name} {value:.3g}" for name, value in self._latest.items())
            rate = self.result.steps / self._seconds()
            self._progress.advance(self.result.steps, f"{self._stage} {terms} {rate:.0f} steps/s")

    def end(self, network: nn.Module) -> TrainingResult:
        """Stop the clock and return the result of a training.

        Args:
            network: The trained network.

        Raises:
            DivergedError: If a weight of the network is not finite.
        """
        self._check_weights(network)
        return self.finish()

    def finish(self) -> TrainingResult:
        """Stop the clock and return the result so far."""
        self.result.seconds = self._seconds()
        return self.result

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the tensors and JSON values from which ``restore`` continues."""
        fitted = dataclasses.asdict(self.finish())
        tensors = {f"sums/{name}": value for name, value in self._sums.items()}
        return tensors, {"sums": list(self._sums), "since": self._since, "fitted": fitted}

    def restore(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any], device: torch.device) -> None:
        """Continue from a state; the seconds of the interrupted attempt count."""
        self.result = TrainingResult(**facts["fitted"])
        self._started -= self.result.seconds
        self._step = self.result.steps
        self._sums = {name: tensors[f"sums/{name}"].to(device) for name in facts["sums"]}
        self._since = facts["since"]
        self._progress.say(f"{self._title}: resumes at step {self._step} of {self._steps}")

    def _seconds(self) -> float:
        return self._clock.now() - self._started

    def _write_row(self) -> None:
        means = {name: float(total) / self._since for name, total in self._sums.items()}
        self._check_finite({name: math.isfinite(mean) for name, mean in means.items()})
        self.result.history.append({"stage": self._stage, "step": float(self._step), **means})
        self._latest = means

    def _check_finite(self, finite: Mapping[str, bool], student: str = "") -> None:
        diverged = ", ".join(repr(name) for name, is_finite in finite.items() if not is_finite)
        if diverged:
            raise DivergedError(f"{self._place(student)}: term {diverged} is not finite; lower {self._rate}")

    def _check_weights(self, network: nn.Module, student: str = "") -> None:
        name = tensor_that_is_not_finite(network)
        if name:
            terms = ", ".join(repr(term) for term in self._latest)
            raise DivergedError(
                f"{self._place(student)}: {name} of the network is not finite after a step on term {terms}; "
                f"lower {self._rate}"
            )

    def _place(self, student: str) -> str:
        return f"{self._title}, {student}stage {self._stage!r}, step {self._step}"
