"""Text tables that fit a width: no number is broken, and no name except one that is longer than its column may be."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len, chop_cells

_GAPS = (2, 1)
"""Blanks between columns; the second where the first leaves too little room."""
_NARROWEST = 10
_LONGEST_NUMBER = 16


@dataclass
class _Column:
    """A column of a table."""

    name: str
    cells: list[str]

    @property
    def numeric(self) -> bool:
        """Whether all cells are numbers, as ``12``, ``-0.5``, ``± 2.00`` and ``< .001``; long ones are keys."""
        filled = [cell for cell in self.cells if cell]
        return bool(filled) and all(len(c) <= _LONGEST_NUMBER and (c[0].isdigit() or c[0] in "-+±<") for c in filled)

    @property
    def constant(self) -> bool:
        return bool(self.cells[0]) and len(set(self.cells)) == 1

    @property
    def natural(self) -> int:
        return max(map(cell_len, (self.name, *self.cells)))

    def narrowest(self, width: int) -> int:
        """The least width in which no number and no word breaks, unless one word takes more than half of ``width``."""
        heading = _longest_piece([self.name])
        if self.numeric:
            return max(heading, *map(cell_len, self.cells))
        return max(heading, min(_longest_piece(self.cells), max(_NARROWEST, width // 2)))


def lay_out(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], width: int | None, caption: str | None = None
) -> list[str]:
    """Return the lines of a table.

    Columns without content are left out. Columns of numbers are right-aligned. A table wider than ``width`` becomes
    narrower step by step: names of columns wrap; columns with one value for all rows move to the heading; texts wrap;
    and the columns are shown in several parts, each of which repeats the first ones.

    Args:
        title: The line above; empty for none.
        columns: The names of the columns.
        rows: The cells of each row.
        width: The columns of the terminal; None for a table as wide as it needs to be.
        caption: The line below.
    """
    table = [_Column(name, [row[i] for row in rows]) for i, name in enumerate(columns)]
    table = [column for column in table if any(column.cells)] if rows else table
    above = title.split("\n") if title else []
    lines = []
    if width is None:
        lines += _block(table, [column.natural for column in table], _GAPS[0])
    elif table:
        keys, others, constant = _split(table, len(rows), width)
        if constant:
            above.append(", ".join(f"{column.name} {column.cells[0]}".strip() for column in constant))
        for part in _parts(keys, others, width):
            gap = next((gap for gap in _GAPS if _least(part, width, gap) <= width), _GAPS[-1])
            lines += [""] * bool(lines) + _block(part, _widths(part, width, gap), gap)
    below = [caption] if caption else []
    return [*_wrapped(above, width), *lines, *_wrapped(below, width)]


def wrap(text: str, width: int) -> list[str]:
    """Break a text into lines at blanks, or after a ``+`` that joins settings; a longer word breaks where it must."""
    lines, line = [], ""
    for piece in _pieces(text):
        if line and cell_len(line + piece.rstrip()) > width:
            lines.append(line.rstrip())
            line = ""
        piece = piece.lstrip() if not line and lines else piece
        if cell_len(piece.rstrip()) > width:
            *full, piece = chop_cells(piece, width)
            lines += full
        line += piece
    return [*lines, line.rstrip()]


def _wrapped(texts: Sequence[str], width: int | None) -> list[str]:
    return [line for text in texts for line in (wrap(text, width) if width else [text])]


def _pieces(text: str) -> list[str]:
    return re.findall(r"\s*[^\s+]*\+(?=\S)|\s*[^\s+]+\+?(?: %(?=\s|$))?|\s*\+|\s+$", text)


def _longest_piece(texts: Sequence[str]) -> int:
    return max((cell_len(piece.strip()) for text in texts for piece in _pieces(text)), default=0)


def _split(table: list[_Column], rows: int, width: int) -> tuple[list[_Column], list[_Column], list[_Column]]:
    """Return the columns that every part shows, the others, and those that move to the heading."""
    first_text = next((i for i, column in enumerate(table) if not column.numeric), 0)
    last_key = next((i for i in range(first_text + 1, len(table)) if table[i].numeric), first_text + 1)
    keys, others = table[:last_key], table[last_key:]
    constant = []
    if rows > 1 and _least(table, width) > width:
        constant = [column for column in table[first_text + 1 :] if column.constant]
        keys, others = ([column for column in part if column not in constant] for part in (keys, others))
    return keys, others, constant


def _parts(keys: list[_Column], others: list[_Column], width: int) -> list[list[_Column]]:
    parts = [list(keys)]
    for column in others:
        if len(parts[-1]) > len(keys) and _least([*parts[-1], column], width) > width:
            parts.append(list(keys))
        parts[-1].append(column)
    return parts


def _least(columns: Sequence[_Column], width: int, gap: int = _GAPS[-1]) -> int:
    return sum(column.narrowest(width) for column in columns) + gap * (len(columns) - 1)


def _widths(columns: Sequence[_Column], width: int, gap: int) -> list[int]:
    """Return the widths of columns that fit: the widest that is not at its least shrinks first."""
    least = [column.narrowest(width) for column in columns]
    widths = [column.natural for column in columns]
    while sum(widths) + gap * (len(widths) - 1) > width:
        wider = [i for i in range(len(widths)) if widths[i] > least[i]]
        if not wider:
            texts = [i for i, column in enumerate(columns) if not column.numeric and widths[i] > _NARROWEST]
            if not texts:
                break
            wider = texts
        widths[max(wider, key=lambda i: widths[i])] -= 1
    return widths


def _block(columns: Sequence[_Column], widths: Sequence[int], gap: int) -> list[str]:
    rows = [[column.name for column in columns], *zip(*(column.cells for column in columns), strict=True)]
    right = [column.numeric for column in columns]
    lines = []
    for cells in rows:
        wrapped = [wrap(cell, width) for cell, width in zip(cells, widths, strict=True)]
        for i in range(max(map(len, wrapped), default=0)):
            parts = [cell[i] if i < len(cell) else "" for cell in wrapped]
            padded = [
                " " * (width - cell_len(part)) + part if numeric else part + " " * (width - cell_len(part))
                for part, width, numeric in zip(parts, widths, right, strict=True)
            ]
            lines.append((" " * gap).join(padded).rstrip())
    return lines
