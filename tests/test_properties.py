"""Any input gives a result or one clear line, and a record is planned again under its key."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.backbones import BACKBONES
from benchmark.data import ImageSet
from benchmark.errors import InputError
from benchmark.experiment import planning
from benchmark.experiment.planning import make_plan
from benchmark.experiment.request import Request
from benchmark.experiment.verification import plan_from_record
from benchmark.hashing import canonical_json, content_key
from benchmark.methods import METHODS
from benchmark.settings import SECTIONS, build_settings, parse_overrides, parse_seeds
from benchmark.spec import Student, Teacher, Training
from protocols import PROTOCOLS

bounded = settings(deadline=None, max_examples=100, derandomize=True)

CLASSES: dict[str, type] = {
    "student": Student,
    "teacher": Teacher,
    "training": Training,
    **{f"method {name}": METHODS.get(name).entry.Settings for name in METHODS.names()},
    **{f"protocol {name}": PROTOCOLS.get(name).entry.Settings for name in PROTOCOLS.names()},
}
NUMBERS = st.one_of(st.integers().map(str), st.floats().map(str), st.sampled_from(["1e99", "9" * 400, "-0", "1_0"]))
VALUES = st.one_of(st.text(), NUMBERS, st.integers(), st.floats(), st.none(), st.booleans(), st.lists(st.integers()))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def near(names: list[str]) -> st.SearchStrategy[str]:
    """Arbitrary text, the names, and the names with a piece of them replaced."""
    known = st.sampled_from(names)
    cut = st.tuples(known, st.integers(0, 12), st.integers(0, 3), st.text(max_size=12))
    return st.one_of(known, cut.map(lambda c: c[0][: c[1]] + c[3] + c[0][c[1] + c[2] :]), st.text())


@pytest.fixture(scope="module", autouse=True)
def _one_tiny(tiny: ImageSet) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planning, "open_data_set", lambda loader, root, progress: tiny)
        yield


def outcome(call: Any, *arguments: Any) -> Any:
    """Return the result, or None if the call raises an ``InputError`` of one line."""
    try:
        return call(*arguments)
    except InputError as error:
        message = str(error)
    assert message.strip()
    assert len(message.splitlines()) == 1, message
    return None


@bounded
@given(st.lists(st.text() | st.builds("{}.{}={}".format, near([*SECTIONS]), st.text(), st.text()), max_size=4))
def test_parse_overrides_takes_any_text(items: list[str]) -> None:
    found = outcome(parse_overrides, items)
    assert found is None or sum(map(len, found.values())) == len(items)


@bounded
@given(st.text() | st.text("0123456789,- ", max_size=30))
def test_parse_seeds_takes_any_text(text: str) -> None:
    found = outcome(parse_seeds, text)
    assert found is None or (found and len(set(found)) == len(found) and min(found) >= 0)


@bounded
@given(st.sampled_from(sorted(CLASSES)), st.data())
def test_build_settings_takes_any_value(name: str, data: st.DataObject) -> None:
    cls = CLASSES[name]
    fields = [field.name for field in dataclasses.fields(cls)]
    names = st.sampled_from(fields) | st.text() if fields else st.text()
    values = data.draw(st.dictionaries(names, VALUES, max_size=3))
    built = outcome(build_settings, cls, values, name.split()[0])
    if built is not None:
        assert isinstance(built, cls)
        values = {field: getattr(built, field) for field in fields}
        assert build_settings(cls, values, name) == built


@bounded
@given(
    near(PROTOCOLS.names()), near(METHODS.names()), near(["tiny", "glyphs"]), near(["quick", "paper"]),
    near(BACKBONES.names()), near(BACKBONES.names()),
)  # fmt: skip
def test_make_plan_takes_any_name(
    protocol: str, method: str, dataset: str, preset: str, student: str, teacher: str
) -> None:
    backbones = (f"student.backbone={student}", f"teacher.backbone={teacher}")
    plan = outcome(make_plan, Request(protocol, method, dataset, preset, backbones), Path("/nonexistent"))
    assert plan is None or len(plan.spec(0).key) == 64


@settings(bounded, max_examples=300)
@given(
    st.sampled_from(PROTOCOLS.names()), st.sampled_from(METHODS.names()), st.integers(0, 2**60),
    st.integers(1, 10**6), st.floats(1e-30, 1e30), st.sampled_from(["", "0.25,0.5", "1e-3"]), st.booleans(),
    st.sampled_from(["conv4-16", "resnet8", "wrn-16-1"]),
)  # fmt: skip
def test_plan_from_record_keeps_the_key(
    protocol: str, method: str, seed: int, steps: int, lr: float, milestones: str, nesterov: bool, student: str
) -> None:
    values = {"steps": steps, "lr": lr, "milestones": milestones, "nesterov": nesterov}
    overrides = tuple(f"training.{name}={value}" for name, value in values.items())
    request = Request(protocol, method, "tiny", "quick", (*overrides, f"student.backbone={student}"))
    plan = outcome(make_plan, request, Path("/nonexistent"))
    if plan is None:
        return
    spec = plan.spec(seed)
    record = {
        "key": spec.key, "protocol": protocol, "method": method, "dataset": "tiny", "preset": spec.preset,
        "seed": seed, "config": json.loads(json.dumps(spec.config())),
    }  # fmt: skip
    assert content_key(record["config"]) == spec.key
    assert plan_from_record(record, Path("/nonexistent")).spec(seed).key == spec.key


@bounded
@given(JSON)
def test_canonical_json_is_stable(value: Any) -> None:
    text = canonical_json(value)
    assert canonical_json(json.loads(text)) == text
    if isinstance(value, dict):
        assert canonical_json(dict(reversed(value.items()))) == text
