from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmark.experiment.planning import make_plan
from benchmark.hashing import content_key
from benchmark.records.store import Store
from benchmark.sweep.jobs import JobList
from benchmark.sweep.status import read_status, select_jobs
from tests.records.making import make_failed, make_record

from .test_jobs import block, plan


def save(store: Store, planned: JobList, number: int, status: str = "done", **more: Any) -> None:
    """Save a record of the job at index ``number`` as a run does."""
    job = planned.jobs[number]
    config = make_plan(job.request, Path("unused")).spec(job.seed).config()
    assert content_key(config) == job.key
    fields = {"preset": job.preset, "config": json.loads(json.dumps(config)), "seconds": 4.0, **more}
    record = make_record(**fields) if status == "done" else make_failed(**fields)
    store.root.mkdir(exist_ok=True)
    store.save(record, {})


def test_read_status_combines_records_and_locks(tmp_path: Path) -> None:
    planned = plan(block("distill-same", "ce kd", 3))
    store = Store(tmp_path / "runs")
    assert set(read_status(planned.jobs, store).states.values()) == {"missing"}
    save(store, planned, 0)
    save(store, planned, 1, "failed", error="ValueError: no")
    save(store, planned, 2)
    next(store.root.glob(f"*{planned.jobs[2].key[:12]}.json")).write_text("{}")
    with store.locks.acquire(planned.jobs[3].key), store.locks.acquire(planned.jobs[0].key):
        status = read_status(planned.jobs, store)
    states = [status.states[job.key] for job in planned.jobs]
    assert states == ["done", "failed", "failed", "running", "missing", "missing"]
    assert status.errors[planned.jobs[1].key] == "ValueError: no"
    assert "is damaged" in status.errors[planned.jobs[2].key]

    def selected(mode: Any) -> list[int]:
        return [planned.jobs.index(job) for job in select_jobs(planned.jobs, status, mode)]

    assert selected("missing") == [1, 2, 3, 4, 5]
    assert selected("retry-failed") == [1, 2]
    assert selected("force") == [0, 1, 2, 3, 4, 5]
    assert selected("only-cache") == []


def test_record_of_another_run_under_a_name_is_not_done(tmp_path: Path) -> None:
    planned = plan(block("distill-same", "ce", 2))
    store = Store(tmp_path / "runs")
    save(store, planned, 0)
    save(store, planned, 1)
    one, other = (next(store.root.glob(f"*{job.key[:12]}.json")) for job in planned.jobs)
    other.write_bytes(one.read_bytes())
    status = read_status(planned.jobs, store)
    assert [status.states[job.key] for job in planned.jobs] == ["done", "failed"]
    assert "its key is not that of its name" in status.errors[planned.jobs[1].key]
    assert select_jobs(planned.jobs, status, "missing") == [planned.jobs[1]]


def test_read_status_expects_the_median_seconds_of_similar_records(tmp_path: Path) -> None:
    planned = plan(block("distill-same distill-cross", "ce rkd", 4))
    index = {(c.request.protocol, c.request.method, c.seed): i for i, c in enumerate(planned.jobs)}
    store = Store(tmp_path / "runs")
    for seed, seconds in ((0, 90.0), (1, 10.0), (2, 12.0)):  # the first trained the teacher
        save(store, planned, index["distill-same", "ce", seed], seconds=seconds)
    other = plan(block("distill-cross", "ce", limit_steps=5))
    save(store, other, 0, seconds=0.1)
    status = read_status(planned.jobs, store)
    times = {(c.request.protocol, c.request.method, c.seed): status.seconds.get(c.key) for c in planned.jobs}
    assert times["distill-same", "ce", 3] == 12.0
    assert times["distill-same", "rkd", 0] == 12.0, "by another method if there is no record of this one"
    assert times["distill-cross", "ce", 0] is None, "a record with other settings is not similar"
    assert times["distill-same", "ce", 0] is None, "a finished job takes no time"
    own = plan(block("distill-same", "rkd", 4, set=("teacher.seed=run",)))
    status = read_status(own.jobs, store)
    assert {status.seconds.get(c.key) for c in own.jobs if c.seed} == {12.0}
