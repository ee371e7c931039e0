"""The grid of a sweep: blocks of protocols, methods, data sets and seeds, from options or a YAML file."""

from __future__ import annotations

import dataclasses
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
from benchmark.system.files import write_atomically

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
    return tuple(parse_seeds(",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)))


Names = Annotated[tuple[str, ...], BeforeValidator(_names)]
_STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True)
class Resources:
    """The resources of one SLURM job. None leaves a value to the cluster."""

    __pydantic_config__ = _STRICT

    partition: str | None = None
    account: str | None = None
    time: StrictInt | None = None
    """Minutes."""
    gpus: StrictInt | None = None
    cpus: StrictInt | None = None
    memory: StrictInt | None = None
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
    limit_steps: StrictInt | None = None
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


def read_grid(path: Path) -> list[GridBlock]:
    """Read the blocks of a YAML file, which holds one block or a list of them.

    Raises:
        InputError: the file cannot be read or is no grid. The message names file, block and key.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        raise InputError(f"cannot read grid {path} ({os_reason(error)})") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark is not None else ""
        raise InputError(f"grid {path}{place} is no YAML ({getattr(error, 'problem', None) or error})") from None
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
