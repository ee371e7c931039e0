"""What is committed under ``results/``: tables are made of the records, and the records are of this version."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest

from benchmark.data.published import data_set
from benchmark.experiment import planning
from benchmark.experiment.measurement import measure
from benchmark.experiment.verification import plan_from_record
from benchmark.hashing import content_key
from benchmark.methods import METHODS
from benchmark.records.run_label import NO_TEACHER
from benchmark.records.schema import Record
from benchmark.records.store import Store
from benchmark.report.aggregation import Conditions, group_by_method
from benchmark.report.compare import Comparison
from benchmark.statistics import paired_test
from benchmark.system.progress import Silent
from benchmark.training import TeacherStore, select_device
from benchmark.training.loop import VERSION
from protocols import PROTOCOLS

from .scripts import load

ROOT = Path(__file__).parent.parent
tool = load("tools/reference_results")
RESULTS = ROOT / "results"
SAME = ("cpu", "torch", "threads", "precision")
TOLERANCE = 0.1
STORED = json.loads(Path(__file__).with_name("stored_record_names.json").read_text(encoding="utf-8"))
SECONDS = 10.0
"""The longest recorded run that is repeated in the fast tests."""


@pytest.fixture(scope="session")
def records() -> list[Record]:
    good, damaged = Store(RESULTS / "reference").read()
    assert not damaged
    assert len(good) >= 50
    return good


def test_committed_texts_are_made_from_the_records(records: list[Record]) -> None:
    for name, text in tool.texts(records, Store(RESULTS / "reference")).items():
        assert (RESULTS / name).read_text(encoding="utf-8") == text, name


def test_only_figures_that_are_shown_are_committed() -> None:
    shown = {f"results/figures/{name}.png" for name in tool.SHOWN.values()}
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    links = {link for page in pages for link in re.findall(r"results/figures/[^)`\s]+\.png", page.read_text("utf-8"))}
    assert links == shown
    assert all((ROOT / name).is_file() for name in shown)


@pytest.mark.parametrize(
    ("differences", "word"),
    [
        ([0.02, 0.03, 0.025, 0.021, 0.03], "confirmed"),
        ([-0.02, -0.03, -0.025, -0.021, -0.03], "contradicted"),
        ([0.02, -0.03, 0.025, -0.021, 0.03], "not confirmed"),
    ],
)
def test_verdict_depends_on_test_and_direction(differences: list[float], word: str) -> None:
    where = Conditions("distill-same", "glyphs", "quick", "b", "a", "measured")
    paired = paired_test(differences)
    found = Comparison(where, "refilled", "kd", (0.5, 0.5), tuple(differences), paired, {}, adjusted_p=paired.t_p)
    assert tool.verdict(found) == word


def row(protocol: str, method: str, seed: int, value: float, preset: str = "quick", teacher: int = 0) -> Record:
    return {
        "schema": 1, "key": f"{preset}{method}{seed}", "status": "done", "provenance": "measured", "protocol": protocol,
        "dataset": "glyphs", "preset": preset, "teacher": "conv4-64", "backbone": "conv4-16", "method": method,
        "seed": seed, "metric": "accuracy", "value": value, "config": {"teacher": {"seed": teacher}}, "started": "",
    }  # fmt: skip


def test_teachers_table_is_in_points() -> None:
    """By hand: refilled is ahead of ce by 5, 6, 7 with one teacher, by 5, 2, 5 with its own; ce spreads by 1 and 2."""
    own = "quick+teacher.seed=run"
    records = [
        *(row("distill-cross", "ce", seed, value) for seed, value in enumerate((0.5, 0.51, 0.52))),
        *(row("distill-cross", "refilled", seed, value) for seed, value in enumerate((0.55, 0.57, 0.59))),
        *(row("distill-cross", "ce", seed, value, own, seed) for seed, value in ((1, 0.52), (2, 0.54))),
        *(row("distill-cross", "refilled", seed, value, own, seed) for seed, value in ((1, 0.54), (2, 0.59))),
    ]
    table = tool.teachers(group_by_method(records)).splitlines()
    # 4.3027 is the 97.5 % quantile of Student's t with two degrees of freedom
    bars = [4.3027 * spread / 3**0.5 for spread in (1, 3**0.5)]
    assert table[2:] == [
        f"| distill-cross glyphs | ce | 1.00 | 2.00 | +6.0 ± {bars[0]:.1f} | +4.0 ± {bars[1]:.1f} | 3 |",
        "| distill-cross glyphs | refilled | 2.00 | 2.65 |  |  | 3 |",
    ]


def test_summary_has_the_verdict_on_every_rival_over_all_conditions(tmp_path: Path) -> None:
    values = {"refilled": 0.6, "ce": 0.5, "rkd": 0.7, "at": 0.6}
    jitter = (0.0, 0.004, -0.003, 0.002, -0.001)
    records = [
        row(protocol, method, seed, value + (jitter[seed] if method != "refilled" else 0.0))
        for protocol in ("distill-cross", "distill-overlap40")
        for method, value in values.items()
        for seed in range(5)
    ]
    claim = next(claim for claim in tool.CLAIMS if "distill-cross" in claim.protocols and not claim.settings)
    store = Store(tmp_path)
    for record in records:
        store.save({**record, "config": {**record["config"], "of": record["key"]}}, {})
    finding = tool.find(claim, group_by_method(records), store)
    lines = tool.summary([finding]).splitlines()[2:]
    assert [line.split(" | ")[1] for line in lines] == ["ce", "rkd", "at"]
    assert [line.rpartition("**")[0].rpartition("**")[2] for line in lines] == [
        "confirmed", "contradicted", "not confirmed"
    ]  # fmt: skip
    assert ["2 of 2" in line for line in lines] == [True, False, False]
    assert tool.section(tool.Finding(claim, [])).endswith("Not measured yet with tuned settings.")
    apart = [record for record in records if (record["method"] == "refilled") == (record["seed"] < 2)]
    assert not tool.find(claim, group_by_method(apart), store).comparisons
    assert tool.section(finding).count("| distill-cross glyphs |") == 3
    assert tool.section(finding).endswith(
        "\n* distill on glyphs, quick, conv4-16 from conv4-64: rkd 1.0, at 2.0, **refilled 3.0**, ce 4.0."
    )


def as_of_today(record: Record) -> Record:
    """The record as of training version 2: the precision is written out, and what reads no teacher has none."""
    config = json.loads(json.dumps(record["config"]))
    assert (config["training"]["precision"], config["versions"]["training"]) == ("auto", 1)
    config["training"]["precision"] = record["environment"]["precision"]
    config["versions"]["training"] = VERSION
    protocol, method = PROTOCOLS.get(record["protocol"]).entry, METHODS.get(record["method"]).entry
    if not protocol.reads_teacher and not method.reads_teacher(config["student"]["start"]):
        beside = {"teacher": config.pop("teacher")}
        return {**record, "config": config, "key": content_key(config), "teacher": NO_TEACHER, "beside": beside}
    return {**record, "config": config, "key": content_key(config)}


def test_records_are_replanned_as_the_runs_of_today(records: list[Record], monkeypatch: pytest.MonkeyPatch) -> None:
    """The same request would be the same run: no other default, preset, version or data set has changed since."""
    loaded = {name: data_set(name)(Path()) for name in {record["dataset"] for record in records}}
    monkeypatch.setattr(planning, "data_set", lambda name: lambda root: loaded[name])
    for record in map(as_of_today, records):
        assert plan_from_record(record, Path()).spec(record["seed"]).key == record["key"]


def test_records_hold_the_stored_names(records: list[Record]) -> None:
    """A rename would orphan the records: it must fail here first."""
    parts = [part for part in STORED if part not in ("record", "arrays")]
    assert sorted({name for record in records for name in record}) == STORED["record"]
    for part in parts:
        assert sorted({name for record in records for name in record[part]}) == STORED[part], part


def test_every_record_is_whole(records: list[Record]) -> None:
    store = Store(RESULTS / "reference")
    names: set[str] = set()
    for record in records:
        assert record["status"] == "done"
        arrays = store.arrays(record)
        names |= set(arrays)
        if "correct_student" in arrays:
            mean = arrays["correct_student"].mean() / record["facts"]["queries_per_episode"]
        else:
            mean = (arrays["predicted_student"] == arrays["labels"]).mean()
        assert mean == pytest.approx(record["value"], abs=1e-12)
    assert sorted(names) == STORED["arrays"]


def unchanged(records: list[Record]) -> list[Record]:
    """The records of methods that train as they did in version 1."""
    changed = {"refilled", "refilled-cvpr20", "lucir", "wa", "eeil", "icarl", "avalanche/icarl", "protonet"}
    return [record for record in records if record["method"] not in changed]


def check_equal(record: Record, data: Path) -> None:
    """Repeat a recorded run. Its value is bit-equal if processor, torch and threads are the record's.

    Elsewhere sums are rounded in another order, and trainings drift apart like those of two seeds: within TOLERANCE.
    """
    name = f"{record['protocol']} {record['dataset']} {record['method']} s{record['seed']} {record['key'][:12]}"
    plan = plan_from_record(as_of_today(record), data)
    spec = plan.spec(record["seed"])
    device = select_device("cpu", spec.training.precision)
    again, _ = measure(plan, spec, TeacherStore(data / "teachers"), device, Silent())
    assert again["status"] == "done", name
    if all(again["environment"][field] == record["environment"][field] for field in SAME):
        assert again["value"] == record["value"], name
    else:
        assert abs(again["value"] - record["value"]) <= TOLERANCE, name


def test_random_short_run_gives_the_recorded_value(records: list[Record], tmp_path: Path) -> None:
    """Another run each time, of those whose teacher is the smallest one, so that teacher and student train quickly."""
    short = [r for r in unchanged(records) if (r["dataset"], r["teacher"]) == ("emoji", "conv4-32")]
    short = [record for record in short if record["seconds"] <= SECONDS]
    assert len(short) >= 50
    check_equal(random.SystemRandom().choice(short), tmp_path)


@pytest.mark.slow
def test_random_runs_with_a_new_teacher_give_the_recorded_values(records: list[Record], tmp_path: Path) -> None:
    """Two other runs each time, of one teacher, which is trained too."""
    draw = random.SystemRandom()
    teacher = draw.choice(unchanged(records))["teacher_facts"]["key"]
    of_teacher = [record for record in unchanged(records) if record["teacher_facts"]["key"] == teacher]
    for record in draw.sample(of_teacher, 2):
        check_equal(record, tmp_path)
