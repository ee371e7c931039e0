from __future__ import annotations

import dataclasses
import unicodedata
from pathlib import Path

import numpy as np
from PIL import Image

from benchmark.data import ImageSet
from benchmark.data.contact_sheet import draw_contact_sheet, drawable


def rows(tiny: ImageSet, path: Path, *names: str) -> list[bytes]:
    """The text of the first rows of the sheet, when the first classes have these names."""
    white = dataclasses.replace(
        tiny, images=np.full_like(tiny.images, 255), classes=(*names, *tiny.classes[len(names) :])
    )
    draw_contact_sheet(white, path, columns=1)
    sheet = np.asarray(Image.open(path).convert("L"))
    height = len(sheet) // len(tiny.classes)
    return [sheet[row * height : (row + 1) * height].tobytes() for row in range(len(names))]


def test_names_of_many_scripts_are_told_apart(tiny: ImageSet, tmp_path: Path) -> None:
    names = ["çandó", "ñandú", "λόγοι", "φύσις", "живот", "щюэфы", "中文", "日本", "a\u202eb", "a\u202db"]
    drawn = rows(tiny, tmp_path / "sheet.png", *names)
    assert len(set(drawn)) == len(names)


def test_both_unicode_forms_of_a_name_look_the_same(tiny: ImageSet, tmp_path: Path) -> None:
    one, two = rows(tiny, tmp_path / "sheet.png", "ñandú", unicodedata.normalize("NFD", "ñandú"))
    assert one == two


def test_letters_that_the_font_lacks_are_code_points() -> None:
    letters = set(map(ord, "abc \n\u202e"))
    assert drawable("ab 中\n\u202e", letters) == "ab [U+4E2D][U+000A][U+202E]"


def test_long_names_do_not_reach_the_images(tiny: ImageSet, tmp_path: Path) -> None:
    one, two = rows(tiny, tmp_path / "sheet.png", "x" * 60 + "a", "x" * 60 + "b")
    assert one != two
