"""The grid of a sweep: blocks of protocols, methods, data sets and seeds, from options or a YAML file."""

from __future__ import annotations

import dataclasses
import re
import reprlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BeforeValidator, ConfigDict, StrictInt, TypeAdapter, ValidationError

from benchmark.errors import InputError, did_you_mean, os_reason
from benchmark.experiment.request import Request
from benchmark.methods import METHODS
from benchmark.settings import parse_seeds
from benchmark.system.files import read_file, write_atomically

ALL = "all"
"""Stands for every method that applies."""


def _texts(value: Any) -> tuple[str, ...]:
    texts = value if isinstance(value, list | tuple) else [value]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("it takes a name or a list of names")
    return tuple(dict.fromkeys(texts))


def _names(value: Any) -> tuple[str, ...]:
    if not (names := _texts(value)):
        raise ValueError("it takes a name or a list of names")
    return names


def _seeds(value: Any) -> tuple[int, ...]:
    if not all(isinstance(part, str | int) for part in (value if isinstance(value, list | tuple) else [value])):
        raise ValueError("it takes seeds such as 3 or 0-4, or a list of them")
    return tuple(parse_seeds(",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)))


def _whole(value: Any) -> Any:
    """The number that the digits of a file stand for; what YAML 1.2 writes for nothing is None."""
    if isinstance(value, str) and re.fullmatch("0|[1-9][0-9]{0,17}", value):
        return int(value)
    return None if isinstance(value, str) and value in ("", "~", "null") else value


Whole = Annotated[StrictInt | None, BeforeValidator(_whole)]
Names = Annotated[tuple[str, ...], BeforeValidator(_names)]
_STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True)
class Resources:
    """The resources of one SLURM job. None leaves a value to the cluster."""

    __pydantic_config__ = _STRICT

    partition: str | None = None
    account: str | None = None
    time: Whole = None
    """Minutes."""
    gpus: Whole = None
    cpus: Whole = None
    memory: Whole = None
    """GiB."""

    def with_defaults(self, defaults: Resources) -> Resources:
        """Return these resources with every None replaced by the value in ``defaults``."""
        named = {name: value for name, value in dataclasses.asdict(self).items() if value is not None}
        return dataclasses.replace(defaults, **named)


@dataclass(frozen=True)
class GridBlock:
    """Every protocol with every method on every data set, for every seed, with the same settings."""

    __pydantic_config__ = _STRICT

    protocols: Names
    methods: Names = (ALL,)
    """``all`` stands for every method that applies."""
    datasets: Names = ("glyphs",)
    seeds: Annotated[tuple[int, ...], BeforeValidator(_seeds)] = (0,)
    preset: str = "quick"
    set: Annotated[tuple[str, ...], BeforeValidator(_texts)] = ()
    """Settings as ``section.name=value``."""
    limit_steps: Whole = None
    slurm: Resources = Resources()

    def requests(self) -> Iterator[Request]:
        """Yield every combination of protocol, data set and method. Requests have no seed."""
        methods = dict.fromkeys(
            method for name in self.methods for method in (METHODS.names() if name == ALL else [name])
        )
        for protocol in self.protocols:
            for dataset in self.datasets:
                for method in methods:
                    yield Request(protocol, method, dataset, self.preset, self.set, self.limit_steps)


_BLOCK = TypeAdapter(GridBlock)
_MAX_BYTES = 1 << 20


class _RepeatedKey(Exception):
    """A key that stands twice in one mapping."""


class _Texts(yaml.SafeLoader):
    """Reads mappings, lists and texts: a scalar is the text that was written, as on the command line.

    YAML 1.1 would make 90 of ``1:30``, 8 of ``010`` and False of ``no``.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                line = key.start_mark.line + 1
                if key.value in lines:
                    first = lines[key.value]
                    raise _RepeatedKey(f"line {line}: key {key.value!r} stands twice, first in line {first}; keep one")
                lines[key.value] = line
        return super().construct_mapping(node, deep)


_Texts.yaml_implicit_resolvers = {}


def read_grid(path: Path) -> list[GridBlock]:
    """Read the blocks of a YAML file, which holds one block or a list of them. Values are read as they are written.

    Raises:
        InputError: the file cannot be read or is no grid. The message names file, block and key.
    """
    try:
        content = yaml.load(read_file(path, _MAX_BYTES), _Texts)
    except _RepeatedKey as error:
        raise InputError(f"grid {path}, {error}") from None
    except OSError as error:
        raise InputError(f"cannot read grid {path} ({os_reason(error)})") from None
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark is not None else ""
        reason = " ".join(str(getattr(error, "problem", None) or error).split())
        raise InputError(f"grid {path}{place} is no YAML ({reason})") from None
    blocks = content if isinstance(content, list) else [content]
    if not blocks:
        raise InputError(
            f"grid {path} holds no block; it takes a list of blocks with protocols, methods, datasets, seeds"
        )
    return [_read_block(block, f"grid {path}, block {number}") for number, block in enumerate(blocks, 1)]


def write_grid(path: Path, blocks: Iterable[GridBlock]) -> None:
    """Write blocks as a file that ``read_grid`` reads."""
    contents = [_BLOCK.dump_python(block, mode="json", exclude_none=True) for block in blocks]
    filled = [{name: value for name, value in content.items() if value not in ([], {})} for content in contents]
    write_atomically(path, yaml.safe_dump(filled, sort_keys=False).encode())


def _read_block(content: Any, place: str) -> GridBlock:
    try:
        return _BLOCK.validate_python(content)
    except ValidationError as error:
        raise InputError(_describe(error, place)) from None


def _describe(error: ValidationError, place: str) -> str:
    """Describe the first problem of a block in one line; an unknown key comes before a missing one.

    Args:
        error: what pydantic says of the block.
        place: file and block.
    """
    problems = error.errors()
    problem = next((each for each in problems if each["type"] == "unexpected_keyword_argument"), problems[0])
    keys = [key for key in problem["loc"] if isinstance(key, str)]  # without the positions in lists
    refused = problem.get("ctx", {}).get("error")
    match problem["type"]:
        case "unexpected_keyword_argument":
            known = [field.name for field in dataclasses.fields(Resources if keys[0] == "slurm" else GridBlock)]
            return f"{': '.join([place, *keys[:-1]])}: no key {keys[-1]!r}; {did_you_mean(keys[-1], known)}"
        case "missing":
            return f"{place} names no {keys[-1]}"
        case "dataclass_type":
            known = [field.name for field in dataclasses.fields(Resources if keys else GridBlock)]
            return f"{': '.join([place, *keys])} is no mapping; it takes {', '.join(known)}"
        case "value_error" if isinstance(refused, InputError):
            return f"{': '.join([place, *keys])}: {refused}"
    reason = refused or problem["msg"].lower()
    return f"{': '.join([place, *keys])} = {reprlib.repr(problem['input'])}: {reason}"
