"""The command line: parse, call, print. Heavy imports stand inside the commands."""

from __future__ import annotations

import json
import os
import signal
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from benchmark import interrupts
from benchmark.cli_data import Data, data_app, show_help, tell
from benchmark.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from benchmark.registry import Registry
    from benchmark.runner import Plan

app = typer.Typer(
    name="benchmark",
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Benchmark suite for generalized knowledge distillation.",
)
app.add_typer(data_app, name="data")

# typer carries its own copy of click or uses the installed one, by version: this is the base of usage errors in both
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]

_INTERRUPTED = 130

DEFAULT_RESULTS = Path("results/runs")


class Kind(StrEnum):
    """What ``list`` lists."""

    protocols = "protocols"
    methods = "methods"
    datasets = "datasets"
    backbones = "backbones"


class Shown(StrEnum):
    """What ``show`` shows."""

    method = "method"


class RunMode(StrEnum):
    """Which runs ``run`` carries out."""

    missing = "missing"
    retry_failed = "retry-failed"
    force = "force"
    only_cache = "only-cache"


Results = Annotated[Path, typer.Option("--results", metavar="DIR", help="Folder of records.")]

app.callback()(show_help)


@app.command()
def run(
    protocol: Annotated[str, typer.Option(help="Protocol, as fewshot-5way1shot; see `list protocols`.")],
    method: Annotated[str, typer.Option(help="Method, as refilled; see `list methods`.")],
    dataset: Annotated[str, typer.Option(help="Data set; see `list datasets`.")] = "glyphs",
    preset: Annotated[str, typer.Option(help="Named settings: quick or paper.")] = "quick",
    seed: Annotated[int | None, typer.Option(min=0, help="One seed [default: 0].")] = None,
    seeds: Annotated[str | None, typer.Option(help="Several seeds: 0,1,2 or 0-4.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="SECTION.NAME=VALUE", help="Change a setting, as method.margin=0.1; repeatable."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
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
) -> None:
    """Run a method on a protocol: train, measure, save a record, print the number with its error bars.

    Example: python -m benchmark run --protocol fewshot-5way1shot --method refilled --seeds 0-4
    """
    if seed is not None and seeds is not None:
        raise InputError("give --seed or --seeds, not both")
    from benchmark import runner
    from benchmark.console import Bar, Heeding, print_records
    from benchmark.data.published import default_root
    from benchmark.progress import Silent
    from benchmark.spec import parse_seeds
    from benchmark.store import Store

    numbers = parse_seeds(seeds) if seeds is not None else [seed or 0]
    root = data or default_root()
    progress = Heeding(Silent() if as_json else Bar(), stopped=interrupts.asked)
    request = runner.Request(protocol, method, dataset, preset, tuple(set_ or ()), limit_steps)
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
        _complain(f"seed {record['seed']} failed: {record['error']}")
    if failures:
        raise typer.Exit(1)


@app.command("list")
def list_(
    kind: Annotated[Kind, typer.Argument(help="What to list.")],
    protocol: Annotated[
        str | None, typer.Option(help="For methods: say which apply to this protocol, and why others do not.")
    ] = None,
) -> None:
    """List protocols, methods, data sets or backbones, a line each."""
    if protocol is not None and kind is not Kind.methods:
        raise InputError("--protocol goes with `list methods`")
    registry = _registry(kind)
    rows = [[name, registry.help(name)] for name in registry.names()]
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


@app.command()
def show(
    kind: Annotated[Shown, typer.Argument(help="What kind of thing.")],
    name: Annotated[str, typer.Argument(help="Its name, as `list` has it.")],
) -> None:
    """Say what a method is: equation and source, settings with types and defaults, needs, stages."""
    from benchmark.console import print_table
    from benchmark.methods import METHODS
    from benchmark.methods.description import describe

    text, settings, needs, stages = describe(METHODS.get(name).entry)
    print(text)  # noqa: T201
    print_table(f"\n{name}: settings", ["method.", "type", "default"], settings)
    print_table("\nneeds and slots", ["what", "value"], needs)
    print_table("\nstages", ["name", "share of steps", "head", "last rate"], stages)


@app.command()
def leaderboard(
    results: Results = DEFAULT_RESULTS,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the CSV here instead of a table on the terminal.")
    ] = None,
) -> None:
    """Rank methods over the records of a folder, as a table or as CSV."""
    from benchmark.report.leaderboard import leaderboard as make
    from benchmark.report.leaderboard import to_csv
    from benchmark.store import Store, write_atomically

    found = [record for _, record in Store(results).records()]
    good = [record for record in found if not isinstance(record, InputError)]
    damaged = [record for record in found if isinstance(record, InputError)]
    if not good and not damaged:
        raise InputError(
            f"there are no records in {results}; make some with `run`, or name another folder with --results DIR"
        )
    frame = make(good)
    if output is not None:
        try:
            write_atomically(output, to_csv(frame).encode())
        except OSError as error:
            raise InputError(f"cannot write {output}: {error.strerror or error}") from None
    else:
        _print_leaderboard(frame)
    for problem in damaged:
        _complain(str(problem))
    if damaged:
        raise typer.Exit(1)


def main() -> NoReturn:
    """Run the command line: exit 0 done, 1 failed, 2 bad usage or input, 130 interrupted."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupts.heed)
    # threads that spin for long while they wait stall one another as soon as another process wants a core
    os.environ.setdefault("GOMP_SPINCOUNT", "30000")
    try:
        status = app(standalone_mode=False, prog_name="python -m benchmark") or 0
    except InputError as error:
        _complain(str(error))
        status = 2
    except _UsageError as error:
        _complain(f"{error.format_message()} (--help says what is possible)")  # type: ignore[attr-defined]
        status = 2
    except (KeyboardInterrupt, typer.Abort):
        status = _INTERRUPTED
    if status == _INTERRUPTED:
        _complain("interrupted; records already saved are kept, and the same command goes on from there")
    sys.exit(status)


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
    from benchmark.backbones import BACKBONES

    return BACKBONES


def _print_leaderboard(frame: pd.DataFrame) -> None:
    import pandas as pd

    from benchmark.console import print_table

    def number(value: Any) -> str:
        return "" if pd.isna(value) else f"{100 * value:.2f}"

    pool = ["protocol", "dataset", "preset", "teacher", "backbone"]
    for _, rows in frame.groupby(pool, sort=False):
        protocol, dataset, preset, teacher, backbone = rows[pool].iloc[0]
        title = f"{protocol}  {dataset}  {preset}  {backbone} from {teacher}"
        columns = ["rank", "method", f"{rows['metric'].max()} %", "± seeds", "± episodes", "seeds", "status"]
        ordered = rows.sort_values(["rank", "method"]).astype(object)
        cells = [
            ["" if pd.isna(row["rank"]) else str(row["rank"]), row["method"], number(row["mean"]), number(row["ci95"]),
             number(row["episode_ci95"]), str(row["n_seeds"]), row["status"]]
            for row in ordered.to_dict("records")
        ]  # fmt: skip
        print_table(title, columns, cells)


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


def _complain(message: str) -> None:
    tell("error: " + " ".join(message.split()))
