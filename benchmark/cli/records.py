"""Commands on the records of results folders: list, merge, remove."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmark.cli import completion
from benchmark.cli.options import DEFAULT_FOLDERS, Results, ResultsFolders, complain, enter, one_folder, tell
from benchmark.errors import InputError

if TYPE_CHECKING:
    from benchmark.records.schema import Record

app = typer.Typer(
    invoke_without_command=True,
    rich_markup_mode=None,
    help="List, merge and remove records.",
    epilog="""\b
    Examples:
      python -m benchmark results list --method refilled
      python -m benchmark results merge machine-a machine-b --results all
      python -m benchmark results remove --method refilled --protocol distill-cross --dry-run
    """,
)

Protocol = Annotated[
    str | None,
    typer.Option(autocompletion=completion.protocols, help="Only protocols with this name or prefix."),
]
Dataset = Annotated[str | None, typer.Option(autocompletion=completion.datasets, help="Only this data set.")]
Method = Annotated[str | None, typer.Option(autocompletion=completion.methods, help="Only this method.")]
Preset = Annotated[str | None, typer.Option(help="Only runs with these settings, as `results list` shows them.")]
Seeds = Annotated[str | None, typer.Option(help="Only these seeds: 3 or 0,1,2 or 0-4.")]
Status = Annotated[str | None, typer.Option(help="Only `done` or only `failed` runs.")]


@enter(app, "list")
def list_(
    results: ResultsFolders = DEFAULT_FOLDERS,
    protocol: Protocol = None,
    dataset: Dataset = None,
    method: Method = None,
    preset: Preset = None,
    seeds: Seeds = None,
    status: Status = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the rows as JSON.")] = False,
) -> None:
    """List runs with their keys.

    \b
    Example:
      python -m benchmark results list --results results/reference --method refilled --protocol distill-cross
    """
    from benchmark.display.format import percent
    from benchmark.display.tables import print_table
    from benchmark.records.folders import read_folders

    wanted = _Wanted(None, None, method, preset, seeds, status)
    records, damaged = read_folders(results, protocol, dataset)
    rows = [record for record in records if wanted(record)]
    names = ("key", "protocol", "dataset", "method", "seed", "preset", "status", "value")
    if as_json:
        print(json.dumps([{name: record.get(name) for name in names} for record in rows], indent=1))  # noqa: T201
    else:
        cells = [
            [
                record["key"][:12], *(str(record[name]) for name in names[1:-1]),
                percent(record["value"]) if record["status"] == "done" else "",
            ]
            for record in rows
        ]  # fmt: skip
        print_table("", [*names[:-1], "%"], cells)
        tell(f"{len(rows)} of {len(records)} runs")
    for problem in damaged:
        complain(str(problem))
    if damaged:
        raise typer.Exit(1)


@enter(app, "merge")
def merge(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Folders whose records are copied.")],
    results: Results = DEFAULT_FOLDERS,
) -> None:
    """Copy the records of folders into one.

    Records go into the folder of --results. A finished record there is never replaced: one with another result is
    named, and the exit status is 1. Packs are unpacked.

    \b
    Example:
      python -m benchmark results merge machine-a machine-b --results all
    """
    from benchmark.records import folders as of_folders

    target = one_folder(results)
    done = of_folders.merge(folders, target)
    print(f"{done.copied} records copied to {target}, {done.present} were there already")  # noqa: T201
    for problem in done.problems:
        complain(problem)
    if done.problems:
        raise typer.Exit(1)


@enter(app, "remove")
def remove(
    keys: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY...]", help="Keys of runs, or 4 or more of their first digits.")
    ] = None,
    results: Results = DEFAULT_FOLDERS,
    protocol: Protocol = None,
    dataset: Dataset = None,
    method: Method = None,
    preset: Preset = None,
    seeds: Seeds = None,
    status: Status = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Name the runs; remove nothing.")] = False,
) -> None:
    """Remove runs: their records and arrays.

    All options must hold for a run. Teachers stay.

    \b
    Examples:
      python -m benchmark results remove --method refilled --dry-run
      python -m benchmark results remove f7dc95105cbe
    """
    from benchmark.records import folders as of_folders
    from benchmark.records.store import Store

    if not keys and all(option is None for option in (protocol, dataset, method, preset, seeds, status)):
        raise InputError("say what to remove: KEY, --method, --protocol, --dataset, --preset, --seeds or --status")
    folder = one_folder(results)
    wanted = _Wanted(protocol, dataset, method, preset, seeds, status)
    named = {Store(folder).resolve(key)["key"] for key in keys or ()}
    removed, kept = of_folders.remove(
        folder, lambda record: wanted(record) and (not named or record["key"] in named), dry_run=dry_run
    )
    for record in removed:
        print(f"{_name(record)} {record['key'][:12]}")  # noqa: T201
    print(f"{len(removed)} runs {'would be removed' if dry_run else 'removed'} from {folder}")  # noqa: T201
    for line in kept:
        complain(line)
    if kept or not removed:
        raise typer.Exit(1)


class _Wanted:
    """Says whether a record fits the options of a command."""

    def __init__(
        self, protocol: str | None, dataset: str | None, method: str | None, preset: str | None, seeds: str | None,
        status: str | None,
    ) -> None:  # fmt: skip
        from benchmark.settings import parse_seeds

        if status not in (None, "done", "failed"):
            raise InputError(f"--status {status}: a run is done or failed")
        self._protocol = protocol
        self._seeds = None if seeds is None else set(parse_seeds(seeds))
        self._equal = {"dataset": dataset, "method": method, "preset": preset, "status": status}

    def __call__(self, record: Record) -> bool:
        prefix = self._protocol
        return (
            (prefix is None or record["protocol"] == prefix or str(record["protocol"]).startswith(f"{prefix}-"))
            and (self._seeds is None or record["seed"] in self._seeds)
            and all(value is None or record[name] == value for name, value in self._equal.items())
        )


def _name(record: Record) -> str:
    return f"{record['protocol']} {record['dataset']} {record['method']} s{record['seed']} {record['preset']}"
