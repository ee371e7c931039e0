from __future__ import annotations

import base64
import hashlib
import json
import random
import re
import shlex
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmark.experiment.planning import Plan, make_plan
from benchmark.experiment.request import Request
from benchmark.report.leaderboard import leaderboard, reported
from benchmark.report.page import Illustration, make_page
from benchmark.report.page.page import INTERVALS
from benchmark.report.page.runs import compact_history, parse_label
from benchmark.settings import parse_seeds
from benchmark.statistics import class_interval, episode_interval, image_interval, seed_interval
from benchmark.system.escaping import visible

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&{{7*7}}\u2028"


def record(method: str, seed: int, value: float, **changes: Any) -> dict[str, Any]:
    """Return a finished record with all its fields."""
    interval = {"episode": {"half_width": 0.002, "n": 10_000}, "class": {"half_width": 0.035, "n": 54}}
    run = {
        "schema": 1,
        "status": "done",
        "provenance": "measured",
        "protocol": "fewshot-5way1shot",
        "dataset": "glyphs",
        "preset": "quick",
        "method": method,
        "backbone": "conv4-16",
        "teacher": "conv4-64",
        "seed": seed,
        "config": {
            "protocol": {"name": "fewshot-5way1shot", "episodes": 10_000, "head": "normalised"},
            "method": {"name": method},
            "training": {"weight_decay": 5e-4},
            "seed": seed,
        },
        "environment": {"python": "3.11.7", "cpu": "a processor", "gpu": None},
        "started": "2026-01-01T00:00:00+00:00",
        "metric": "accuracy",
        "value": value,
        "intervals": interval,
        "n": 10_000,
        "references": {"teacher": {"value": 0.85, "intervals": interval}, "chance": {"value": 0.2, "intervals": {}}},
        "student_facts": {"parameters": 16_219, "steps": 600, "seconds": 52.0},
        "teacher_facts": {"parameters": 147_403, "accuracy": 0.96},
        "facts": {"queries_per_episode": 75},
        "history": [
            {"stage": "embedding", "step": 300.0, "tuples": 0.25},
            {"stage": "classifier", "step": 450.0, "ce": 1.5, "local": -0.5},
            {"stage": "classifier", "step": 600.0, "ce": 0.75, "local": -1.0},
        ],
        "seconds": 58.2,
        "peak_memory_mb": 1120.0,
        **changes,
    }
    for item in parse_label(run["preset"])[1]:
        setting, _, text = item.partition("=")
        section, _, name = setting.partition(".")
        run["config"][section][name] = text
    return {"key": hashlib.sha256(repr(sorted(run.items())).encode()).hexdigest(), **run}


def failed(method: str, seed: int, error: str, **changes: Any) -> dict[str, Any]:
    run = record(method, seed, 0.0, status="failed", error=error, **changes)
    for name in ("metric", "value", "intervals", "references", "history", "student_facts", "teacher_facts", "facts"):
        del run[name]
    return run


def sample() -> list[dict[str, Any]]:
    """Return records of two groups; one has an incomplete and a failed method."""
    values = {"ce": 0.70, "kd": 0.72, "rkd": 0.75}
    records = [record(method, seed, value + seed / 200) for method, value in values.items() for seed in range(3)]
    records += [record("ce", 0, 0.5, dataset="emoji"), record("kd", 0, 0.45, dataset="emoji")]
    records += [record("at", 0, 0.9), failed("at", 1, "it broke"), failed("vid", 0, "OutOfMemoryError: 4 GiB")]
    return [*records, record("kd", 0, 0.8, preset="quick+method.temperature=2.0")]


@dataclass
class Element:
    tag: str
    attributes: dict[str, str]
    parent: Element | None
    children: list[Element] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)

    def find(self, tag: str, **attributes: str) -> list[Element]:
        required = {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()}
        matches = [self] if self.tag == tag and required.items() <= self.attributes.items() else []
        return matches + [element for child in self.children for element in child.find(tag, **attributes)]

    @property
    def text(self) -> str:
        return "".join(self.texts) + "".join(child.text for child in self.children)

    @property
    def words(self) -> str:
        return " ".join(self.text.split())


class Tree(HTMLParser):
    """A document as a tree, parsed by Python's parser."""

    VOID = ("meta", "link", "img", "input", "br")

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.root = self._open = Element("document", {}, None)
        self.feed(text)
        self.close()
        assert self._open is self.root, f"<{self._open.tag}> is never closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs}, self._open)
        self._open.children.append(element)
        if tag not in self.VOID:
            self._open = element

    def handle_endtag(self, tag: str) -> None:
        if tag in ("option", "p", "li") and self._open.tag != tag:
            return
        assert self._open.tag == tag, f"</{tag}> closes <{self._open.tag}>"
        assert self._open.parent is not None
        self._open = self._open.parent

    def handle_data(self, data: str) -> None:
        self._open.texts.append(data)


def parse(text: str) -> Element:
    return Tree(text).root


def all_elements(element: Element) -> list[Element]:
    return [element] + [descendant for child in element.children for descendant in all_elements(child)]


def run_data(page: Element, key: str) -> dict[str, Any]:
    (script,) = page.find("script", data_run=key)
    run: dict[str, Any] = json.loads(script.text)
    (shared,) = page.find("script", id="shared")
    values = json.loads(shared.text)
    for part in ("config", "about"):
        run[part] = {name: values[index] for name, index in run[part].items()}
    for name in {"teacher_facts", "facts", "environment"} & run.keys():
        run[name] = values[run[name]]
    return run


def board_rows(page: Element) -> list[dict[str, Any]]:
    rows = []
    (section,) = page.find("section", id="leaderboard")
    for pool in section.find("tbody"):
        for row in pool.find("tr"):
            if "data-method" not in row.attributes:
                continue
            numbers = [float(cell.attributes["data-value"] or "nan") for cell in row.find("td")[:5]]
            (status,) = (cell for cell in row.find("td") if "status" in cell.attributes["class"])
            (label,) = row.find("th")
            rows.append({
                "protocol": pool.attributes["data-protocol"], "dataset": pool.attributes["data-dataset"],
                "method": row.attributes["data-method"], "label": label.text, "status": status.text,
                "best": row.attributes.get("class") == "best", "printed": [cell.text for cell in row.find("td")[:5]],
                **dict(zip(("rank", "mean", "ci95", "episode_ci95", "n_seeds"), numbers, strict=True)),
                "links": [a.attributes["href"] for a in row.find("a")],
            })  # fmt: skip
    return rows


def test_page_table_has_the_numbers_of_the_leaderboard() -> None:
    records = sample()
    rows = board_rows(parse(make_page(records, [], [])))
    frame = leaderboard(records)
    frame = frame[frame["status"] != "reference"]
    assert len(rows) == len(frame) == 8
    for expected in frame.to_dict("records"):
        settings = expected["preset"].partition("+method.")[2]
        label = expected["method"] + (f" ({settings})" if settings else "")
        (row,) = (r for r in rows if (r["dataset"], r["label"]) == (expected["dataset"], label))
        assert row["method"] == expected["method"]
        assert row["protocol"] == expected["protocol"]
        for name in ("rank", "mean", "ci95", "episode_ci95", "n_seeds"):
            assert row[name] == pytest.approx(float("nan") if pd.isna(expected[name]) else expected[name], nan_ok=True)
        assert row["best"] == (expected["rank"] == 1)
        assert row["status"].startswith(expected["status"])
        if not pd.isna(expected["mean"]):
            assert row["printed"][1] == f"{100 * expected['mean']:.2f}"
        assert row["printed"][2] == ("" if pd.isna(expected["ci95"]) else f"± {100 * expected['ci95']:.2f}")


def test_page_ends_each_group_with_what_methods_are_read_against() -> None:
    facts = {"images_per_class": 2, "classes": 50}
    page = parse(make_page([record("ce", 0, 0.5, protocol="distill-same", facts=facts)], [], []))
    rows = page.find("tr", class_="reference")
    assert rows[0].find("th")[0].text == "chance"
    assert rows[0].find("td", class_="number mean")[0].text == "20.00"
    assert "2 images per class" in page.find("tr", class_="pool")[0].words


def test_page_rows_are_ordered_by_rank_and_name_missing_seeds() -> None:
    rows = [row for row in board_rows(parse(make_page(sample(), [], []))) if row["dataset"] == "glyphs"]
    assert [row["label"] for row in rows] == ["at", "kd (temperature=2.0)", "rkd", "kd", "ce", "vid"]
    assert "ranks over seed 0, which every method has finished" in make_page(sample(), [], [])
    statuses = {row["label"]: row["status"] for row in rows}
    assert statuses["at"] == "incomplete: lacks seeds 1-2"
    assert statuses["kd (temperature=2.0)"] == "incomplete: lacks seeds 1-2"
    assert statuses["vid"] == "failed: lacks seeds 0-2"
    assert statuses["rkd"] == "done"


def test_page_lists_missing_seeds_in_the_format_of_seeds_option() -> None:
    missing = [0, 3, 4, 5, 9, 11, 12]
    records = [record("kd", seed, 0.5) for seed in range(13)]
    records += [record("ce", seed, 0.4) for seed in range(13) if seed not in missing]
    statuses = {row["label"]: row["status"] for row in board_rows(parse(make_page(records, [], [])))}
    assert parse_seeds(statuses["ce"].removeprefix("incomplete: lacks seeds ")) == missing
    records += [record("ce", seed, 0.4) for seed in missing[1:]]
    assert board_rows(parse(make_page(records, [], [])))[1]["status"] == "incomplete: lacks seed 0"


def test_page_has_every_run_with_a_link() -> None:
    records = sample()
    page = parse(make_page(records, [], []))
    keys = {r["key"] for r in records}
    assert {e.attributes["data-run"] for e in page.find("script") if "data-run" in e.attributes} == keys
    assert {e.attributes["href"] for e in page.find("a") if e.attributes["href"].startswith("#run-")} == {
        f"#run-{key}" for key in keys
    }
    for r in records:
        run = run_data(page, r["key"])
        assert {name: run.get(name) for name in r.keys() - {"preset", "history", "schema"}} == {
            name: r[name] for name in r.keys() - {"preset", "history", "schema"}
        }


def test_page_lists_a_repeated_run_as_superseded() -> None:
    old, new = record("kd", 0, 0.5), record("kd", 0, 0.6, started="2026-02-01T00:00:00+00:00")
    page = parse(make_page([new, old], [], []))
    (section,) = page.find("section", id="superseded")
    assert [a.attributes["href"] for a in section.find("a")] == [f"#run-{old['key']}"]
    assert [row["links"] for row in board_rows(page)] == [[f"#run-{new['key']}"]]
    assert not parse(make_page([new], [], [])).find("section", id="superseded")


def test_page_names_damaged_records_and_failed_runs() -> None:
    problems = ["record results/runs/x.json is damaged (line 3); move it away"]
    records = sample()
    (section,) = parse(make_page(records, [], problems)).find("section", id="problems")
    assert problems[0] in section.text
    assert "OutOfMemoryError: 4 GiB" in section.text
    assert {a.attributes["href"] for a in section.find("a")} == {
        f"#run-{r['key']}" for r in records if r["status"] == "failed"
    }
    assert not parse(make_page([record("kd", 0, 0.5)], [], [])).find("section", id="problems")


def test_page_escapes_hostile_text() -> None:
    changes = {"protocol": HOSTILE, "dataset": HOSTILE, "preset": f"quick+method.{HOSTILE}", "teacher": HOSTILE}
    hostile = record(HOSTILE, 0, 0.5, **changes, metric=HOSTILE, key=HOSTILE)
    broken = failed(HOSTILE, 1, HOSTILE, **changes)
    illustration = Illustration(HOSTILE, HOSTILE, f"<svg><script>{HOSTILE}</script></svg>")
    page = parse(make_page([hostile, broken], [illustration], [HOSTILE]))
    assert [e.attributes.get("type") for e in page.find("script")].count("module") == 1
    assert {e.attributes["type"] for e in page.find("script")} == {"module", "application/json"}
    assert [e.attributes["src"][:26] for e in page.find("img")] == ["data:image/svg+xml;base64,"]
    assert not [name for e in all_elements(page) for name in e.attributes if name.startswith("on")]
    assert not [e for e in all_elements(page) if "alert" in e.tag]
    (row,) = board_rows(page)
    assert (row["method"], row["protocol"], row["dataset"]) == (visible(HOSTILE),) * 3
    assert visible(HOSTILE) in page.find("section", id="problems")[0].text
    assert visible(HOSTILE) in page.find("figcaption")[0].text
    assert run_data(page, broken["key"])["error"] == visible(HOSTILE)
    run_keys = [e.attributes["data-run"] for e in page.find("script") if "data-run" in e.attributes]
    assert len(run_keys) == 2
    assert not any(set("<>\"'") & set(key) for key in run_keys)
    assert row["links"][0] in {f"#run-{key}" for key in run_keys}


def test_page_with_a_lone_surrogate_can_be_encoded() -> None:
    assert "\\ud800" in make_page([record("kd\ud800", 0, 0.5)], [], []).encode().decode()


def test_page_loads_nothing() -> None:
    svg = '<svg xmlns="http://www.w3.org/2000/svg"><text>https://example.org</text></svg>'
    text = make_page(sample(), [Illustration("a", "b", svg)], [])
    assert not re.search(r"https?:|url\(|@import|\bimport\b *[({'\"]|\bfetch\(|XMLHttpRequest|WebSocket", text)
    page = parse(text)
    assert {e.tag for e in all_elements(page)}.isdisjoint(
        {"iframe", "object", "embed", "base", "video", "audio", "source"}
    )
    addresses = [
        e.attributes[n] for e in all_elements(page) for n in ("src", "href", "action", "srcset") if n in e.attributes
    ]
    assert addresses
    assert all(address.startswith(("#", "data:")) for address in addresses)


def test_page_policy_allows_only_its_own_script_and_style() -> None:
    page = parse(make_page(sample(), [], []))
    (policy,) = (e.attributes["content"] for e in page.find("meta") if "http-equiv" in e.attributes)
    allowed = dict(part.split(" ", 1) for part in policy.split("; "))
    assert allowed["default-src"] == "'none'"

    def hash_of(element: Element) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(element.text.encode()).digest()).decode()}'"

    assert allowed["script-src"] == hash_of(page.find("script", type="module")[0])
    assert allowed["style-src"] == hash_of(page.find("style")[0])
    assert not [e for e in all_elements(page) if "style" in e.attributes]
    assert allowed["img-src"] == "data:"


def test_page_embeds_figures_unchanged() -> None:
    svg = '<svg xmlns="http://www.w3.org/2000/svg"><path id="a" d="M0 0"/></svg>'
    (section,) = parse(make_page(sample(), [Illustration("Ranks", "Mean ranks.", svg)], [])).find(
        "section", id="figures"
    )
    (image,) = section.find("img")
    assert base64.b64decode(image.attributes["src"].partition(",")[2]).decode() == svg
    assert image.attributes["alt"] == "Ranks. Mean ranks."


def test_page_does_not_depend_on_the_order_of_records() -> None:
    records = sample()
    text = make_page(records, [], [])
    for seed in range(3):
        random.Random(seed).shuffle(records)
        assert make_page(records, [], []) == text


def test_page_separates_published_numbers_without_ranks() -> None:
    published = record("crd", 0, 0.99, provenance="reported-in-paper")
    page = parse(make_page([*sample(), published], [], []))
    assert "crd" not in {row["method"] for row in board_rows(page)}
    (section,) = page.find("section", id="published")
    assert "99.00" in section.words
    assert "Rank" not in section.words
    assert not section.find("tr", class_="best")
    assert "command" not in run_data(page, published["key"])


def test_page_shows_published_numbers_of_measured_protocols_and_data_sets() -> None:
    published = reported()
    protocol, dataset = published[["protocol", "dataset"]].iloc[0]
    page = parse(make_page([record("kd", 0, 0.5, protocol=protocol, dataset=dataset)], [], []))
    (section,) = page.find("section", id="published")
    expected = published[(published["protocol"] == protocol) & (published["dataset"] == dataset)]
    assert len(expected) < len(published)
    shown = [row for row in section.find("tr") if "data-method" in row.attributes]
    printed = sorted((row.attributes["data-method"], row.find("td")[0].text) for row in shown)
    assert printed == sorted((row.method, f"{100 * row.mean:.2f}") for row in expected.itertuples())
    assert all(source in section.words for source in expected["source"])
    assert not parse(make_page(sample(), [], [])).find("section", id="published")


def test_page_without_records_says_so() -> None:
    page = parse(make_page([], [], ["record a.json is damaged"]))
    assert "There are no records." in page.find("section", id="leaderboard")[0].words
    assert "record a.json is damaged" in page.find("section", id="problems")[0].words


def test_page_explains_every_kind_of_interval() -> None:
    values = [0.0, 1.0, 1.0]
    kinds = {f(values).kind for f in (seed_interval, episode_interval, image_interval)}
    kinds.add(class_interval(np.array([[0], [1], [2]]), values).kind)
    page = parse(make_page(sample(), [], []))
    assert kinds == set(INTERVALS)
    assert {e.attributes["id"].removeprefix("covers-") for e in page.find("dd") if "id" in e.attributes} == kinds


def test_page_run_describes_its_method_and_protocol() -> None:
    records = [record("rkd", 0, 0.5, protocol="distill-cross"), record("not-installed", 0, 0.4)]
    page = parse(make_page(records, [], []))
    about = run_data(page, records[0]["key"])["about"]
    assert "arXiv 1904.05068" in about["method"][0]
    assert any("``teacher_ncm``" in paragraph for paragraph in about["protocol"])
    assert not any("Base of all" in paragraph for paragraphs in about.values() for paragraph in paragraphs)
    assert "method" not in run_data(page, records[1]["key"])["about"]


def test_compact_history_keeps_all_values() -> None:
    history = record("kd", 0, 0.5)["history"]
    compact = compact_history(history)
    names = [name for name, count in compact["stages"] for _ in range(count)]
    for i, row in enumerate(history):
        terms = {name: column[i] for name, column in compact["terms"].items() if column[i] is not None}
        assert {"stage": names[i], "step": compact["steps"][i], **terms} == row
    assert compact_history([{"stage": "a", "step": 1.0, "ce": 1 / 3}])["terms"] == {"ce": [0.3333]}
    assert compact_history([]) == {"stages": [], "steps": [], "terms": {}}


def test_page_stores_shared_values_once() -> None:
    few, many = (make_page([record("kd", s, 0.5) for s in range(n)], [], []) for n in (10, 110))
    assert (len(many) - len(few)) / 100 < 1600
    assert many.count('"a processor"') == 1


@pytest.mark.parametrize(
    ("label", "parts"),
    [
        ("quick", ("quick", [])),
        ("paper+method.margin=0.1", ("paper", ["method.margin=0.1"])),
        (
            "quick+method.tuple_weight=1e+20+training.lr=1e-05",
            ("quick", ["method.tuple_weight=1e+20", "training.lr=1e-05"]),
        ),
    ],
)
def test_parse_label_splits_at_settings_only(label: str, parts: tuple[str, list[str]]) -> None:
    assert parse_label(label) == parts


def test_page_command_names_a_teachers_file_to_fill_in() -> None:
    """A record has the hash of a file of weights, not its place."""
    run = record("kd", 0, 0.5, teacher="timm:resnet18@d5341f1d")
    command = run_data(parse(make_page([run], [], [])), run["key"])["command"]
    assert "--teacher timm:resnet18@FILE" in command
    assert "d5341f1d" not in command


def plan_of_command(command: str, data_root: Path) -> tuple[Plan, int]:
    """Return plan and seed of a `run` command."""
    words = shlex.split(command)
    assert words[:4] == ["python", "-m", "benchmark", "run"]
    options = list(zip(words[4::2], words[5::2], strict=True))
    one = {name: value for name, value in options if name != "--set"}
    assert set(one) == {"--protocol", "--method", "--dataset", "--preset", "--seed"}
    overrides = tuple(value for name, value in options if name == "--set")
    request = Request(one["--protocol"], one["--method"], one["--dataset"], one["--preset"], overrides)
    return make_plan(request, data_root), int(one["--seed"])


@pytest.mark.parametrize(
    ("protocol", "method", "overrides"),
    [
        ("distill-cross", "refilled", ("method.tuple_weight=1e20", "method.adaptive=false", "training.lr=1e-05")),
        ("distill-same", "vid", ("method.taps=stage1,stage2", "student.backbone=conv4-32")),
        ("distill-same", "ncm", ("teacher.backbone=conv4-32",)),
        ("incremental-1step-5exemplars", "finetune", ()),
    ],
)
def test_page_command_repeats_the_run(protocol: str, method: str, overrides: tuple[str, ...], tmp_path: Path) -> None:
    spec = make_plan(Request(protocol, method, "tiny", "quick", overrides), tmp_path).spec(7)
    backbones = {"backbone": spec.student.backbone, "teacher": spec.teacher.backbone}
    run = record(method, 7, 0.5, protocol=protocol, dataset="tiny", preset=spec.preset, **backbones)
    command = run_data(parse(make_page([run], [], [])), run["key"])["command"]
    plan, seed = plan_of_command(command, tmp_path)
    assert plan.spec(seed).key == spec.key
