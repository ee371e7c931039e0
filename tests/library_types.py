"""Types of the public functions: mypy reads this file, and nothing runs it.

If a type were lost, a wrong call would pass, and mypy would report the ``ignore`` beside it as unused.
"""

from __future__ import annotations

import pandas as pd

from benchmark import DATASETS, METHODS, PROTOCOLS, compare, leaderboard, load_records, run
from benchmark.methods import Method
from protocols import Protocol


def use() -> None:
    records = run("fewshot-5way1shot", "kd", seeds=range(3), settings={"method.temperature": 2.0}, mode="force")
    _value: float = records[0]["value"]
    _board: pd.DataFrame = leaderboard(load_records("results/runs", protocol="distill"))
    _sentence: str = compare(records, "kd", "ce")[0].sentence
    _method: type[Method] = METHODS.get("kd").entry
    _protocol: type[Protocol] = PROTOCOLS.get("distill-same").entry
    _names: list[str] = DATASETS.names()


def misuse() -> None:
    run("fewshot-5way1shot", "kd", mode="never")  # type: ignore[arg-type]
    run(3, "kd")  # type: ignore[arg-type]
    run("fewshot-5way1shot", "kd", sedes=3)  # type: ignore[call-arg]
    load_records(seeds=3)  # type: ignore[call-arg]
    _number: int = leaderboard([])  # type: ignore[assignment]
    METHODS.get(3)  # type: ignore[arg-type]
