"""Text files of users, as editors and spreadsheets save them."""

from __future__ import annotations

import codecs
import csv
import json
import re
from pathlib import Path
from typing import Any

from benchmark.errors import InputError, os_reason
from benchmark.system.files import open_plain

_SEPARATORS = ",;\t"
_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


def read_text(path: Path) -> str:
    """Read a text file in UTF-8, or in UTF-16 with a byte order mark. The mark is left out; the locale does not matter.

    Raises:
        InputError: the file cannot be read or is in another encoding.
    """
    try:
        with open_plain(path) as file:
            content = file.read()
        encoding = next((name for mark, name in _MARKS.items() if content.startswith(mark)), "utf-8")
        return content.decode(encoding)
    except OSError as error:
        raise InputError(f"file {path} cannot be read ({os_reason(error)})") from None
    except UnicodeDecodeError as error:
        raise InputError(
            f"file {path} is no UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8"
        ) from None


def read_table(path: Path) -> list[list[str]]:
    """Read a csv file: the rows that are not empty, as cells without surrounding blanks.

    The first row tells the separator: the most frequent of comma, semicolon and tab.

    Raises:
        InputError: the file cannot be read, is no csv file or is empty.
    """
    lines = read_text(path).splitlines()
    first = next((line for line in lines if line.strip()), "")
    separator = max(_SEPARATORS, key=re.sub('"[^"]*"', "", first).count)
    try:
        rows = [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=separator, skipinitialspace=True)]
    except csv.Error as error:
        raise InputError(f"file {path} is no csv file ({error})") from None
    rows = [row for row in rows if any(row)]
    if not rows:
        raise InputError(f"file {path} is empty")
    return rows


def read_json(path: Path) -> Any:
    """Read a JSON file in which no object has a key twice.

    Raises:
        InputError: the file cannot be read or is no JSON.
    """
    try:
        return json.loads(read_text(path), object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"file {path} is no JSON ({error})") from None


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in pairs:
        if name in values:
            raise ValueError(f"key {name!r} stands twice")
        values[name] = value
    return values
