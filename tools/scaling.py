"""How cost grows with classes, images, batch and students: ``python tools/scaling.py``.

It measures seconds of the processor and peak memory of a training step and of what stands around it, on one thread, on
synthetic images. It fits an exponent to each and compares it with the documented order. Nothing may grow faster than
1.3 times the exponent of its order.

The fit is least squares of log cost on log size over the upper half of the sizes. The fixed part is subtracted before:
it is where the line through the two smallest sizes meets size 0, but never negative.

Every job runs in a process of its own, so that no measurement disturbs another. A job of several sizes begins with the
smallest: its memory is the high-water mark so far.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from scaling_costs import LOSSES, STEP_METHODS, Job, Point, measure

TOLERANCE = 1.3
"""Largest exponent, in exponents of the documented order."""

ORDERS: dict[str, Callable[[float], float]] = {
    "n": lambda n: n,
    "n^2": lambda n: n**2,
    "n^2 log n": lambda n: n**2 * math.log(n),
    "n^3": lambda n: n**3,
}
"""Orders by their text; ``n`` is the size."""

SIZES: dict[str, tuple[int, ...]] = {
    "classes": (10, 30, 100, 300, 1000),
    "images": (1_000, 3_000, 10_000, 30_000, 100_000),
    "batch": (32, 64, 128, 256, 512, 1024),
    "loss": (64, 128, 256, 512, 1024),
    "students": (1, 2, 4, 6, 8),
    "seeds": (1, 2, 4, 6, 8),
}
"""Sizes by axis; ``loss`` is the batch again, for the losses alone."""

SMALL: dict[str, tuple[int, ...]] = {
    "classes": (10, 20, 40),
    "images": (1_000, 2_000, 4_000),
    "batch": (8, 16, 32),
    "loss": (16, 32, 64),
    "students": (1, 2, 3),
    "seeds": (1, 2, 3),
}
"""Sizes of a trial of the script; they are too small for exponents to mean anything."""

_GROWTH = 1.25
"""Ratio of the largest to the smallest cost below which a cost is flat: its exponent is 0."""

_LEAST = {"seconds": 2e-3, "bytes": 16 * 2**20}
"""Growth below which a cost is flat."""


@dataclass(frozen=True)
class Growth:
    """How one cost of one part grows.

    Attributes:
        axis: What grows.
        part: What is measured.
        cost: ``seconds`` or ``bytes``.
        sizes: The sizes.
        values: The costs.
        exponent: The fitted exponent; 0 if the cost is flat.
        order: The documented order.
        documented: The exponent of that order over the same sizes.
    """

    axis: str
    part: str
    cost: str
    sizes: tuple[int, ...]
    values: tuple[float, ...]
    exponent: float
    order: str
    documented: float

    @property
    def is_within(self) -> bool:
        """Whether the cost grows as documented."""
        return self.exponent <= TOLERANCE * self.documented


def marginal_costs(sizes: Sequence[float], costs: Sequence[float]) -> list[float]:
    """Subtract the fixed part: where the line through the two smallest sizes meets size 0, from 0 to the first cost."""
    slope = (costs[1] - costs[0]) / (sizes[1] - sizes[0])
    fixed = min(max(0.0, costs[0] - slope * sizes[0]), costs[0])
    return [cost - fixed for cost in costs]


def fit_exponent(sizes: Sequence[float], costs: Sequence[float], least: float = 0.0) -> float:
    """Return the exponent of the marginal cost over the upper half of three or more sizes.

    Args:
        sizes: Ascending sizes.
        costs: Their costs, above 0.
        least: Growth below which the cost is flat.

    Returns:
        The exponent; 0 for a flat cost.
    """
    import numpy as np

    if costs[-1] < _GROWTH * costs[0] or costs[-1] - costs[0] < least:
        return 0.0
    half = min(len(sizes) // 2, len(sizes) - 2)
    points = [pair for pair in zip(sizes, marginal_costs(sizes, costs), strict=True) if pair[1] > 0]
    points = points[-(len(sizes) - half) :]
    if len(points) < 2:
        return 0.0
    log_sizes, log_costs = np.log(np.array(points)).T
    return float(np.polyfit(log_sizes, log_costs, 1)[0])


def order_of(axis: str, part: str, cost: str) -> str:
    """Return the documented order of a cost: that of the loss where the batch grows, else linear."""
    name = part.removeprefix("step of ")
    if axis in ("batch", "loss") and name in LOSSES:
        return LOSSES[name].memory if cost == "bytes" else LOSSES[name].time
    return "n"


def growths(points: Sequence[Point]) -> list[Growth]:
    """Fit each cost of each part that has three sizes or more."""
    by_part: dict[tuple[str, str], list[Point]] = {}
    for point in points:
        by_part.setdefault((point.axis, point.part), []).append(point)
    found = []
    for (axis, part), row in by_part.items():
        if len(row) < 3:
            continue
        sizes = tuple(point.size for point in row)
        for cost, least in _LEAST.items():
            values = tuple(float(getattr(point, cost)) for point in row)
            order = order_of(axis, part, cost)
            documented = fit_exponent(sizes, [ORDERS[order](size) for size in sizes])
            found.append(Growth(axis, part, cost, sizes, values, fit_exponent(sizes, values, least), order, documented))
    return found


def markdown(found: Sequence[Growth]) -> str:
    """Return the tables, one for each axis."""
    lines = [
        "The exponent is a least-squares fit of log cost on log size over the upper half of the sizes, after the fixed",
        "part is subtracted. `flat`: the cost grows by less than a quarter, or by less than can be measured.",
        f"`documented` is the exponent of the order over the same sizes; a cost above {TOLERANCE} times it is marked.",
        "Memory is the high-water mark so far, less that of the loaded libraries; rows of flat memory are left out.",
    ]
    for axis in dict.fromkeys(growth.axis for growth in found):
        rows = [growth for growth in found if growth.axis == axis and (growth.exponent or growth.cost == "seconds")]
        sizes = max((growth.sizes for growth in found if growth.axis == axis), key=len)
        title = {"loss": "batch, the losses alone"}.get(axis, axis)
        lines += ["", f"## {title}", ""]
        lines += ["| part | cost | " + " | ".join(f"{size:,}" for size in sizes) + " | exponent | documented |"]
        lines += ["| --- | --- |" + " ---: |" * (len(sizes) + 2)]
        for growth in rows:
            by_size = dict(zip(growth.sizes, growth.values, strict=True))
            cells = [_cell(by_size.get(size), growth.cost) for size in sizes]
            unit = {"seconds": "ms", "bytes": "peak MiB"}[growth.cost]
            fitted = f"{growth.exponent:.2f}" if growth.exponent else "flat"
            fitted += "" if growth.is_within else " **too much**"
            documented = f"{growth.documented:.2f} ({growth.order})"
            lines += [f"| {growth.part} | {unit} | {' | '.join(cells)} | {fitted} | {documented} |"]
    return "\n".join(lines) + "\n"


def _cell(value: float | None, cost: str) -> str:
    if value is None:
        return ""
    return f"{1000 * value:.3g}" if cost == "seconds" else f"{value / 2**20:.0f}"


def jobs(axes: Sequence[str], sizes: Mapping[str, tuple[int, ...]]) -> list[Job]:
    """Return the jobs of these axes, from small to large sizes."""
    made = []
    for axis in axes:
        if axis in ("classes", "images"):
            made += [Job(axis, "", (size,)) for size in sizes[axis]]
        else:
            subjects = {"batch": STEP_METHODS, "loss": tuple(LOSSES)}.get(axis, ("",))
            made += [Job(axis, subject, sizes[axis]) for subject in subjects]
    return made


def run_job(job: Job) -> list[Point]:
    """Measure a job in a process of its own, on one thread.

    Raises:
        subprocess.CalledProcessError: The process failed; its traceback is on the standard error.
    """
    command = [sys.executable, str(Path(__file__).resolve()), "--job", json.dumps(asdict(job))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment, text=True).stdout
    return [Point(**json.loads(line)) for line in output.splitlines()]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write ``scaling.json`` and ``scaling.md``, and return 1 if a cost grows too fast."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--axes", nargs="+", choices=SIZES, default=list(SIZES), help="what grows; default: all")
    parser.add_argument("--small", action="store_true", help="sizes of a trial, too small for meaningful exponents")
    parser.add_argument("--limit", type=float, default=math.inf, help="seconds after which no job begins")
    parser.add_argument("--out", type=Path, default=Path(), help="folder of scaling.json and scaling.md")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.job:
        values = json.loads(options.job)
        for point in measure(Job(values["axis"], values["subject"], tuple(values["sizes"]))):
            sys.stdout.write(json.dumps(asdict(point)) + "\n")
        return 0
    began = time.monotonic()
    points: list[Point] = []
    left_out = []
    for job in jobs(options.axes, SMALL if options.small else SIZES):
        if time.monotonic() - began > options.limit:
            left_out.append(asdict(job))
            continue
        sys.stderr.write(f"{job.axis} {job.subject} {job.sizes}\n")
        points += run_job(job)
    found = growths(points)
    table = markdown(found)
    options.out.mkdir(parents=True, exist_ok=True)
    content = {"growths": [{**asdict(g), "is_within": g.is_within} for g in found], "left_out": left_out}
    (options.out / "scaling.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    (options.out / "scaling.md").write_text(table, encoding="utf-8")
    sys.stdout.write(table)
    for job_left in left_out:
        sys.stdout.write(f"not measured for lack of time: {job_left}\n")
    return 0 if options.small or all(growth.is_within for growth in found) else 1


if __name__ == "__main__":
    sys.exit(main())
