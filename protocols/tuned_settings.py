"""Settings chosen by ``tune``: one file per protocol in ``protocols/tuned``, with a table for each method.

They complete the ``quick`` preset. The head of a file names the data of the search. The log of the search is a table
beside it, with a row for each trial.
"""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmark.errors import InputError

Chosen = Mapping[str, Mapping[str, Any]]
"""Values of settings by section and name."""


def folder() -> Path:
    """Return the folder of the files."""
    return Path(__file__).parent / "tuned"


def tuned_protocols() -> list[str]:
    """Return the names of the protocols for which methods are tuned."""
    return sorted(path.stem for path in folder().glob("*.toml"))


def tuned_settings(protocol: str, method: str) -> Chosen | None:
    """Return the settings of a method on a protocol, or None if it is not tuned."""
    return _kept(protocol).get(method)


@functools.cache
def _kept(protocol: str) -> Mapping[str, Chosen]:
    return read(folder() / f"{protocol}.toml")


def read(path: Path) -> Mapping[str, Chosen]:
    """Return the settings of a file by method; none if there is no file.

    Raises:
        InputError: If the file is damaged.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"cannot read tuned settings {path}: {error}") from None
    for method, sections in content.items():
        if not isinstance(sections, dict) or not all(isinstance(part, dict) for part in sections.values()):
            raise InputError(f"tuned settings {path}: [{method}] is not a table of settings")
    return content


def text(chosen: Mapping[str, Chosen], heading: str) -> str:
    """Write settings as text that ``read`` reads, under the comment ``heading``."""
    lines = [f"# {line}".rstrip() for line in heading.splitlines()]
    for method in sorted(chosen):
        lines += ["", f'["{method}"]']
        for section, values in chosen[method].items():
            lines += [f"{section}.{name} = {value!r}" for name, value in values.items()]
    return "\n".join(lines) + "\n"
