from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pandas as pd
import pytest
from annotated_types import Gt, Le

from benchmark.data import ImageSet
from benchmark.errors import InputError
from benchmark.experiment.planning import make_plan
from benchmark.experiment.request import Request
from benchmark.methods import METHODS, Method
from benchmark.settings import parse_overrides
from benchmark.sweep import tuning
from protocols import PROTOCOLS, tuned_settings


@pytest.mark.parametrize("method", METHODS.names())
def test_search_space_covers_the_learning_rate_and_the_declared_weights(method: str) -> None:
    entry = METHODS.get(method).entry
    ranges = tuning.search_space("fewshot-5way1shot", method)
    declared = {name.removeprefix("method.") for name in ranges if name != "training.lr"}
    assert declared == set(entry.tunable)
    for name in declared:
        default = getattr(entry.Settings(), name)
        assert isinstance(default, float)
        low, high = ranges[f"method.{name}"]
        assert (low, high) == pytest.approx((default / 10, default * 10))
    assert ("training.lr" in ranges) == bool(entry.stages_for(entry.Settings()))


def test_make_trials_gives_the_defaults_and_then_fills_every_range_evenly() -> None:
    trials = tuning.make_trials("distill-cross", "rkd", 9)
    assert trials[0].values == {"training.lr": 0.1, "method.distance": 25, "method.angle": 50}
    ranges = tuning.search_space("distill-cross", "rkd")
    for name, (low, high) in ranges.items():
        places = [math.log(trial.values[name] / low) / math.log(high / low) for trial in trials[1:]]
        assert sorted(places) == pytest.approx([(i + 0.5) / 8 for i in range(8)], abs=0.5 / 8 + 0.025)  # two digits
    assert [trial.number for trial in trials] == list(range(9))


def test_make_trials_uses_the_same_points_for_methods_with_as_many_settings() -> None:
    def places(method: str) -> list[list[float]]:
        ranges = tuning.search_space("distill-cross", method)
        trials = tuning.make_trials("distill-cross", method, 6)
        return [
            [math.log(t.values[n] / low) / math.log(high / low) for n, (low, high) in ranges.items()] for t in trials
        ]

    for first, other in zip(places("at"), places("sp"), strict=True):
        assert first == pytest.approx(other, abs=0.02)  # values have two digits


def test_search_space_is_around_the_learning_rate_of_the_protocol() -> None:
    low, high = tuning.search_space("middleshot-5way5shot", "ce")["training.lr"]
    assert math.sqrt(low * high) == pytest.approx(
        PROTOCOLS.get("middleshot-5way5shot").entry.presets["quick"]["training"]["lr"]
    )
    assert high / low == pytest.approx(10)


def test_search_space_respects_bounds_and_refuses_a_weight_of_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    class Odd(Method):
        @dataclass(frozen=True)
        class Settings:
            share: Annotated[float, Gt(0), Le(1)] = 0.5
            off: float = 0.0

        tunable = ("share",)

    class Off(Odd):
        tunable = ("off",)

    entries = {"odd": Odd, "off": Off}
    monkeypatch.setattr(tuning, "METHODS", type("R", (), {"get": lambda _, n: type("M", (), {"entry": entries[n]})})())
    assert tuning.search_space("distill-cross", "odd")["method.share"] == (0.05, 1.0)
    with pytest.raises(InputError, match="off as tunable, whose default is 0"):
        tuning.search_space("distill-cross", "off")


def _result(number: int, *scores: float, method: str = "ce") -> tuning.TrialResult:
    trial = tuning.Trial("distill-cross", method, number, {"training.lr": 0.1 * (number + 1)})
    return tuning.TrialResult(trial, {f"d s{i}": score for i, score in enumerate(scores)})


def _choice(best: int, results: list[tuning.TrialResult]) -> tuning.Choice:
    return tuning.Choice(results[0].trial.method, results, results[best])


def test_best_trial_has_the_highest_mean_and_no_failed_run() -> None:
    results = [_result(0, 0.5, 0.6), _result(1, 0.9, math.nan), _result(2, 0.4, 0.8), _result(3, 0.8, 0.4)]
    assert tuning.best_trial(results) is results[2]
    assert tuning.best_trial([results[1]]) is None


def test_save_choices_replaces_a_method_and_keeps_the_others(tmp_path: Path) -> None:
    ce = [_result(0, 0.5), _result(1, 0.7)]
    other = [_result(0, 0.8, method="avalanche/x"), _result(1, 0.7, method="avalanche/x")]
    tuning.save_choices("distill-cross", [_choice(0, ce)], tmp_path)
    tuning.save_choices("distill-cross", [_choice(1, ce)], tmp_path)
    tuning.save_choices("distill-cross", [_choice(0, other)], tmp_path)
    assert tuned_settings.read(tmp_path / "distill-cross.toml") == {
        "ce": {"training": {"lr": 0.2}},
        "avalanche/x": {"training": {"lr": 0.1}},
    }
    table = pd.read_csv(tmp_path / "distill-cross.csv", keep_default_na=False)
    assert list(table["method"]) == ["avalanche/x", "avalanche/x", "ce", "ce"]
    assert list(table["chosen"]) == ["yes", "", "", "yes"]
    assert list(table["mean"]) == [0.8, 0.7, 0.5, 0.7]


@pytest.mark.parametrize(
    "other",
    [[(0.5,), (0.6,), (0.7,)], [(0.5, 0.5), (0.6, 0.6)]],
    ids=["another number of trials", "another seed"],
)
def test_save_choices_refuses_unequal_budgets(tmp_path: Path, other: list[tuple[float, ...]]) -> None:
    ce = [_result(0, 0.5), _result(1, 0.7)]
    tuning.save_choices("distill-cross", [_choice(1, ce)], tmp_path)
    before = (tmp_path / "distill-cross.csv").read_text()
    rkd = [_result(number, *scores, method="rkd") for number, scores in enumerate(other)]
    with pytest.raises(InputError, match="tune these in the same way, or take another --out"):
        tuning.save_choices("distill-cross", [_choice(0, rkd)], tmp_path)
    assert (tmp_path / "distill-cross.csv").read_text() == before


@pytest.mark.parametrize(
    ("protocol", "validation"),
    [
        ("distill-cross", ("protocol.split=val",)),
        ("fewshot-5way1shot", ("protocol.split=val", "protocol.episodes=1000")),
        ("middleshot-5way5shot", ("protocol.split=val", "protocol.tasks=60")),
    ],
)
def test_trials_are_evaluated_on_validation_data(protocol: str, validation: tuple[str, ...]) -> None:
    assert tuning.make_trials(protocol, "ce", 2)[0].overrides[:-1] == validation


def test_preset_quick_takes_the_tuned_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "distill-cross.toml").write_text('["rkd"]\ntraining.lr = 0.05\nmethod.angle = 7.0\n')
    (tmp_path / "fewshot-5way1shot.toml").write_text('["rkd"]\ntraining.lr = 0.06\n')
    monkeypatch.setattr(tuned_settings, "folder", lambda: tmp_path)
    tuned_settings._kept.cache_clear()
    try:
        spec = make_plan(Request("distill-cross", "rkd", "tiny"), tmp_path).spec(0)
        assert (spec.training.lr, spec.method_settings.angle, spec.method_settings.distance) == (0.05, 7.0, 25.0)
        assert spec.preset == "quick"
        overridden = make_plan(Request("distill-cross", "rkd", "tiny", overrides=("method.angle=9",)), tmp_path).spec(0)
        assert (overridden.training.lr, overridden.method_settings.angle, overridden.preset) == (
            0.05,
            9.0,
            "quick+method.angle=9.0",
        )
        other = make_plan(Request("distill-cross", "rkd", "tiny", preset="paper"), tmp_path).spec(0)
        assert (other.training.lr, other.method_settings.angle) == (0.1, 50.0)
        stand_in = make_plan(Request("fewshot-3way1shot", "rkd", "tiny"), tmp_path).spec(0)
        assert stand_in.training.lr == 0.06
    finally:
        tuned_settings._kept.cache_clear()


def test_tuned_settings_reports_an_invalid_file(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("ce = 3")
    with pytest.raises(InputError, match=r"a.toml: \[ce\] is not a table"):
        tuned_settings.read(tmp_path / "a.toml")
    (tmp_path / "a.toml").write_text("[ce")
    with pytest.raises(InputError, match="cannot read tuned settings"):
        tuned_settings.read(tmp_path / "a.toml")
    assert tuned_settings.read(tmp_path / "b.toml") == {}


FILES = sorted(tuned_settings.folder().glob("*.toml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_suites_tuned_settings_follow_from_their_logs(path: Path) -> None:
    """Budgets are equal, the first trial is the defaults, the best trial is chosen, its settings are in the file."""
    protocol, chosen = path.stem, tuned_settings.read(path)
    table = pd.read_csv(path.with_suffix(".csv"), keep_default_na=False)
    runs = [name for name in table.columns if name not in ("method", "trial", "settings", "mean", "chosen")]
    assert set(table["method"]) == set(chosen)
    assert all(int(name.rpartition(" s")[2]) >= tuning.FIRST_SEED for name in runs)
    assert len(set(table.groupby("method").size())) == 1
    opened: dict[str, ImageSet] = {}
    for method, rows in table.groupby("method"):
        trials = tuning.make_trials(protocol, str(method), len(rows))
        assert [" ".join(f"{k}={v:g}" for k, v in trial.values.items()) for trial in trials] == list(rows["settings"])
        assert list(rows["mean"].astype(float)) == pytest.approx(
            list(rows[runs].astype(float).mean(axis=1, skipna=False)), abs=2e-6, nan_ok=True
        )
        row = rows[rows["chosen"] == "yes"]
        assert len(row) == 1
        assert row["mean"].astype(float).item() == rows["mean"].astype(float).max()
        values = {
            f"{part}.{name}": value for part, named in chosen[str(method)].items() for name, value in named.items()
        }
        assert {
            k: float(v[k.partition(".")[2]])
            for k in values
            for v in [parse_overrides(row["settings"].item().split())[k.partition(".")[0]]]
        } == values
        make_plan(Request(protocol, str(method), "glyphs"), Path(), opened=opened)
