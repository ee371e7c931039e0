"""What a sweep is asked for: blocks of protocols, methods, data sets and seeds, from options or a YAML file."""

from __future__ import annotations

import dataclasses
import difflib
import reprlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmark.errors import InputError
from benchmark.experiment.request import Request
from benchmark.methods import METHODS
from benchmark.settings import parse_seeds
from benchmark.system.files import write_atomically

ALL = "all"


@dataclass(frozen=True)
class Resources:
    """What a SLURM job is given for one run; what is None is the cluster's default.

    time: minutes; memory: GiB.
    """

    partition: str | None = None
    account: str | None = None
    time: int | None = None
    gpus: int | None = None
    cpus: int | None = None
    memory: int | None = None

    def over(self, other: Resources) -> Resources:
        """These, and what is None here as in ``other``."""
        mine = {k: v for k, v in dataclasses.asdict(self).items() if v is not None}
        return dataclasses.replace(other, **mine)


@dataclass(frozen=True)
class GridBlock:
    """Every protocol with every method on every data set, for every seed, under equal settings.

    methods: ``all`` stands for every one that applies; set: settings as ``section.name=value``.
    """

    protocols: tuple[str, ...]
    methods: tuple[str, ...] = (ALL,)
    datasets: tuple[str, ...] = ("glyphs",)
    seeds: tuple[int, ...] = (0,)
    preset: str = "quick"
    set: tuple[str, ...] = ()
    limit_steps: int | None = None
    slurm: Resources = Resources()

    def requests(self) -> Iterator[Request]:
        """What is asked for, without the seeds."""
        methods = dict.fromkeys(
            name for asked in self.methods for name in (METHODS.names() if asked == ALL else [asked])
        )
        for protocol in self.protocols:
            for dataset in self.datasets:
                for method in methods:
                    yield Request(protocol, method, dataset, self.preset, self.set, self.limit_steps)


def read_grid(path: Path) -> list[GridBlock]:
    """The blocks of a YAML file: one, or a list of them. What is no grid raises ``InputError`` with the place."""
    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        raise InputError(f"cannot read grid {path} ({error.strerror or error})") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark is not None else ""
        raise InputError(f"grid {path}{place} is no YAML ({getattr(error, 'problem', None) or error})") from None
    blocks = content if isinstance(content, list) else [content]
    if not blocks:
        raise InputError(
            f"grid {path} holds no block; it takes a list of blocks with protocols, methods, datasets, seeds"
        )
    return [_block(f"grid {path}, block {number}", block) for number, block in enumerate(blocks, 1)]


def write_grid(path: Path, blocks: Iterable[GridBlock]) -> None:
    """Write blocks as a file that ``read_grid`` reads."""
    content = [_plain(block) for block in blocks]
    write_atomically(path, yaml.safe_dump(content, sort_keys=False).encode())


def _plain(settings: GridBlock | Resources) -> dict[str, Any]:
    """A dataclass as YAML has it, without what is not given."""
    content: dict[str, Any] = {}
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if isinstance(value, Resources):
            value = _plain(value)
        if value not in (None, (), {}):
            content[field.name] = list(value) if isinstance(value, tuple) else value
    return content


def _block(where: str, given: Any) -> GridBlock:
    values = _fields(where, given, GridBlock)
    if "protocols" not in values:
        raise InputError(f"{where} names no protocols")
    read: dict[str, Any] = {}
    for name in ("protocols", "methods", "datasets", "set"):
        if name in values:
            read[name] = _texts(f"{where}: {name}", values[name], empty=name == "set")
    if "seeds" in values:
        read["seeds"] = tuple(_seeds(f"{where}: seeds", values["seeds"]))
    if "preset" in values:
        read["preset"] = _typed(f"{where}: preset", values["preset"], str)
    if "limit_steps" in values:
        read["limit_steps"] = _typed(f"{where}: limit_steps", values["limit_steps"], int)
    if "slurm" in values:
        named = _fields(f"{where}: slurm", values["slurm"], Resources)
        kinds = {name: str if name in ("partition", "account") else int for name in named}
        read["slurm"] = Resources(**{k: _typed(f"{where}: slurm: {k}", v, kinds[k]) for k, v in named.items()})
    return GridBlock(**read)


def _fields(where: str, given: Any, cls: type) -> Mapping[str, Any]:
    """The values of a mapping whose keys must be fields of a dataclass."""
    known = [field.name for field in dataclasses.fields(cls)]
    if not isinstance(given, dict):
        raise InputError(f"{where} is no mapping; it takes {', '.join(known)}")
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
            raise InputError(f"{where}: no key {name!r}; {hint}")
    return given


def _texts(where: str, given: Any, *, empty: bool) -> tuple[str, ...]:
    values = given if isinstance(given, list) else [given]
    if not all(isinstance(value, str) for value in values) or not (values or empty):
        raise InputError(f"{where} = {reprlib.repr(given)}: it takes a name or a list of names")
    return tuple(dict.fromkeys(values))


def _seeds(where: str, given: Any) -> list[int]:
    text = ",".join(map(str, given)) if isinstance(given, list) else str(given)
    try:
        return parse_seeds(text)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def _typed(where: str, given: Any, kind: type) -> Any:
    if not isinstance(given, kind) or isinstance(given, bool):
        raise InputError(f"{where} = {reprlib.repr(given)}: it takes {'a name' if kind is str else 'a whole number'}")
    return given
