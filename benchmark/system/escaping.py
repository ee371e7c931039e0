"""Text of users made harmless, one function for each format: names of folders, classes, methods and files are anything.

Control and direction characters are shown as their escapes in every format.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from typing import TypeVar

T = TypeVar("T")

_JOINERS = "\u200c\u200d"
"""Format characters that words of some scripts and emoji are spelled with."""

_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode categories of characters that move, hide or reverse others, and of halves of characters."""


def visible(text: str) -> str:
    r"""Return text on one line, each character that a terminal would obey replaced by its escape, such as ``\x1b``."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        sign.encode("unicode_escape").decode()
        if unicodedata.category(sign) in _HIDDEN and sign not in _JOINERS
        else sign
        for sign in text
    )


def csv_cell(value: T) -> T | str:
    """Return text as a spreadsheet reads it as text and not as a formula; other values stay as they are."""
    if not isinstance(value, str):
        return value
    text = visible(value)
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


def markdown(text: str) -> str:
    """Return text for a line or a cell of Markdown, in which no character is markup, HTML or a link."""
    text = re.sub(r"([\\`*\[\]<>|&~$])", r"\\\1", visible(text))
    text = re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", text)  # within a word it is no markup
    text = re.sub(r"(?i)(:)(?=//)|(?<=www)(\.)", lambda match: "\\" + match[0], text)
    text = re.sub(r"^(\d*)([#+=.)-])", r"\1\\\2", text)  # headings, lists and lines begin so
    return re.sub("^ +| +$", lambda match: "&#32;" * len(match[0]), text)


_LATEX = str.maketrans({
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "&": r"\&", "%": r"\%", "_": r"\_", "#": r"\#", "$": r"\$",
    "†": r"\textdagger{}", "±": r"$\pm$", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "[": "{[}", "]": "{]}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", "`": r"\textasciigrave{}",
    "'": r"\textquotesingle{}", '"': r"\textquotedbl{}",
})  # fmt: skip


def latex(text: str) -> str:
    """Return text for LaTeX, in which no character is a command, an argument or part of a ligature."""
    return re.sub("-(?=-)", "-{}", visible(text).translate(_LATEX))


_SPELLED = {
    "±": "+-", "†": "*", "…": "...", "→": "->", "≤": "<=", "≥": ">=",
    "\N{MULTIPLICATION SIGN}": "x", "\N{EN DASH}": "-", "—": "-", "\N{MINUS SIGN}": "-",
}  # fmt: skip


def _spell(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lost = error.object[error.start : error.end]
    return "".join(_SPELLED.get(sign, sign.encode("unicode_escape").decode()) for sign in lost), error.end


codecs.register_error("benchmark.spelled", _spell)

SPELLED = "benchmark.spelled"
"""The ``errors`` of a stream that spells the signs which its encoding lacks: ``+-`` for ``±``, else the escape."""
