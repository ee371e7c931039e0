"""Choose methods' settings on validation data, with the same number of trials for every method.

The search covers the learning rate and the weights that the method declares (``Method.tunable``), each on a logarithmic
scale around its default. The first trial is the defaults. The others fill the space evenly, by a Latin hypercube; all
methods with the same number of settings are tried at the same points of it.
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
from benchmark.records.schema import Record
from benchmark.settings import build_settings
from benchmark.spec import Training
from benchmark.sweep.execution import ExecutorConfig, JobResult, SweepPlan, make_executor, plan_sweep, run_jobs
from benchmark.sweep.executors.base import Observer, SweepConfig
from benchmark.sweep.grid import ALL, GridBlock
from benchmark.sweep.jobs import Job
from benchmark.system.files import write_atomically
from benchmark.system.progress import Progress
from protocols import PROTOCOLS, tuned_settings

FIRST_SEED = 1000
"""Tuning uses seeds from here on. Smaller seeds are for reported runs."""

_RATE_FACTOR, _WEIGHT_FACTOR = math.sqrt(10), 10.0
"""How far the learning rate and a weight may lie from their defaults, as factors in both directions."""


@dataclass(frozen=True)
class Trial:
    """One choice of a method's tuned settings."""

    protocol: str
    method: str
    number: int
    """Trial 0 is the defaults."""
    values: Mapping[str, float]
    """The settings by ``section.name``."""

    @property
    def overrides(self) -> tuple[str, ...]:
        """The settings of a trial's run, with those that evaluate on validation data."""
        validation = PROTOCOLS.get(self.protocol).entry.trial
        return (
            *(f"protocol.{name}={value}" for name, value in validation.items()),
            *(f"{name}={value:g}" for name, value in self.values.items()),
        )

    def block(self, datasets: Sequence[str], seeds: Sequence[int], limit_steps: int | None = None) -> GridBlock:
        """Return the runs of the trial as a grid block."""
        return GridBlock(
            (self.protocol,), (self.method,), tuple(datasets), tuple(seeds), set=self.overrides, limit_steps=limit_steps
        )


@dataclass(frozen=True)
class TrialResult:
    """The validation scores of a trial."""

    trial: Trial
    scores: Mapping[str, float]
    """By data set and seed; NaN if the run failed."""

    @property
    def mean(self) -> float:
        """The mean score; NaN if a run failed."""
        return sum(self.scores.values()) / len(self.scores)


@dataclass(frozen=True)
class Choice:
    """The trials of a method and the best of them."""

    method: str
    results: Sequence[TrialResult]
    best: TrialResult | None
    """None if every trial has a failed run."""


@dataclass(frozen=True)
class TuningPlan:
    """What tuning would run."""

    protocol: str
    trials: Mapping[str, Sequence[Trial]]
    """By method."""
    sweep: SweepPlan
    """The runs of all trials."""

    def summary(self) -> list[tuple[str, int, int, int, str]]:
        """Return method, trials, runs, finished runs and tuned settings of every method that applies."""
        rows = []
        for method, trials in self.trials.items():
            jobs = [job for job in self.sweep.jobs if job.request.method == method]
            if jobs:
                done = self.sweep.status.count(jobs)["done"]
                rows.append((method, len(trials), len(jobs), done, " ".join(trials[0].values)))
        return rows


def plan_tuning(
    protocol: str,
    methods: Sequence[str],
    datasets: Sequence[str],
    seeds: Sequence[int],
    *,
    trials: int,
    config: SweepConfig,
    progress: Progress,
    limit_steps: int | None = None,
) -> TuningPlan:
    """Make the trials of methods and plan their runs. This runs nothing and writes nothing.

    Args:
        protocol: the protocol to tune for.
        methods: names of methods; ``all`` stands for every method that applies and has something to tune.
        datasets: the data sets over which scores are averaged.
        seeds: the seeds of every trial.
        trials: number of trials per method, with the defaults.
        config: of the sweep.
        progress: reports the opening of data sets.
        limit_steps: train for so many steps only.

    Raises:
        InputError: a seed is for reported runs, a named method has nothing to tune, or no method applies.
    """
    if min(seeds) < FIRST_SEED:
        raise InputError(f"--seeds {min(seeds)}: tuning takes seeds from {FIRST_SEED} on, others are for reporting")
    named = [name for name in methods if name != ALL]
    candidates = named if ALL not in methods else [name for name in METHODS.names() if METHODS.usable(name)]
    tunable = [name for name in candidates if search_space(protocol, name)]
    for name in named:
        if name not in tunable:
            raise InputError(f"{name} has nothing to tune: it trains nothing and declares no weight")
    by_method = {name: make_trials(protocol, name, trials) for name in tunable}
    blocks = [trial.block(datasets, seeds, limit_steps) for group in by_method.values() for trial in group]
    return TuningPlan(protocol, by_method, plan_sweep(blocks, config, progress))


def run_trials(plan: TuningPlan, executor: ExecutorConfig, observe: Observer) -> list[JobResult]:
    """Run the trials that have no finished record. The arguments are those of ``run_sweep``."""
    if not plan.sweep.selected:
        return []
    plan.sweep.store.check_writable()
    return run_jobs(plan.sweep.selected, make_executor(plan.sweep, executor), observe)


def choose(plan: TuningPlan) -> list[Choice]:
    """Choose the best trial of every method that applies, by the records of its runs."""
    store = plan.sweep.store
    records = {job.key: record for job in plan.sweep.jobs if (record := store.find(job.key)) is not None}
    choices = []
    for method, trials in plan.trials.items():
        results = trial_results(trials, plan.sweep.jobs, records)
        if results:
            choices.append(Choice(method, results, best_trial(results)))
    return choices


def search_space(protocol: str, method: str) -> dict[str, tuple[float, float]]:
    """Return the lowest and the highest value of every tuned setting, around the defaults of the preset ``quick``.

    Returns:
        Bounds by ``section.name``. The mapping is empty if the method trains nothing and declares no weight.
    """
    entry = METHODS.get(method).entry
    defaults = entry.Settings()
    bounds: dict[str, tuple[float, float]] = {}
    if entry.stages_for(defaults):
        preset = PROTOCOLS.get(protocol).entry.presets["quick"]
        rate = build_settings(Training, preset.get("training", {}), "training").lr
        bounds["training.lr"] = rate / _RATE_FACTOR, rate * _RATE_FACTOR
    hints = get_type_hints(entry.Settings, include_extras=True)
    for name in entry.tunable:
        default, highest = float(getattr(defaults, name)), _upper_bound(hints[name])
        if not default > 0:
            raise InputError(f"{method} declares {name} as tunable, whose default is {default:g}: it must be positive")
        bounds[f"method.{name}"] = default / _WEIGHT_FACTOR, min(default * _WEIGHT_FACTOR, highest)
    return bounds


def _upper_bound(hint: Any) -> float:
    """Return the upper bound that a type is annotated with; infinity if there is none."""
    bounds = (getattr(mark, "le", getattr(mark, "lt", math.inf)) for mark in getattr(hint, "__metadata__", ()))
    return min(map(float, bounds), default=math.inf)


def make_trials(protocol: str, method: str, count: int) -> list[Trial]:
    """Make trials, the defaults first. Values have two significant digits.

    Returns:
        ``count`` trials, or only the defaults if the method has nothing to tune.
    """
    import numpy as np
    from scipy.stats import qmc

    bounds = search_space(protocol, method)
    defaults = {name: math.sqrt(low * high) for name, (low, high) in bounds.items()}
    for name in defaults:
        section, _, field = name.partition(".")
        if section == "method":
            defaults[name] = float(getattr(METHODS.get(method).entry.Settings(), field))
    points = [defaults]
    if bounds and count > 1:
        rng = np.random.default_rng(derive_seed(0, "tuning"))
        samples = qmc.LatinHypercube(len(bounds), optimization="random-cd", rng=rng).random(count - 1)
        points += [
            {name: low * (high / low) ** u for u, (name, (low, high)) in zip(sample, bounds.items(), strict=True)}
            for sample in samples.tolist()
        ]
    rounded = [{name: float(f"{value:.2g}") for name, value in point.items()} for point in points]
    return [Trial(protocol, method, number, values) for number, values in enumerate(rounded)]


def trial_results(trials: Iterable[Trial], jobs: Iterable[Job], records: Mapping[str, Record]) -> list[TrialResult]:
    """Return the scores of trials. A trial without jobs is left out.

    Args:
        trials: the trials of a method.
        jobs: the jobs of these and other trials.
        records: records by job key.
    """
    by_trial: dict[tuple[str, tuple[str, ...]], list[Job]] = {}
    for job in jobs:
        by_trial.setdefault((job.request.method, job.request.overrides), []).append(job)
    results = []
    for trial in trials:
        scores = {
            f"{job.dataset} s{job.seed}": _score(records.get(job.key))
            for job in by_trial.get((trial.method, trial.overrides), [])
        }
        if scores:
            results.append(TrialResult(trial, dict(sorted(scores.items()))))
    return results


def _score(record: Record | None) -> float:
    return float(record["value"]) if record is not None and record["status"] == "done" else math.nan


def best_trial(results: Iterable[TrialResult]) -> TrialResult | None:
    """Return the trial with the highest mean, the first of equal ones; None if every trial has a failed run."""
    complete = [result for result in results if not math.isnan(result.mean)]
    return max(complete, key=lambda result: result.mean, default=None)


def save_choices(protocol: str, choices: Iterable[Choice], folder: Path) -> tuple[Path, Path]:
    """Write the chosen settings and the log of all trials of a protocol. Other methods in the files stay.

    Args:
        protocol: the name of both files.
        choices: one per method; each has a best trial.
        folder: the folder of both files.

    Returns:
        The file of settings and the file of trials.

    Raises:
        InputError: the other methods in the files were tuned on other data, with other seeds or another number of
            trials. Methods of one protocol have equal budgets.
    """
    settings, table = folder / f"{protocol}.toml", folder / f"{protocol}.csv"
    logs = {choice.method: _log(choice) for choice in choices}
    others = _other_methods(table, logs)
    log = pd.concat([others, *logs.values()]).sort_values("method", kind="stable")
    counts = {str(name): len(rows) for name, rows in log.groupby("method")}
    trials = max(counts.values())
    unequal = sorted(name for name, count in counts.items() if count < trials)
    if unequal or log.isna().any(axis=None):
        raise InputError(
            f"{table} holds trials of other methods on other data, other seeds or in another number "
            f"({', '.join(unequal or sorted(set(others['method'])))}): "
            "tune these in the same way, or take another --out"
        )
    chosen: dict[str, dict[str, dict[str, float]]] = {}
    for row in log[log["chosen"] == "yes"].itertuples():
        sections = chosen.setdefault(str(row.method), {})
        for item in str(row.settings).split():
            name, value = item.split("=")
            section, _, field = name.partition(".")
            sections.setdefault(section, {})[field] = float(value)
    runs = ", ".join(name for name in log.columns if name not in ("method", "trial", "settings", "mean", "chosen"))
    validation = " ".join(f"{name}={value}" for name, value in PROTOCOLS.get(protocol).entry.trial.items())
    heading = (
        f"Chosen by `python -m benchmark tune --protocol {protocol}`; completes the preset quick:\n"
        f"{trials} trials a method, judged on validation data of {runs} ({validation})."
    )
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(table, log.to_csv(index=False).encode())
    write_atomically(settings, tuned_settings.text(chosen, heading).encode())
    return settings, table


def _log(choice: Choice) -> pd.DataFrame:
    """Return a row for each trial: settings, the score of each run, their mean, and whether it was chosen."""
    rows = [
        {
            "method": choice.method,
            "trial": str(result.trial.number),
            "settings": " ".join(f"{name}={value:g}" for name, value in result.trial.values.items()),
            **{name: f"{score:.6f}" for name, score in result.scores.items()},
            "mean": f"{result.mean:.6f}",
            "chosen": "yes" if result is choice.best else "",
        }
        for result in choice.results
    ]
    return pd.DataFrame(rows)


def _other_methods(table: Path, logs: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Read the rows of methods that have no new log."""
    try:
        rows = pd.read_csv(table, dtype=str, keep_default_na=False) if table.exists() else pd.DataFrame({"method": []})
        return rows[~rows["method"].isin(list(logs))]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"cannot read {table}: {error}") from None
