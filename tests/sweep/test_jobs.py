from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmark.errors import InputError
from benchmark.records.store import Store
from benchmark.sweep.execution import to_do
from benchmark.sweep.grid import GridBlock
from benchmark.sweep.jobs import Cells, plan_cells, survey
from benchmark.system.progress import Silent

LIMIT = 5


def plan(*blocks: GridBlock) -> Cells:
    return plan_cells(blocks, Path("nowhere"), Silent())


def block(protocols: str, methods: str, seeds: int = 1, **more: Any) -> GridBlock:
    return GridBlock(tuple(protocols.split()), tuple(methods.split()), ("tiny",), tuple(range(seeds)), **more)


def save(store: Store, planned: Cells, number: int, status: str = "done", **more: Any) -> None:
    """A record as a run leaves one, of the cell that stands at ``number``."""
    cell = planned.cells[number]
    record = {
        "schema": 1, "key": cell.key, "status": status, "provenance": "measured", "preset": cell.preset,
        "protocol": cell.request.protocol, "dataset": cell.dataset, "method": cell.request.method, "seed": cell.seed,
        "backbone": "conv4-16", "teacher": "conv4-64", "metric": "accuracy", "value": 0.5, "intervals": {},
        "references": {}, "seconds": 4.0, **more,
    }  # fmt: skip
    store.root.mkdir(exist_ok=True)
    store.save(record, {})


def test_what_does_not_apply_is_told_with_its_reason() -> None:
    planned = plan(block("distill-cross fewshot-20way1shot", "kd ce", 2))
    assert {(c.request.protocol, c.request.method, c.seed) for c in planned.cells} == {
        ("distill-cross", "ce", 0),
        ("distill-cross", "ce", 1),
    }
    reasons = {(x.request.protocol, x.request.method): x.reason for x in planned.excluded}
    assert "share no class" in reasons["distill-cross", "kd"]
    assert "at most 6-way" in reasons["fewshot-20way1shot", "kd"]
    assert "at most 6-way" in reasons["fewshot-20way1shot", "ce"]
    assert {x.seeds for x in planned.excluded} == {2}


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (block("distill-crss", "ce"), "did you mean 'distill-cross'"),
        (block("distill-cross", "cee"), "did you mean 'ce'"),
        (block("distill-cross", "ce", set=("method.margin=1",)), "no setting method.margin"),
        (block("distill-cross", "ce", preset="fast"), "no preset 'fast'"),
    ],
)
def test_bad_input_is_no_reason_but_an_error(asked: GridBlock, message: str) -> None:
    with pytest.raises(InputError, match=message):
        plan(asked)


def test_a_run_of_two_blocks_is_one_cell() -> None:
    once = plan(block("distill-same", "kd ce", 2))
    twice = plan(block("distill-same", "kd ce", 2), block("distill-same", "ce", 3))
    assert len(once.cells) == 4
    assert len(twice.cells) == len({cell.key for cell in twice.cells}) == 5


def test_every_teacher_has_a_cell_before_any_has_two() -> None:
    planned = plan(block("distill-same fewshot-5way1shot fewshot-5way5shot", "ce kd", 2, set=("teacher.seed=run",)))
    teachers = [cell.teacher for cell in planned.cells]
    count = len(set(teachers))
    assert count == 4, "two protocols on the same base classes share their teachers; a teacher for each seed"
    assert len(set(teachers[:count])) == count
    assert [t for t in teachers[:count] for _ in range(teachers.count(t) - 1)] == teachers[count:]


def test_the_records_say_how_cells_stand(tmp_path: Path) -> None:
    planned = plan(block("distill-same", "ce kd", 3))
    store = Store(tmp_path / "runs")
    assert set(survey(planned.cells, store).states.values()) == {"missing"}
    save(store, planned, 0)
    save(store, planned, 1, "failed", error="ValueError: no")
    save(store, planned, 2)
    next(store.root.glob(f"*{planned.cells[2].key[:12]}.json")).write_text("{}")
    with store.locks.acquire(planned.cells[3].key), store.locks.acquire(planned.cells[0].key):
        found = survey(planned.cells, store)
    states = [found.states[cell.key] for cell in planned.cells]
    assert states == ["done", "failed", "failed", "running", "missing", "missing"]
    assert found.errors[planned.cells[1].key] == "ValueError: no"
    assert "is damaged" in found.errors[planned.cells[2].key]

    def chosen(mode: Any) -> list[int]:
        return [planned.cells.index(cell) for cell in to_do(planned.cells, found, mode)]

    assert chosen("missing") == [1, 2, 3, 4, 5]
    assert chosen("retry-failed") == [1, 2]
    assert chosen("force") == [0, 1, 2, 3, 4, 5]
    assert chosen("only-cache") == []


def test_times_come_from_records_like_them(tmp_path: Path) -> None:
    planned = plan(block("distill-same distill-cross", "ce rkd", 4))
    by = {(c.request.protocol, c.request.method, c.seed): i for i, c in enumerate(planned.cells)}
    store = Store(tmp_path / "runs")
    for seed, seconds in ((0, 90.0), (1, 10.0), (2, 12.0)):  # the first trained the teacher
        save(store, planned, by["distill-same", "ce", seed], seconds=seconds)
    other = plan(block("distill-cross", "ce", limit_steps=LIMIT))
    save(store, other, 0, seconds=0.1)
    found = survey(planned.cells, store)
    times = {(c.request.protocol, c.request.method, c.seed): found.seconds.get(c.key) for c in planned.cells}
    assert times["distill-same", "ce", 3] == 12.0
    assert times["distill-same", "rkd", 0] == 12.0, "of another method where there is none of this one"
    assert times["distill-cross", "ce", 0] is None, "a record with other settings says nothing"
    assert times["distill-same", "ce", 0] is None, "it is done"
    own = plan(block("distill-same", "ce", 4, set=("teacher.seed=run",)))
    found = survey(own.cells, store)
    assert {found.seconds.get(c.key) for c in own.cells if c.seed} == {12.0}
