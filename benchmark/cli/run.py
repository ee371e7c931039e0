"""The command ``run``."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated, Any

import typer

from benchmark.cli import completion
from benchmark.cli.options import DEFAULT_FOLDERS, CheckpointEvery, Data, Device, Offline, Results, complain, one_folder
from benchmark.cli.recipes import print_published
from benchmark.errors import InputError
from benchmark.recipes.recipe import load_recipe


class RunMode(StrEnum):
    """Which runs ``run`` measures."""

    missing = "missing"
    retry_failed = "retry-failed"
    force = "force"
    only_cache = "only-cache"


def run(
    protocol: Annotated[
        str | None,
        typer.Option(
            autocompletion=completion.protocols,
            help="Protocol, as fewshot-5way1shot; see `list protocols`. Required without --recipe.",
        ),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            autocompletion=completion.methods,
            help="Method, as refilled; see `list methods`. Required without --recipe.",
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            autocompletion=completion.recipes,
            help="Published experiment, as gkd-cifar100; see `list recipes`. --protocol, --method, --teacher and "
            "--student choose within it [default: its first].",
        ),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            autocompletion=completion.datasets,
            help="Data set; see `list datasets` [default: glyphs, or the recipe's].",
        ),
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(
            autocompletion=completion.teachers,
            help="Backbone of the teacher, or a pretrained teacher; see `list backbones`, `list teachers`.",
        ),
    ] = None,
    student: Annotated[
        str | None,
        typer.Option(autocompletion=completion.backbones, help="Backbone of the student; see `list backbones`."),
    ] = None,
    allow_overlap: Annotated[
        bool,
        typer.Option(
            "--allow-overlap", help="Take a pretrained teacher that may know what is judged; tables mark the row."
        ),
    ] = False,
    preset: Annotated[
        str | None,
        typer.Option(
            autocompletion=completion.presets,
            help="Named settings: quick or paper, or a FILE.toml of `tune`, or its folder [default: quick].",
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="One seed [default: 0].")] = None,
    seeds: Annotated[str | None, typer.Option(help="Several seeds: 0,1,2 or 0-4.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="SECTION.NAME=VALUE", help="Change a setting, as method.margin=0.1; repeatable."),
    ] = None,
    device: Device = "auto",
    results: Results = DEFAULT_FOLDERS,
    data: Data = None,
    mode: Annotated[
        RunMode, typer.Option(help="Which runs to measure: a finished run is repeated only if forced.")
    ] = RunMode.missing,
    as_json: Annotated[bool, typer.Option("--json", help="Print the records alone, as a JSON list.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print resolved settings, steps and estimated time; train nothing.")
    ] = False,
    limit_steps: Annotated[
        int | None, typer.Option(metavar="N", help="Train teacher and student for N steps only (smoke run).")
    ] = None,
    compile_: Annotated[
        bool, typer.Option("--compile", help="Compile the networks (torch.compile): faster on GPUs, slow to start.")
    ] = False,
    checkpoint_every: CheckpointEvery = 60.0,
    offline: Offline = False,
) -> None:
    """Train and measure a method on a protocol.

    This saves a record and prints the accuracy with its error bars.

    \b
    Examples:
      python -m benchmark run --protocol fewshot-5way1shot --method refilled --seeds 0-4
      python -m benchmark run --protocol distill-cross --method kd --set method.temperature=2 --dry-run
      python -m benchmark run --recipe refilled-cvpr20-cifar100 --student wrn-16-2
    """
    protocol, method, preset = _resolve_names(recipe, protocol, method, preset)
    if seed is not None and seeds is not None:
        raise InputError("give --seed or --seeds, not both")
    from benchmark.api import prepare_run
    from benchmark.display.progress_bar import Bar
    from benchmark.display.tables import print_records
    from benchmark.settings import parse_seeds
    from benchmark.system.progress import Silent

    prepared = prepare_run(
        protocol, method, dataset=dataset, seeds=parse_seeds(seeds if seeds is not None else str(seed or 0)),
        preset=preset, teacher=teacher, student=student, allow_overlap=allow_overlap, overrides=set_ or (),
        limit_steps=limit_steps, device=device, compiled=compile_, results=one_folder(results), data=data,
        mode=mode.value, checkpoint_every=checkpoint_every, progress=Silent() if as_json else Bar(),
    )  # fmt: skip
    if dry_run:
        _print_estimate(prepared.estimate(), as_json)
        return
    records = prepared.run()
    if as_json:
        print(json.dumps(records, indent=1, allow_nan=False))  # noqa: T201
    else:
        print_records(records)
        print_published(records)
    failures = [record for record in records if record["status"] != "done"]
    for record in failures:
        complain(f"seed {record['seed']} failed: {record['error']}")
    if failures:
        raise typer.Exit(1)


def _resolve_names(
    recipe: str | None, protocol: str | None, method: str | None, preset: str | None
) -> tuple[str, str, str]:
    """Return protocol, method and preset of a run; a recipe supplies the first two unless they are given."""
    if recipe is not None:
        if preset is not None:
            raise InputError("give --preset or --recipe, not both: a recipe is a preset")
        chosen = load_recipe(recipe)
        return protocol or chosen.protocols[0], method or chosen.methods[0], recipe
    if protocol is None or method is None:
        missing, kind = ("--protocol", "protocols") if protocol is None else ("--method", "methods")
        raise InputError(f"missing option {missing}: see `list {kind}`, or name a --recipe, which has its own")
    return protocol, method, preset or "quick"


def _print_estimate(estimate: dict[str, Any], as_json: bool) -> None:
    from benchmark.display.tables import print_table

    if as_json:
        print(json.dumps(estimate, indent=1, allow_nan=False))  # noqa: T201
        return
    settings = [
        [f"{section}.{name}", str(value)]
        for section, values in estimate["settings"].items()
        for name, value in values.items()
    ]
    print_table("settings", ["name", "value"], settings)
    work = estimate["work"]
    rows = [
        [_in_words(name), f"{value:,}" if type(value) in (int, float) else str(value)] for name, value in work.items()
    ]
    rows.append(["estimated training time", _duration(work["estimated_training_seconds"])])
    print_table("work", ["what", "value"], rows)


def _in_words(name: str) -> str:
    return " ".join({"gflops": "GFLOPs", "tflops": "TFLOPs", "mb": "MiB"}.get(word, word) for word in name.split("_"))


def _duration(seconds: float) -> str:
    """Return a time in the largest unit of which there are at least two, and the next smaller unit."""
    for unit, length, next_, part in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if seconds >= 2 * length:
            return f"{int(seconds // length)} {unit} {round(seconds % length / part)} {next_}"
    return f"{seconds:.1f} s"
