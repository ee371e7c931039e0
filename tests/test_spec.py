from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import pytest
from annotated_types import Gt
from hypothesis import given
from hypothesis import strategies as st

from benchmark.errors import InputError
from benchmark.hashing import canonical_json, derive_seed
from benchmark.settings import ADDED_LATER, build_settings, parse_overrides, parse_seeds, to_config
from benchmark.spec import RunSpec, Student, Teacher, Training


@dataclass(frozen=True)
class Sample:
    rate: Annotated[float, Gt(0)] = 0.5
    count: int = 3
    kind: Literal["a", "b"] = "a"
    on: bool = True


@dataclass(frozen=True)
class Grown(Sample):
    later: str = field(default="default", metadata=ADDED_LATER)


def spec(**changes: Any) -> RunSpec:
    base = RunSpec(
        "p", "d", "m", 0, "quick", Sample(), Sample(), Student(), Teacher(), Training(), {"protocol": 1}, "f"
    )
    return dataclasses.replace(base, **changes)


def test_build_settings_converts_text() -> None:
    built = build_settings(Sample, {"rate": "1e-3", "count": "7", "kind": "b", "on": "false"}, "method")
    assert built == Sample(0.001, 7, "b", False)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rat": "1"}, "no setting method.rat; did you mean 'rate'"),
        ({"rate": "x"}, "method.rate = 'x': "),
        ({"rate": "-1"}, "method.rate = '-1': input should be greater than 0"),
        ({"rate": "nan"}, "method.rate"),
        ({"rate": "inf"}, "method.rate = inf: not a finite number"),
        ({"count": "1.5"}, "method.count"),
        ({"kind": "c"}, "method.kind = 'c': input should be 'a' or 'b'"),
        ({"on": "maybe"}, "method.on"),
    ],
)
def test_build_settings_names_a_bad_setting(values: dict[str, str], message: str) -> None:
    with pytest.raises(InputError) as caught:
        build_settings(Sample, values, "method")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_parse_overrides() -> None:
    assert parse_overrides(["method.a=1", "training.lr = 0.1", "method.b=x=y"]) == {
        "protocol": {},
        "method": {"a": "1", "b": "x=y"},
        "student": {},
        "teacher": {},
        "training": {"lr": "0.1"},
    }
    for bad in ("a", "method", "method.=1", "=", ".", "metod.a=1"):
        with pytest.raises(InputError, match="--set"):
            parse_overrides([bad])
    with pytest.raises(InputError, match="twice"):
        parse_overrides(["method.a=1", "method.a=2"])


@given(st.lists(st.text(max_size=30), max_size=3))
def test_parse_overrides_raises_input_errors_only(items: list[str]) -> None:
    try:
        for section, values in parse_overrides(items).items():
            build_settings(Training, values, section)
    except InputError:
        return


def test_parse_seeds() -> None:
    assert parse_seeds("3") == [3]
    assert parse_seeds("0,2, 5") == [0, 2, 5]
    assert parse_seeds("0-4") == [0, 1, 2, 3, 4]
    for bad in ("", "a", "1,", "3-1", "1-", "-1", "0,0", "0-99999999", "1.5", "٣"):
        with pytest.raises(InputError, match="seeds"):
            parse_seeds(bad)


def test_key_depends_on_content_alone() -> None:
    key = spec().key
    assert spec().key == key
    assert spec(preset="other").key == key
    changes: list[dict[str, Any]] = [
        {"protocol": "q"},
        {"dataset": "e"},
        {"method": "n"},
        {"seed": 1},
        {"fingerprint": "g"},
        {"versions": {"protocol": 2}},
        {"method_settings": Sample(rate=0.6)},
        {"protocol_settings": Sample(count=4)},
        {"student": Student("conv4-32")},
        {"teacher": Teacher(seed=1)},
        {"training": Training(lr=0.2)},
    ]
    keys = {spec(**change).key for change in changes}
    assert len(keys) == len(changes)
    assert key not in keys


def test_key_ignores_a_later_setting_at_its_default() -> None:
    grown = spec(method_settings=Grown(), protocol_settings=Grown())
    assert grown.key == spec().key
    assert to_config(Grown(later="new")) == {"rate": 0.5, "count": 3, "kind": "a", "on": True, "later": "new"}
    assert spec(method_settings=Grown(later="new")).key != spec().key
    assert to_config(Grown(rate=0.1)) == {"rate": 0.1, "count": 3, "kind": "a", "on": True}


def test_training_milestones() -> None:
    assert Training().decays() == ()
    assert build_settings(Training, {"milestones": "0.25, 0.5,0.75"}, "training").decays() == (0.25, 0.5, 0.75)
    for bad in ("x", "0.5,", "0", "1", "0.5,0.25", "0.5,0.5", "nan"):
        with pytest.raises(InputError, match=r"training\.milestones = '.*': not ascending shares"):
            build_settings(Training, {"milestones": bad}, "training")


@given(st.floats(min_value=1e-9, max_value=1e9), st.integers(1, 10**9), st.integers(2, 10**6))
def test_config_survives_json(lr: float, steps: int, batch: int) -> None:
    config = spec(training=Training(lr=lr, steps=steps, batch_size=batch)).config()
    again = json.loads(json.dumps(config))
    assert canonical_json(again) == canonical_json(config)
    assert build_settings(Training, again["training"], "training") == Training(lr=lr, steps=steps, batch_size=batch)


def test_derive_seed_differs_between_purposes() -> None:
    seeds = {derive_seed(s, p) for s in range(50) for p in ("a", "b")}
    assert len(seeds) == 100
    assert all(0 <= s < 2**63 for s in seeds)
