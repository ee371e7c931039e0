"""Reads the code blocks and commands of README and documentation."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent.parent
PAGES = (
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
)
_FENCE = re.compile(r"^( *)```(\w+)(?: title=\"(.+?)\")?\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)


class Block(NamedTuple):
    language: str
    title: str | None
    text: str


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> list[Block]:
    return [Block(fence[2], fence[3], fence[4]) for fence in _FENCE.finditer(read(page))]


def commands(block: Block) -> Iterator[list[str]]:
    """The words after ``python -m benchmark`` of every such command in a shell block."""
    lines = block.text.replace("\\\n", " ").splitlines()
    if block.language == "text":  # a session: typed lines begin with a dollar
        lines = [line[2:] for line in lines if line.startswith("$ ")]
    elif block.language != "sh":
        lines = []
    for line in lines:
        words = shlex.split(line, comments=True)
        for start in range(len(words)):
            if words[start : start + 3] == ["python", "-m", "benchmark"]:
                rest = words[start + 3 :]
                yield rest[: rest.index("&&")] if "&&" in rest else rest
