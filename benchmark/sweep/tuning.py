"""Choosing a method's settings on validation data, with as many trials for every method.

What is searched is the learning rate and the weights that the method declares (``Method.tunable``), each on a
logarithmic scale around its default. The first trial is the defaults; the others fill the space evenly, as a Latin
hypercube does, at the same points of it for all methods with as many settings.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

import pandas as pd

from benchmark.errors import InputError
from benchmark.hashing import derive_seed
from benchmark.methods import METHODS
from benchmark.records.store import Record
from benchmark.settings import build_settings
from benchmark.spec import Training
from benchmark.sweep.grid import GridBlock
from benchmark.sweep.jobs import Cell
from benchmark.system.files import write_atomically
from protocols import PROTOCOLS, tuned_settings

FIRST_SEED = 1000
"""Seeds from here on are for tuning; those of reported runs are below."""

_RATE, _WEIGHT = math.sqrt(10), 10.0
"""How far the learning rate and a weight may lie from their defaults, as factors either way."""


@dataclass(frozen=True)
class Trial:
    """One choice of a method's searched settings. values: by ``section.name``; number 0 is the defaults."""

    protocol: str
    method: str
    number: int
    values: Mapping[str, float]

    @property
    def overrides(self) -> tuple[str, ...]:
        """As a run is asked for them, judged on validation data."""
        judged = PROTOCOLS.get(self.protocol).entry.trial
        return (
            *(f"protocol.{name}={value}" for name, value in judged.items()),
            *(f"{name}={value:g}" for name, value in self.values.items()),
        )

    def block(self, datasets: Sequence[str], seeds: Sequence[int], limit_steps: int | None = None) -> GridBlock:
        """Its runs."""
        return GridBlock(
            (self.protocol,), (self.method,), tuple(datasets), tuple(seeds), set=self.overrides, limit_steps=limit_steps
        )


@dataclass(frozen=True)
class Outcome:
    """What a trial gave. scores: by data set and seed, NaN where the run failed."""

    trial: Trial
    scores: Mapping[str, float]

    @property
    def mean(self) -> float:
        """Over its runs; NaN where one failed."""
        return sum(self.scores.values()) / len(self.scores)


def space(protocol: str, method: str) -> dict[str, tuple[float, float]]:
    """What is searched: the lowest and the highest value by ``section.name``, around the defaults of ``quick``.

    Empty where nothing is trained and the method declares nothing.
    """
    entry = METHODS.get(method).entry
    own = entry.Settings()
    found: dict[str, tuple[float, float]] = {}
    if entry.stages_for(own):
        preset = PROTOCOLS.get(protocol).entry.presets["quick"]
        rate = build_settings(Training, preset.get("training", {}), "training").lr
        found["training.lr"] = rate / _RATE, rate * _RATE
    hints = get_type_hints(entry.Settings, include_extras=True)
    for name in entry.tunable:
        default, highest = float(getattr(own, name)), _highest(hints[name])
        if not default > 0:
            raise InputError(f"{method} declares {name} as searched, whose default is {default:g}: it must be positive")
        found[f"method.{name}"] = default / _WEIGHT, min(default * _WEIGHT, highest)
    return found


def _highest(hint: Any) -> float:
    """The upper bound that a type is annotated with."""
    bounds = (getattr(mark, "le", getattr(mark, "lt", math.inf)) for mark in getattr(hint, "__metadata__", ()))
    return min(map(float, bounds), default=math.inf)


def make_trials(protocol: str, method: str, count: int) -> list[Trial]:
    """So many trials, the defaults first; one where nothing is searched. Values have two significant digits."""
    import numpy as np
    from scipy.stats import qmc

    ranges = space(protocol, method)
    defaults = {name: math.sqrt(low * high) for name, (low, high) in ranges.items()}
    for name in defaults:
        section, _, field = name.partition(".")
        if section == "method":
            defaults[name] = float(getattr(METHODS.get(method).entry.Settings(), field))
    points = [defaults]
    if ranges and count > 1:
        rng = np.random.default_rng(derive_seed(0, "tuning"))
        drawn = qmc.LatinHypercube(len(ranges), optimization="random-cd", rng=rng).random(count - 1)
        points += [
            {name: low * (high / low) ** u for u, (name, (low, high)) in zip(row, ranges.items(), strict=True)}
            for row in drawn.tolist()
        ]
    rounded = [{name: float(f"{value:.2g}") for name, value in point.items()} for point in points]
    return [Trial(protocol, method, number, values) for number, values in enumerate(rounded)]


def outcomes(trials: Iterable[Trial], cells: Iterable[Cell], records: Mapping[str, Record]) -> list[Outcome]:
    """What trials gave, by the cells of their runs and the records of these by key; none of a trial without cells."""
    runs: dict[tuple[str, tuple[str, ...]], list[Cell]] = {}
    for cell in cells:
        runs.setdefault((cell.request.method, cell.request.overrides), []).append(cell)
    found = []
    for trial in trials:
        mine = runs.get((trial.method, trial.overrides), [])
        scores = {f"{cell.dataset} s{cell.seed}": _value(records.get(cell.key)) for cell in mine}
        if scores:
            found.append(Outcome(trial, dict(sorted(scores.items()))))
    return found


def _value(record: Record | None) -> float:
    return float(record["value"]) if record is not None and record["status"] == "done" else math.nan


def best(found: Iterable[Outcome]) -> Outcome:
    """The trial of the highest mean, of equal ones the first; ``InputError`` where every one failed."""
    whole = [outcome for outcome in found if not math.isnan(outcome.mean)]
    if not whole:
        raise InputError("every trial has a run that failed; see the errors above")
    return max(whole, key=lambda outcome: outcome.mean)


def log(found: Sequence[Outcome], chosen: Outcome) -> pd.DataFrame:
    """A row for each trial of a method: its settings, the score of each run, their mean, and whether it was chosen."""
    rows = [
        {
            "method": outcome.trial.method,
            "trial": str(outcome.trial.number),
            "settings": " ".join(f"{name}={value:g}" for name, value in outcome.trial.values.items()),
            **{name: f"{score:.6f}" for name, score in outcome.scores.items()},
            "mean": f"{outcome.mean:.6f}",
            "chosen": "yes" if outcome is chosen else "",
        }
        for outcome in found
    ]
    return pd.DataFrame(rows)


def keep(protocol: str, logs: Mapping[str, pd.DataFrame], folder: Path) -> tuple[Path, Path]:
    """Write settings and log of a protocol; methods that are there already stay.

    Where those were chosen on other data, with other seeds or another number of trials, ``InputError``: methods of one
    protocol have equal budgets.
    """
    settings, table = folder / f"{protocol}.toml", folder / f"{protocol}.csv"
    kept = _others(table, logs)
    whole = pd.concat([kept, *logs.values()]).sort_values("method", kind="stable")
    lengths = {str(name): len(rows) for name, rows in whole.groupby("method")}
    trials = max(lengths.values())
    odd = sorted(name for name, length in lengths.items() if length < trials)
    if odd or whole.isna().any(axis=None):
        raise InputError(
            f"{table} holds trials of other methods on other data, other seeds or in another number "
            f"({', '.join(odd or sorted(set(kept['method'])))}): tune these in the same way, or take another --out"
        )
    chosen: dict[str, dict[str, dict[str, float]]] = {}
    for row in whole[whole["chosen"] == "yes"].itertuples():
        parts = chosen.setdefault(str(row.method), {})
        for item in str(row.settings).split():
            name, value = item.split("=")
            section, _, field = name.partition(".")
            parts.setdefault(section, {})[field] = float(value)
    where = ", ".join(name for name in whole.columns if name not in ("method", "trial", "settings", "mean", "chosen"))
    judged = " ".join(f"{name}={value}" for name, value in PROTOCOLS.get(protocol).entry.trial.items())
    heading = (
        f"Chosen by `python -m benchmark tune --protocol {protocol}`, for the preset quick:\n"
        f"{trials} trials a method, judged on validation data of {where} ({judged})."
    )
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(table, whole.to_csv(index=False).encode())
    write_atomically(settings, tuned_settings.text(chosen, heading).encode())
    return settings, table


def _others(table: Path, logs: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The log so far, without the methods that there is a new one of."""
    try:
        kept = pd.read_csv(table, dtype=str, keep_default_na=False) if table.exists() else pd.DataFrame({"method": []})
        return kept[~kept["method"].isin(list(logs))]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"cannot read {table}: {error}") from None
