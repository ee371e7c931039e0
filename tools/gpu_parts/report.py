"""What a check found, the time of a part, and both forms of the report: JSON and a Markdown table."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from benchmark.training.device import Device

Status = Literal["held", "FAILED", "measured", "skipped"]


@dataclass(frozen=True)
class Setup:
    """What every part is given.

    Attributes:
        device: The device to check, in float32 and not compiled.
        small: Whether to run the reduced form, which one core of a CPU finishes in seconds.
        data_root: Folder of imported data sets.
    """

    device: Device
    small: bool
    data_root: Path

    @property
    def on_gpu(self) -> bool:
        """Whether the device is a CUDA GPU."""
        return self.device.torch.type == "cuda"


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        status: ``held`` or ``FAILED`` for a claim, ``measured`` for a number without a bound, ``skipped``.
        found: The result in words.
        values: The result as JSON values.
    """

    status: Status
    found: str
    values: Mapping[str, Any] = field(default_factory=dict)


def judged(holds: bool, found: str, **values: Any) -> Finding:
    """Return the finding on a claim."""
    return Finding("held" if holds else "FAILED", found, values)


def measured(found: str, **values: Any) -> Finding:
    """Return numbers that no bound judges."""
    return Finding("measured", found, values)


def skipped(why: str) -> Finding:
    """Return that a check was left out, and why."""
    return Finding("skipped", why)


NEEDS_CUDA = skipped("needs CUDA")


class Part:
    """The checks of one part and its time.

    Attributes:
        name: Name of the part.
        seconds: Seconds that the part may take.
        checks: What was checked, and the finding.
    """

    def __init__(self, name: str, seconds: float) -> None:
        self.name = name
        self.seconds = seconds
        self.checks: list[tuple[str, Finding]] = []
        self._started = time.monotonic()

    def left(self) -> float:
        """Return the seconds that are left."""
        return self.seconds - self.spent()

    def spent(self) -> float:
        """Return the seconds since the part began."""
        return time.monotonic() - self._started

    def check(self, what: str, measure: Callable[[], Finding], needs: float = 0.0) -> None:
        """Record what a check finds. A check that raises an error has failed; the next one runs all the same.

        Args:
            what: What is checked.
            measure: The check.
            needs: Seconds that it may take; it is skipped if fewer are left.
        """
        if self.left() <= needs:
            finding = skipped("no time is left: allow more --minutes")
        else:
            try:
                finding = measure()
            except Exception as error:  # the report of the other checks must not be lost
                finding = _error(error)
        self.checks.append((what, finding))

    def fail(self, error: Exception) -> None:
        """Record that the part itself ended with an error."""
        self.checks.append(("the whole part", _error(error)))

    def as_dict(self) -> dict[str, Any]:
        """Return the part as JSON values."""
        return {
            "part": self.name, "budget_seconds": round(self.seconds, 1), "seconds": round(self.spent(), 1),
            "checks": [
                {"what": what, "status": finding.status, "found": finding.found, "values": dict(finding.values)}
                for what, finding in self.checks
            ],
        }  # fmt: skip


def to_markdown(machine: Mapping[str, Any], parts: Sequence[Mapping[str, Any]]) -> str:
    """Return a line about the machine and a table with a row for each check.

    Args:
        machine: Facts by name.
        parts: Parts as JSON values.
    """
    facts = "; ".join(f"{name} {value}" for name, value in machine.items() if value is not None)
    rows = [f"Machine: {facts}.", "", "| part | what | result | found |", "|---|---|---|---|"]
    for part in parts:
        for check in part["checks"]:
            cells = part["part"], check["what"], check["status"], check["found"]
            rows.append("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |")
    return "\n".join(rows) + "\n"


def _error(error: Exception) -> Finding:
    return Finding("FAILED", f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
