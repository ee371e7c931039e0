"""Commands that run, list, show and verify."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from benchmark import interrupts
from benchmark.cli.options import DEFAULT_RESULTS, Data, Device, Offline, Results, complain, data_root
from benchmark.errors import InputError

if TYPE_CHECKING:
    from benchmark.registry import Registry
    from benchmark.runner import Plan


class Kind(StrEnum):
    """What ``list`` lists."""

    protocols = "protocols"
    methods = "methods"
    datasets = "datasets"
    backbones = "backbones"
    teachers = "teachers"


class RunMode(StrEnum):
    """Which runs ``run`` carries out."""

    missing = "missing"
    retry_failed = "retry-failed"
    force = "force"
    only_cache = "only-cache"


def run(
    protocol: Annotated[str, typer.Option(help="Protocol, as fewshot-5way1shot; see `list protocols`.")],
    method: Annotated[str, typer.Option(help="Method, as refilled; see `list methods`.")],
    dataset: Annotated[str, typer.Option(help="Data set; see `list datasets`.")] = "glyphs",
    teacher: Annotated[
        str | None,
        typer.Option(help="Backbone of the teacher, or a pretrained teacher; see `list backbones`, `list teachers`."),
    ] = None,
    student: Annotated[str | None, typer.Option(help="Backbone of the student; see `list backbones`.")] = None,
    preset: Annotated[str, typer.Option(help="Named settings: quick or paper.")] = "quick",
    seed: Annotated[int | None, typer.Option(min=0, help="One seed [default: 0].")] = None,
    seeds: Annotated[str | None, typer.Option(help="Several seeds: 0,1,2 or 0-4.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="SECTION.NAME=VALUE", help="Change a setting, as method.margin=0.1; repeatable."),
    ] = None,
    device: Device = "auto",
    results: Results = DEFAULT_RESULTS,
    data: Data = None,
    mode: Annotated[
        RunMode, typer.Option(help="Which runs to carry out: a finished run is not repeated unless forced.")
    ] = RunMode.missing,
    as_json: Annotated[bool, typer.Option("--json", help="Print the records alone, as a JSON list.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print resolved settings, steps and estimated time; train nothing.")
    ] = False,
    limit_steps: Annotated[
        int | None, typer.Option(metavar="N", help="Train teacher and student for N steps only (smoke run).")
    ] = None,
    offline: Offline = False,
) -> None:
    """Run a method on a protocol: train, measure, save a record, print the number with its error bars.

    Example: python -m benchmark run --protocol fewshot-5way1shot --method refilled --seeds 0-4
    """
    if seed is not None and seeds is not None:
        raise InputError("give --seed or --seeds, not both")
    from benchmark import runner
    from benchmark.console import Bar, Heeding, print_records
    from benchmark.progress import Silent
    from benchmark.spec import parse_seeds
    from benchmark.store import Store

    numbers = parse_seeds(seeds) if seeds is not None else [seed or 0]
    root = data_root(data)
    progress = Heeding(Silent() if as_json else Bar(), stopped=interrupts.asked)
    named = {"teacher": teacher, "student": student}
    overrides = [f"{section}.backbone={name}" for section, name in named.items() if name is not None]
    request = runner.Request(protocol, method, dataset, preset, (*overrides, *(set_ or ())), limit_steps)
    plan = runner.Plan(request, root, progress)
    from benchmark.training import select_device

    chosen = select_device(device, plan.spec(numbers[0]).training.precision)
    if dry_run:
        _print_dry_run(plan, numbers, Store(results), root, chosen, as_json)
        return
    records = runner.run(
        plan, numbers, store=Store(results), data_root=root, device=chosen, progress=progress, mode=mode.value
    )
    if as_json:
        print(json.dumps(records, indent=1, allow_nan=False))  # noqa: T201
    else:
        print_records(records)
    failures = [r for r in records if r["status"] != "done"]
    for record in failures:
        complain(f"seed {record['seed']} failed: {record['error']}")
    if failures:
        raise typer.Exit(1)


def list_(
    kind: Annotated[Kind, typer.Argument(help="What to list.")],
    protocol: Annotated[
        str | None, typer.Option(help="For methods: say which apply to this protocol, and why others do not.")
    ] = None,
) -> None:
    """List protocols, methods, data sets, backbones or pretrained teachers, a line each."""
    if protocol is not None and kind is not Kind.methods:
        raise InputError("--protocol goes with `list methods`")
    registry = _registry(kind)
    rows = [[name, registry.help(name)] for name in registry.listing()]
    columns = ["name", "what it is"]
    if protocol is not None:
        from benchmark.runner import situation

        for row in rows:
            entry = registry.get(row[0]).entry
            reason = entry.applies(situation(protocol, entry))
            row.insert(1, "applies" if reason is None else f"does not apply: {reason}")
        columns.insert(1, protocol)
    from benchmark.console import print_table

    print_table(kind.value, columns, rows)


def show(
    what: Annotated[str, typer.Argument(metavar="RUN | method", help="A run's file or key, or the word method.")],
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="After `method`: its name.")] = None,
    results: Results = DEFAULT_RESULTS,
    as_json: Annotated[bool, typer.Option("--json", help="Print the record as it is.")] = False,
) -> None:
    """Say what a run measured, with settings and environment; or what a method is: `show method refilled`.

    RUN is a record's file, or its key or the beginning of it, as the file's name ends.
    """
    if what == "method":
        if name is None:
            raise InputError("show method takes a name, as `show method refilled`; see `list methods`")
        _show_method(name)
        return
    if name is not None:
        raise InputError(f"show takes a run, or `method` and a name; got {what} {name}")
    from benchmark.console import print_run
    from benchmark.store import Store

    record = Store(results).resolve(what)
    if as_json:
        print(json.dumps(record, indent=1, allow_nan=False))  # noqa: T201
    else:
        print_run(record)


def verify(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's file, or its key or the beginning of it.")],
    results: Results = DEFAULT_RESULTS,
    data: Data = None,
    device: Device = "auto",
    teacher: Annotated[
        str | None, typer.Option(help="Pretrained teacher, where it is a file: a record has its hash, not its place.")
    ] = None,
    fresh_teacher: Annotated[
        bool, typer.Option("--fresh-teacher", help="Train the teacher anew instead of taking the one kept.")
    ] = False,
    offline: Offline = False,
) -> None:
    """Carry a run out again and say whether it gives the same, bit for bit, or what differs.

    Nothing is saved. Exit 0 where everything is equal, 1 where something differs.
    """
    from benchmark.console import Bar, Heeding
    from benchmark.store import Store
    from benchmark.verification import repeat

    store = Store(results)
    record = store.resolve(run)
    progress = Heeding(Bar(), stopped=interrupts.asked)
    found = repeat(
        record, store.arrays(record), data_root(data), device, progress, teacher=teacher, fresh_teacher=fresh_teacher
    )
    for line in found.lines:
        print(line)  # noqa: T201
    if not found.equal:
        raise typer.Exit(1)


def _show_method(name: str) -> None:
    from benchmark.console import print_table
    from benchmark.methods import METHODS
    from benchmark.methods.description import describe

    text, settings, needs, stages = describe(METHODS.get(name).entry)
    print(text)  # noqa: T201
    print_table(f"\n{name}: settings", ["method.", "type", "default"], settings)
    print_table("\nneeds and slots", ["what", "value"], needs)
    print_table("\nstages", ["name", "share of steps", "head", "last rate"], stages)


def _registry(kind: Kind) -> Registry[Any]:
    if kind is Kind.protocols:
        from protocols import PROTOCOLS

        return PROTOCOLS
    if kind is Kind.methods:
        from benchmark.methods import METHODS

        return METHODS
    if kind is Kind.datasets:
        from benchmark.data import DATASETS

        return DATASETS
    from benchmark.backbones import BACKBONES, PRETRAINED

    return BACKBONES if kind is Kind.backbones else PRETRAINED


def _print_dry_run(plan: Plan, seeds: list[int], store: Any, root: Path, device: Any, as_json: bool) -> None:
    from benchmark.console import print_table
    from benchmark.runner import estimate

    facts = estimate(plan, seeds, store=store, data_root=root, device=device)
    if as_json:
        print(json.dumps(facts, indent=1, allow_nan=False))  # noqa: T201
        return
    settings = [
        [f"{section}.{name}", str(value)] for section, part in facts["settings"].items() for name, value in part.items()
    ]
    print_table("settings", ["name", "value"], settings)
    print_table(
        "work", ["what", "value"], [[name.replace("_", " "), str(value)] for name, value in facts["work"].items()]
    )
