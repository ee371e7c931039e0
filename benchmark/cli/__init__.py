"""The command line: parse, call, print. Heavy imports stand inside the commands."""

from __future__ import annotations

import os
import signal
import sys
from typing import NoReturn

import typer

from benchmark.cli import check, data, listing, records, results, run, show, sweep, tune, verify
from benchmark.cli.options import complain, enter
from benchmark.display.console import spell_missing_signs
from benchmark.errors import InputError
from benchmark.system import interrupts

app = typer.Typer(
    name="benchmark",
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Benchmark suite for generalized knowledge distillation.",
    epilog="""\b
    Examples:
      python -m benchmark run --protocol fewshot-5way1shot --method refilled
      python -m benchmark list protocols
      python -m benchmark run --help
    """,
)

# depending on its version, typer brings its own click or uses the installed one: this is their base of usage errors
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]

_INTERRUPTED = 130


@app.callback()
@data.app.callback()
@check.app.callback()
@records.app.callback()
def _help(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())  # noqa: T201
        raise typer.Exit(2)


for _command in (
    run.run, sweep.sweep, sweep.status, tune.tune, listing.list_, show.show, verify.verify,
    results.leaderboard, results.compare, results.plot, results.report, check.check,
):  # fmt: skip
    enter(app, _command.__name__.rstrip("_"))(_command)
app.add_typer(data.app, name="data")
app.add_typer(records.app, name="results")
app.add_typer(check.app, name="new")


def _name() -> str:
    """Return the program name for help; completion is installed for the script, whose name is one word."""
    completion = {"--install-completion", "--show-completion"}
    return "benchmark" if completion & set(sys.argv) else "python -m benchmark"


def main() -> NoReturn:
    """Run the command line: exit 0 done, 1 failed, 2 bad usage or input, 130 interrupted."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupts.handle_stop_signal)
    spell_missing_signs(sys.stdout, sys.stderr)
    os.environ["MPLBACKEND"] = "agg"  # figures go to files, whatever a notebook hands on
    # threads that spin while they wait stall each other when another process needs a core
    os.environ.setdefault("GOMP_SPINCOUNT", "30000")
    try:
        status = app(standalone_mode=False, prog_name=_name(), complete_var="_BENCHMARK_COMPLETE") or 0
    except InputError as error:
        complain(str(error))
        status = 2
    except _UsageError as error:
        complain(f"{error.format_message()} (--help says what is possible)")  # type: ignore[attr-defined]
        status = 2
    except (KeyboardInterrupt, typer.Abort):
        status = _INTERRUPTED
    if status == _INTERRUPTED:
        complain("interrupted; saved records are kept, and the same command resumes")
    sys.exit(status)
