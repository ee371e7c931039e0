"""Commands that run, list, show and verify."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from benchmark.cli import completion
from benchmark.cli.options import DEFAULT_RESULTS, CheckpointEvery, Data, Device, Offline, Results, complain, data_root
from benchmark.cli.recipes import print_published, recipe_rows, show_recipe
from benchmark.errors import InputError
from benchmark.recipes.recipe import load_recipe
from benchmark.system import interrupts

if TYPE_CHECKING:
    from benchmark.experiment.runner import Plan
    from benchmark.registry import Registry


class Kind(StrEnum):
    """What ``list`` lists."""

    protocols = "protocols"
    methods = "methods"
    datasets = "datasets"
    backbones = "backbones"
    teachers = "teachers"
    recipes = "recipes"


class RunMode(StrEnum):
    """Which runs ``run`` carries out."""

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
            help="Published experiment, as refilled-cifar100; see `list recipes`. --protocol, --method, --teacher and "
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
    preset: Annotated[
        str | None,
        typer.Option(autocompletion=completion.presets, help="Named settings: quick or paper [default: quick]."),
    ] = None,
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
    compile_: Annotated[
        bool, typer.Option("--compile", help="Compile the networks (torch.compile): faster on GPUs, slow to start.")
    ] = False,
    checkpoint_every: CheckpointEvery = 60.0,
    offline: Offline = False,
) -> None:
    """Run a method on a protocol: train, measure, save a record, print the number with its error bars.

    \b
    Examples:
      python -m benchmark run --protocol fewshot-5way1shot --method refilled --seeds 0-4
      python -m benchmark run --protocol distill-cross --method kd --set method.temperature=2 --dry-run
      python -m benchmark run --recipe refilled-cifar100 --student wrn-16-2
    """
    protocol, method, dataset, preset = _named(recipe, protocol, method, dataset, preset)
    if seed is not None and seeds is not None:
        raise InputError("give --seed or --seeds, not both")
    from benchmark.display.progress_bar import Bar
    from benchmark.display.tables import print_records
    from benchmark.experiment import runner
    from benchmark.records.store import Store
    from benchmark.settings import parse_seeds
    from benchmark.system.progress import InterruptibleProgress, Silent

    numbers = parse_seeds(seeds if seeds is not None else str(seed or 0))
    root = data_root(data)
    progress = InterruptibleProgress(Silent() if as_json else Bar(), stopped=interrupts.stop_requested)
    named = {"teacher": teacher, "student": student}
    overrides = [f"{section}.backbone={name}" for section, name in named.items() if name is not None]
    request = runner.Request(protocol, method, dataset, preset, (*overrides, *(set_ or ())), limit_steps)
    plan = runner.Plan(request, root, progress)
    from benchmark.training import select_device

    chosen = select_device(device, plan.spec(numbers[0]).training.precision, compiled=compile_)
    if dry_run:
        _print_dry_run(plan, numbers, Store(results), root, chosen, as_json)
        return
    records = runner.run(
        plan, numbers, store=Store(results), data_root=root, device=chosen, progress=progress, mode=mode.value,
        checkpoint_every=checkpoint_every,
    )  # fmt: skip
    if as_json:
        print(json.dumps(records, indent=1, allow_nan=False))  # noqa: T201
    else:
        print_records(records)
        print_published(records)
    failures = [r for r in records if r["status"] != "done"]
    for record in failures:
        complain(f"seed {record['seed']} failed: {record['error']}")
    if failures:
        raise typer.Exit(1)


def list_(
    kind: Annotated[Kind, typer.Argument(help="What to list.")],
    protocol: Annotated[
        str | None,
        typer.Option(
            autocompletion=completion.protocols,
            help="For methods: say which apply to this protocol, and why others do not.",
        ),
    ] = None,
) -> None:
    """List protocols, methods, data sets, backbones, pretrained teachers or recipes, a line each.

    \b
    Examples:
      python -m benchmark list protocols
      python -m benchmark list methods --protocol distill-cross
    """
    if protocol is not None and kind is not Kind.methods:
        raise InputError("--protocol goes with `list methods`")
    from benchmark.display.tables import print_table

    if kind is Kind.recipes:
        print_table("recipes", ["name", "what it is"], recipe_rows())
        return
    registry = _registry(kind)
    rows = [[name, registry.help(name)] for name in registry.display_names()]
    columns = ["name", "what it is"]
    if protocol is not None:
        for row in rows:
            row.insert(1, _standing(row[0], protocol))
        columns.insert(1, protocol)
    print_table(kind.value, columns, rows)


def show(
    what: Annotated[
        str,
        typer.Argument(
            metavar="RUN | method | recipe",
            autocompletion=completion.shown,
            help="A run's file or key, or the word method or recipe.",
        ),
    ],
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]", autocompletion=completion.shown_names, help="After `method` or `recipe`: its name."
        ),
    ] = None,
    results: Results = DEFAULT_RESULTS,
    as_json: Annotated[bool, typer.Option("--json", help="Print the record as it is.")] = False,
) -> None:
    """Say what a run measured, with settings and environment; or what a method or a recipe is: `show method refilled`.

    Beside a recipe's published numbers stand those measured in the results folder. RUN is a record's file, or its key
    or the beginning of it, as the file's name ends.

    \b
    Examples:
      python -m benchmark show method refilled
      python -m benchmark show recipe refilled-cifar100
      python -m benchmark show f7dc95105cbe --results results/reference
    """
    from benchmark.records.store import Store

    store = Store(results)
    if what in ("method", "recipe"):
        if name is None:
            raise InputError(f"show {what} takes a name; see `list {what}s`")
        if what == "method":
            _show_method(name)
        else:
            records, damaged = store.read() if store.root.is_dir() else ([], [])
            show_recipe(name, records)
            for error in damaged:
                complain(str(error))
        return
    if name is not None:
        raise InputError(f"show takes a run, or `method` or `recipe` and a name; got {what} {name}")
    from benchmark.display.tables import print_run

    record = store.resolve(what)
    if as_json:
        print(json.dumps(record, indent=1, allow_nan=False))  # noqa: T201
    else:
        print_run(record)


def verify(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN", autocompletion=completion.runs, help="A run's file, or its key or the beginning of it."
        ),
    ],
    results: Results = DEFAULT_RESULTS,
    data: Data = None,
    device: Device = "auto",
    teacher: Annotated[
        str | None,
        typer.Option(
            autocompletion=completion.teachers,
            help="Pretrained teacher, where it is a file: a record has its hash, not its place.",
        ),
    ] = None,
    fresh_teacher: Annotated[
        bool, typer.Option("--fresh-teacher", help="Train the teacher anew instead of taking the one kept.")
    ] = False,
    offline: Offline = False,
) -> None:
    """Carry a run out again and say whether it gives the same, bit for bit, or what differs.

    Nothing is saved. Exit 0 where everything is equal, 1 where something differs.

    \b
    Examples:
      python -m benchmark verify f7dc95105cbe --results results/reference
      python -m benchmark verify f7dc95105cbe --results results/reference --fresh-teacher
    """
    from benchmark.display.progress_bar import Bar
    from benchmark.experiment.verification import repeat
    from benchmark.records.store import Store
    from benchmark.system.progress import InterruptibleProgress

    store = Store(results)
    record = store.resolve(run)
    progress = InterruptibleProgress(Bar(), stopped=interrupts.stop_requested)
    found = repeat(
        record, store.arrays(record), data_root(data), device, progress, teacher=teacher, fresh_teacher=fresh_teacher
    )
    for line in found.lines:
        print(line)  # noqa: T201
    if not found.equal:
        raise typer.Exit(1)


def _named(
    recipe: str | None, protocol: str | None, method: str | None, dataset: str | None, preset: str | None
) -> tuple[str, str, str, str]:
    """Protocol, method, data set and preset of a run, what is not given by the recipe where there is one."""
    if recipe is not None:
        if preset is not None:
            raise InputError("give --preset or --recipe, not both: a recipe is a preset")
        chosen = load_recipe(recipe)
        return protocol or chosen.protocols[0], method or chosen.methods[0], dataset or chosen.dataset, recipe
    if protocol is None or method is None:
        missing, kind = ("--protocol", "protocols") if protocol is None else ("--method", "methods")
        raise InputError(f"missing option {missing}: see `list {kind}`, or name a --recipe, which has its own")
    return protocol, method, dataset or "glyphs", preset or "quick"


def _show_method(name: str) -> None:
    from benchmark.display.tables import print_table
    from benchmark.methods import METHODS
    from benchmark.methods.description import describe

    text, settings, needs, stages = describe(METHODS.get(name).entry)
    print(text)  # noqa: T201
    print_table(f"\n{name}: settings", ["method.", "type", "default"], settings)
    print_table("\nneeds and slots", ["what", "value"], needs)
    print_table("\nstages", ["name", "share of steps", "head", "last rate"], stages)


def _standing(method: str, protocol: str) -> str:
    """Whether a method applies to a protocol, and if not, why."""
    from benchmark.experiment.runner import transfer_context
    from benchmark.methods import METHODS

    if not METHODS.usable(method):
        return "cannot be used"
    entry = METHODS.get(method).entry
    reason = entry.skip_reason(transfer_context(protocol, entry))
    return "applies" if reason is None else f"does not apply: {reason}"


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
    from benchmark.display.tables import print_table
    from benchmark.experiment.estimation import estimate

    facts = estimate(plan, seeds, store=store, data_root=root, device=device)
    if as_json:
        print(json.dumps(facts, indent=1, allow_nan=False))  # noqa: T201
        return
    settings = [
        [f"{section}.{name}", str(value)] for section, part in facts["settings"].items() for name, value in part.items()
    ]
    print_table("settings", ["name", "value"], settings)
    work = facts["work"]
    rows = [
        [_called(name), f"{value:,}" if type(value) in (int, float) else str(value)] for name, value in work.items()
    ]
    rows.append(["estimated training time", _duration(work["estimated_training_seconds"])])
    print_table("work", ["what", "value"], rows)


def _called(name: str) -> str:
    return " ".join({"gflops": "GFLOPs", "tflops": "TFLOPs", "mb": "MiB"}.get(word, word) for word in name.split("_"))


def _duration(seconds: float) -> str:
    """In the largest unit of which there are two or more, and the next."""
    for unit, length, next_, part in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if seconds >= 2 * length:
            return f"{int(seconds // length)} {unit} {round(seconds % length / part)} {next_}"
    return f"{seconds:.1f} s"
