from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmark.errors import InputError
from benchmark.sweep.grid import GridBlock
from benchmark.sweep.jobs import JobList, plan_jobs
from benchmark.system.progress import Silent


def plan(*blocks: GridBlock) -> JobList:
    return plan_jobs(blocks, Path("nowhere"), Silent())


def block(protocols: str, methods: str, seeds: int = 1, **more: Any) -> GridBlock:
    return GridBlock(tuple(protocols.split()), tuple(methods.split()), ("tiny",), tuple(range(seeds)), **more)


def test_plan_jobs_skips_what_does_not_apply_with_its_reason() -> None:
    planned = plan(block("distill-cross fewshot-20way1shot", "kd ce", 2))
    assert {(c.request.protocol, c.request.method, c.seed) for c in planned.jobs} == {
        ("distill-cross", "ce", 0),
        ("distill-cross", "ce", 1),
    }
    reasons = {(x.request.protocol, x.request.method): x.reason for x in planned.skipped}
    assert "share no class" in reasons["distill-cross", "kd"]
    assert "at most 6-way" in reasons["fewshot-20way1shot", "kd"]
    assert "at most 6-way" in reasons["fewshot-20way1shot", "ce"]
    assert {x.seeds for x in planned.skipped} == {2}


@pytest.mark.parametrize(
    ("requested", "message"),
    [
        (block("distill-crss", "ce"), "did you mean 'distill-cross'"),
        (block("distill-cross", "cee"), "did you mean 'ce'"),
        (block("distill-cross", "ce", set=("method.margin=1",)), "no setting method.margin"),
        (block("distill-cross", "ce", preset="fast"), "no preset 'fast'"),
        (block("distill-cross", "kd"), "nothing of it applies: method kd does not apply"),
    ],
)
def test_plan_jobs_raises_for_bad_input(requested: GridBlock, message: str) -> None:
    with pytest.raises(InputError, match=message):
        plan(requested)


def test_plan_jobs_plans_a_run_of_two_blocks_once() -> None:
    once = plan(block("distill-same", "kd ce", 2))
    twice = plan(block("distill-same", "kd ce", 2), block("distill-same", "ce", 3))
    assert len(once.jobs) == 4
    assert len(twice.jobs) == len({job.key for job in twice.jobs}) == 5


def test_plan_jobs_puts_one_job_of_every_teacher_first() -> None:
    planned = plan(block("distill-same fewshot-5way1shot fewshot-5way5shot", "ce kd", 2, set=("teacher.seed=run",)))
    teachers = [job.teacher for job in planned.jobs]
    count = len(set(teachers))
    assert count == 4, "one teacher per seed; protocols on the same base classes share it"
    assert len(set(teachers[:count])) == count
    assert [t for t in teachers[:count] for _ in range(teachers.count(t) - 1)] == teachers[count:]
