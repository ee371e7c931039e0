"""Commands that turn records into tables, comparisons, figures and a page."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmark.cli import completion
from benchmark.cli.options import DEFAULT_FOLDERS, ResultsFolders, complain, tell
from benchmark.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from benchmark.records.schema import Record
    from benchmark.report.tables import Table


class Format(StrEnum):
    """File formats of a leaderboard."""

    csv = "csv"
    markdown = "md"
    latex = "tex"
    json = "json"


Protocol = Annotated[
    str | None,
    typer.Option(
        "--protocol",
        autocompletion=completion.protocols,
        help="Only protocols with this name or prefix, such as `distill`.",
    ),
]
Dataset = Annotated[
    str | None, typer.Option("--dataset", autocompletion=completion.datasets, help="Only this data set.")
]
Metric = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Judge by another measure of the runs instead of accuracy, such as `old`, `new` or `harmonic`; `show RUN` "
        "lists them.",
    ),
]


def leaderboard(
    results: ResultsFolders = DEFAULT_FOLDERS,
    output: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write this .csv, .md, .tex or .json instead of printing a table."),
    ] = None,
    columns: Annotated[
        int | None,
        typer.Option(
            min=1, max=2, metavar="N", help="LaTeX: columns of a two-column paper that a table may take [default: 1]."
        ),
    ] = None,
    protocol: Protocol = None,
    dataset: Dataset = None,
    metric: Metric = None,
    reported: Annotated[
        bool, typer.Option("--reported", help="CSV and JSON: add numbers of publications, unranked.")
    ] = False,
) -> None:
    """Rank methods over the records of a folder.

    The CSV has a row per protocol, data set, preset, teacher, backbone and method; Markdown and LaTeX have methods by
    protocols. Methods are ranked over the seeds that all of them have finished; the output names missing seeds.

    \b
    Examples:
      python -m benchmark leaderboard
      python -m benchmark leaderboard --results results/reference --output results/leaderboard.csv
    """
    from benchmark.display.tables import print_leaderboard
    from benchmark.records.folders import read_folders
    from benchmark.report.aggregation import group_by_method
    from benchmark.report.leaderboard import leaderboard as make
    from benchmark.report.leaderboard import with_reported
    from benchmark.report.references import judged_by

    if output is not None and output.suffix[1:] not in [*Format]:
        raise InputError(f"{output}: a leaderboard is written as {', '.join('.' + f for f in Format)}")
    if reported and (output is None or output.suffix not in (".csv", ".json")):
        raise InputError("--reported needs --output FILE.csv or FILE.json")
    if columns is not None and (output is None or output.suffix != ".tex"):
        raise InputError("--columns needs --output FILE.tex")
    records, damaged = read_folders(results, protocol, dataset)
    records = judged_by(records, metric)
    if output is None:
        print_leaderboard(group_by_method(records))
        _print_missing(records)
    else:
        frame = make(records)
        _write(
            output,
            _formatted(Format(output.suffix[1:]), with_reported(frame) if reported else frame, records, columns or 1),
        )
    _exit(damaged)


def compare(
    methods: Annotated[
        list[str],
        typer.Argument(
            metavar="A B [C ...]",
            autocompletion=completion.methods,
            help="Methods, as `leaderboard` names them; METHOD@TEACHER for the runs with one teacher.",
        ),
    ],
    results: ResultsFolders = DEFAULT_FOLDERS,
    protocol: Protocol = None,
    dataset: Dataset = None,
    preset: Annotated[
        str | None,
        typer.Option(
            autocompletion=completion.presets,
            help="Only runs with these settings, method settings apart, such as `quick` or `quick+training.steps=600`.",
        ),
    ] = None,
    teacher: Annotated[
        str | None, typer.Option(autocompletion=completion.teachers, help="Only runs with this teacher.")
    ] = None,
    metric: Metric = None,
    details: Annotated[
        bool,
        typer.Option("--details", help="Print also effect size, both tests and the intervals within the networks."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print only the comparisons, as JSON.")] = False,
) -> None:
    """Test whether methods differ.

    This prints differences on common seeds, their intervals, paired tests and a sentence.

    The unit is the training seed: more episodes of the same two networks are no further evidence on two methods.

    \b
    Examples:
      python -m benchmark compare refilled ce --protocol distill
      python -m benchmark compare refilled@conv4-32 refilled@conv4-64
      python -m benchmark compare refilled ce rkd --results results/reference --preset quick --json
    """
    from benchmark.records.folders import FolderStore, read_folders
    from benchmark.report.aggregation import group_by_method
    from benchmark.report.compare import compare as make
    from benchmark.report.compare import to_rows
    from benchmark.report.references import judged_by

    records, damaged = read_folders(results, protocol, dataset)
    method_results = group_by_method(judged_by(records, metric))
    for name, what, wanted in (("preset", "the settings", preset), ("teacher", "the teacher", teacher)):
        if wanted is not None:
            there = sorted({getattr(result.conditions, name) for result in method_results})
            if wanted not in there:
                raise InputError(f"no record here has {what} {wanted!r}; there are {', '.join(there)}")
            method_results = [r for r in method_results if getattr(r.conditions, name) == wanted]
    comparisons, left_out = make(method_results, methods, FolderStore(results[0]))
    for line in left_out:
        tell(f"not compared: {line}")
    if as_json:
        print(json.dumps(to_rows(comparisons), indent=1, allow_nan=False))  # noqa: T201
    else:
        from benchmark.display.tables import print_comparisons

        print_comparisons(comparisons, method_results, details=details)
    damages = dict.fromkeys(c.damage for c in comparisons if c.damage is not None)
    _exit([*damaged, *(InputError(f"{line}; left out within runs") for line in damages)])


def plot(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[all | NAME ...]", help="Figures; see `plot --list`.")
    ] = None,
    results: ResultsFolders = DEFAULT_FOLDERS,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for PDF, PNG and CSV.")] = Path("results/figures"),
    protocol: Protocol = None,
    dataset: Dataset = None,
    list_: Annotated[bool, typer.Option("--list", help="List all figures.")] = False,
) -> None:
    """Draw figures for papers.

    Each is a PDF and a PNG at print size, with the drawn data as CSV.

    \b
    Examples:
      python -m benchmark plot --list
      python -m benchmark plot overlap --results results/reference --out results/figures
    """
    from benchmark.report.figures import FIGURES, ResultSet, draw

    if list_:
        from benchmark.display.tables import print_table

        print_table("figures", ["name", "what it shows"], [[n, FIGURES.help(n)] for n in FIGURES.names()])
        return
    from benchmark.records.folders import FolderStore, read_folders
    from benchmark.records.store import DamagedArrays
    from benchmark.report.aggregation import group_by_method

    draw_all = not names or names == ["all"]
    requested = FIGURES.names() if draw_all else [FIGURES.get(name).name for name in names or ()]
    records, damaged = read_folders(results, protocol, dataset)
    written, skipped = draw(requested, ResultSet(group_by_method(records), FolderStore(results[0])), out)
    for path in written:
        tell(f"wrote {path}")
    for name, reason in skipped.items():
        if not draw_all:
            raise InputError(f"figure {name}: {reason}")
        if isinstance(reason, DamagedArrays):
            damaged.append(InputError(f"no figure {name}: {reason}"))
        else:
            tell(f"no figure {name}: {reason}")
    if not written:
        raise InputError(f"none of the figures can be drawn from the records in {', '.join(map(str, results))}")
    _exit(damaged)


def report(
    results: ResultsFolders = DEFAULT_FOLDERS,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The page to write.")] = Path("results/report.html"),
) -> None:
    """Write one HTML page of all results.

    It holds leaderboard, figures and every run, and needs no network.

    \b
    Example:
      python -m benchmark report --results results/reference --out results/report.html
    """
    from benchmark.records.folders import FolderStore, read_folders
    from benchmark.records.store import DamagedArrays
    from benchmark.report.aggregation import group_by_method
    from benchmark.report.figures import FIGURES, ResultSet, drawings, to_svg
    from benchmark.report.page import Illustration, make_page

    records, damaged = read_folders(results, None, None)
    result_set = ResultSet(group_by_method(records), FolderStore(results[0]))
    illustrations = []
    for name in FIGURES.names():
        drawn, reason = drawings(name, result_set)
        illustrations += [Illustration(each.name, FIGURES.help(name), to_svg(each.figure)) for each in drawn]
        if isinstance(reason, DamagedArrays):
            damaged.append(InputError(f"no figure {name}: {reason}"))
    _write(out, make_page(records, illustrations, [str(problem) for problem in damaged]))
    tell(f"wrote {out}")
    _exit(damaged)


def _exit(damaged: list[InputError]) -> None:
    for problem in damaged:
        complain(str(problem))
    if damaged:
        raise typer.Exit(1)


def _write(path: Path, text: str) -> None:
    from benchmark.system.files import write_atomically

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text.encode())
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from None


def _formatted(form: Format, frame: pd.DataFrame, records: list[Record], columns: int) -> str:
    from benchmark.report.csv import to_csv
    from benchmark.report.tables import make_tables, to_json, to_latex, to_markdown

    if form is Format.csv:
        return to_csv(frame)
    tables: list[Table] = make_tables(records)
    if form is Format.json:
        return to_json(frame, tables)
    return to_markdown(tables) if form is Format.markdown else to_latex(tables, columns)


def _print_missing(records: list[Record]) -> None:
    from benchmark.report.aggregation import Heading, format_seeds, group_by_conditions, group_by_method

    groups = group_by_conditions(group_by_method(records))
    heading = Heading.of([group.conditions for group in groups])
    for group in groups:
        place = heading.line(group.conditions)
        for result in group.results:
            if missing := group.missing(result):
                tell(f"{place} {result.label} lacks seed{'s' * (len(missing) > 1)} {format_seeds(missing)}")
        if group.note:
            tell(f"{place}: {group.note}")
