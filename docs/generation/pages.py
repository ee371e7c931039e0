"""Pages and tables that are generated from the code while the site is built, as Markdown."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from benchmark.backbones import BACKBONES, PRETRAINED
from benchmark.cli.recipes import recipe_rows
from benchmark.data import DATASETS
from benchmark.experiment.planning import transfer_context
from benchmark.methods import METHODS
from benchmark.methods.description import describe, equation_of, settings_rows
from benchmark.methods.families import FAMILIES
from benchmark.registry import Registry
from benchmark.spec import Student, Teacher, Training
from protocols import PROTOCOLS
from protocols.tuned_settings import tuned_settings

PLAIN = ("loss = ", "logits = ")
"""The beginnings of docstring paragraphs that are equations for the terminal."""


def prose(text: str) -> str:
    """Convert a docstring's paragraph to Markdown: code stays code, other text is escaped, arXiv numbers are links."""
    parts = re.split(r"(``.+?``|`[^`]+`)", " ".join(text.split()))
    for i, part in enumerate(parts):
        if i % 2:
            parts[i] = "`" + part.strip("`") + "`"
        else:
            plain = re.sub(r"([\\*_#\[\]])", r"\\\1", part.replace("&", "&amp;").replace("<", "&lt;"))
            parts[i] = re.sub(r"arXiv (\d{4}\.\d{4,5})", r"[arXiv \1](https://arxiv.org/abs/\1)", plain)
    return "".join(parts)


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; the cells are Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join("| " + " | ".join(_without_bars(cell) for cell in line) + " |\n" for line in lines)


def settings_table(settings: type, section: str) -> str:
    """Return a table of a dataclass's settings: name as in ``--set``, type, default, and the docstring of the field."""
    notes = _notes(settings)
    rows = [
        [f"`{section}.{name}`", code(kind), code(default) or "empty", prose(notes.get(name, ""))]
        for name, kind, default in settings_rows(settings)
    ]
    if not any(row[3] for row in rows):
        return table(["setting", "type", "default"], [row[:3] for row in rows])
    return table(["setting", "type", "default", "what it is"], rows)


def code(text: str) -> str:
    """Format text as code; empty text stays empty."""
    return f"`{text}`" if text else ""


def method_file(name: str) -> str:
    """Return the path of a method's page."""
    return f"methods/{name.replace('/', '-')}.md"


def method_page(name: str) -> str:
    """Return a method's page: description, equation, source, settings, stages, needs and applicability."""
    entry = METHODS.get(name).entry
    text, settings, needs, stages = describe(entry)
    equation = equation_of(entry)
    lead, *paragraphs = text.split("\n\n")
    shown = [f"# {name}", f"*{prose(lead)}*"]
    if equation:
        shown.append(f"```math\n{equation}\n```")
        shown.append("Symbols: [notation](index.md#notation).")
    shown += [prose(part) for part in paragraphs if not (equation and part.startswith(PLAIN))]
    shown.append("## Settings")
    if settings:
        shown += [prose(inspect.getdoc(entry.Settings) or ""), settings_table(entry.Settings, "method")]
    else:
        shown.append("None.")
    if entry.tunable:
        shown.append(
            "Beside the learning rate, `tune` searches " + ", ".join(f"`method.{s}`" for s in entry.tunable) + "."
        )
    if chosen := tuned(name):
        shown += ["Chosen by `tune`, for the preset `quick`:", table(["protocol", "settings"], chosen)]
    shown += ["## Stages", table(["stage", "share of steps", "head", "last rate"], stages)]
    shown += ["## Needs", "Requirements, and defaults in the incremental protocol:"]
    shown.append(table(["what", "value"], [[prose(part) for part in row] for row in needs]))
    shown += ["## Where it applies", "With the networks of the preset `quick`:"]
    reasons = [[f"`{protocol}`", prose(reason or "applies")] for protocol, reason in applicability(name).items()]
    shown.append(table(["protocol", ""], reasons))
    shown.append(f"```sh\npython -m benchmark show method {name}\n```")
    return "\n\n".join(shown)


def tuned(method: str) -> list[list[str]]:
    """Return table rows: protocols with tuned settings of the method, and these settings."""
    rows = []
    for protocol in PROTOCOLS.names():
        chosen = tuned_settings(protocol, method) or {}
        values = [f"`{section}.{name}={value:g}`" for section, part in chosen.items() for name, value in part.items()]
        if values:
            rows.append([code(protocol), ", ".join(values)])
    return rows


def applicability(method: str) -> dict[str, str | None]:
    """Return, for one protocol of each kind, the reason why the method does not apply, or None if it does."""
    entry = METHODS.get(method).entry
    return {protocol: entry.skip_reason(transfer_context(protocol, entry)) for protocol in _one_of_each_kind()}


def families_table() -> str:
    """Return a table of the families: their methods, and what carries over from the teacher."""
    members: dict[str, list[str]] = {family: [] for family in FAMILIES}
    for name in METHODS.names():
        members.setdefault(METHODS.get(name).entry.family, []).append(name)
    rows = [[", ".join(map(code, names)), prose(FAMILIES.get(family, family))] for family, names in members.items()]
    return table(["methods", "what carries over"], rows)


def methods_table() -> str:
    """Return a table of all methods, each with one line."""
    rows = [
        [f"[{name}]({method_file(name).removeprefix('methods/')})", prose(METHODS.help(name))]
        for name in METHODS.names()
    ]
    return table(["method", "what it is"], rows)


def applicability_table() -> str:
    """Return a table of methods by protocols; a dot means that the method applies."""
    protocols = _one_of_each_kind()
    rows = [
        [f"`{name}`", *("" if reason else "●" for reason in applicability(name).values())] for name in METHODS.names()
    ]
    return table(["method", *(f"`{name}`" for name in protocols)], rows)


def protocol_settings(name: str) -> str:
    """Return a table of a protocol's settings, and a table of the values of its presets."""
    entry = PROTOCOLS.get(name).entry
    usual = {"student": Student(), "teacher": Teacher(), "training": Training(), "protocol": entry.Settings()}
    names = list(entry.presets)
    changed = [f"{part}.{key}" for preset in entry.presets.values() for part in preset for key in preset[part]]
    rows = []
    for path in dict.fromkeys(changed):
        section, _, key = path.partition(".")
        values = (entry.presets[preset].get(section, {}).get(key, getattr(usual[section], key)) for preset in names)
        rows.append([code(path), *(code(f"{value}") for value in values)])
    return "\n".join([settings_table(entry.Settings, "protocol"), table(["preset", *map(code, names)], rows)])


def section_settings(section: str) -> str:
    """Return a table of the settings of a section: ``student``, ``teacher`` or ``training``."""
    return settings_table({"student": Student, "teacher": Teacher, "training": Training}[section], section)


def listing(kind: str) -> str:
    """Return a table of the names that ``list KIND`` prints."""
    if kind == "recipes":
        rows = [[code(name), prose(what)] for name, what in recipe_rows()]
    else:
        registry = _REGISTRIES[kind]
        rows = [[code(name), prose(registry.help(name))] for name in registry.display_names()]
    return table(["name", "what it is"], rows)


def commands() -> str:
    """Return every command with its arguments and options, as ``--help`` prints them."""
    from typer import Context
    from typer.main import get_command

    from benchmark.cli import app

    shown: list[str] = []
    for name, command in _commands(get_command(app)):
        shown += [f"## {name}", *_command_help(command.help or ""), *_command_help(command.epilog or "")]
        context = Context(command, info_name=name)
        records = (parameter.get_help_record(context) for parameter in command.params)
        rows = [[code(spelling), prose(what)] for spelling, what in filter(None, records)]
        if rows:
            shown.append(table(["option", "what it is"], rows))
    return "\n\n".join(shown)


GENERATED: Mapping[str, Callable[..., str]] = {
    "families": families_table,
    "methods": methods_table,
    "applicability": applicability_table,
    "protocol-settings": protocol_settings,
    "settings": section_settings,
    "list": listing,
    "commands": commands,
}
"""Generators of the parts ``<!-- generated: NAME ARGUMENT -->`` of pages, by name."""

_REGISTRIES: Mapping[str, Registry[Any]] = {"datasets": DATASETS, "backbones": BACKBONES, "teachers": PRETRAINED}


def filled(markdown: str) -> str:
    """Return a page with its generated parts filled in."""

    def fill(found: re.Match[str]) -> str:
        name, *arguments = found[1].split()
        return GENERATED[name](*arguments)

    return re.sub(r"<!-- generated: (.+?) -->", fill, markdown)


def _without_bars(cell: str) -> str:
    parts = cell.split("`")  # a bar inside code does not separate cells
    return "`".join(part if i % 2 else part.replace("|", "&#124;") for i, part in enumerate(parts))


def _one_of_each_kind() -> list[str]:
    kinds: dict[Any, list[str]] = {}
    for name in PROTOCOLS.names():
        kinds.setdefault(PROTOCOLS.get(name).entry, []).append(name)
    return [examples[min(1, len(examples) - 1)] for examples in kinds.values()]


def _notes(settings: type) -> dict[str, str]:
    """Return the docstrings below the fields of a dataclass and its parents, by field."""
    notes: dict[str, str] = {}
    for cls in reversed(settings.__mro__):
        if not dataclasses.is_dataclass(cls):
            continue
        body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
        assert isinstance(body, ast.ClassDef)
        for field, below in zip(body.body, body.body[1:], strict=False):
            match field, below:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    notes[name] = text
    return notes


def _commands(group: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, f"{path}{name} ")
        elif not command.hidden:
            yield path + name, command


def _command_help(text: str) -> Iterator[str]:
    for part in filter(None, inspect.cleandoc(text.replace("\b", "")).split("\n\n")):
        label, colon, rest = part.strip().partition(":")
        if label in ("Example", "Examples") and colon:
            yield f"```sh\n{textwrap.dedent(rest).strip()}\n```"
        else:
            yield prose(part)
