"""Finds the typefaces of the unpacked packages: one upright regular file per family and script, drawn as tiles."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from fontTools.ttLib import TTFont  # type: ignore[import-untyped]
from PIL import Image, ImageDraw, ImageFont

from asset_writer import SIDE, Pixels
from glyph_classes import SCRIPTS, Script
from glyph_exclusions import EXCLUDED_FAMILIES, EXCLUDED_WORDS
from source_packages import SourcePackage, relative_name

SUFFIXES = (".ttf", ".otf", ".woff2", ".woff")
# Words of a family name that name the cut, not the design.
CUT_WORDS = re.compile(
    r"\b(regular|light|medium|bold|thin|black|heavy|book|roman|normal|demi|semi|extra|ultra|condensed|narrow|extended"
    r"|cond|unicode|web|std|pro|otf|ttf|v\d+|\d+pt)\b"
)
SLANTED = re.compile(r"italic|oblique|slanted|backslant|kursiv|leftie|reverse", re.IGNORECASE)

DRAW_SIZE = 96
# Longest side in pixels of a glyph as long as the font's median glyph of the script.
MEDIAN_SIDE = 25.0
# A glyph's relative size counts only in part, so that small letters stay a little smaller.
SIZE_EXPONENT = 0.35
SIDE_LIMITS = (15.0, 28.0)
LEAST_COVERAGE = 0.5

logging.getLogger("fontTools").setLevel(logging.CRITICAL)


@dataclass(frozen=True)
class FontFile:
    """One font file.

    Attributes:
        path: the file.
        place: its path inside the package.
        package: the package.
        family: name of the family.
        cut: name of the cut, such as ``Bold``.
        weight: weight class; 400 is regular.
        width: width class; 5 is normal.
        italic: True for italic or slanted fonts.
        characters: code points that the font draws.
    """

    path: Path
    place: str
    package: SourcePackage
    family: str
    cut: str
    weight: int
    width: int
    italic: bool
    characters: frozenset[int]

    @property
    def preference(self) -> tuple[object, ...]:
        """Sort key: normal width, weight nearest to regular, plain cut, Debian first, then by name."""
        plain = not re.search(r"regular|book|roman|normal", self.cut, re.IGNORECASE)
        suffix = SUFFIXES.index(self.path.suffix.lower())
        width, weight = abs(self.width - 5), abs(self.weight - 400)
        return (width, weight, plain, self.package.kind, suffix, self.package.name, self.place)


@dataclass(frozen=True)
class Typeface:
    """The font file of a family for one script."""

    script: Script
    family: str
    file: FontFile


def family_key(family: str) -> str:
    """Return the family name without cut words, case, spaces and punctuation."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])|[-_]", " ", family).lower()
    return re.sub(r"[^a-z0-9]+", "", CUT_WORDS.sub(" ", words)) or re.sub(r"\W+", "", family.lower())


def is_excluded(family: str) -> bool:
    """Return whether the family has no plain letters (symbols, barcodes, ...) or is in the list of exclusions."""
    return family in EXCLUDED_FAMILIES or bool(EXCLUDED_WORDS.search(family))


def read_font(path: Path, folder: Path, package: SourcePackage) -> FontFile | None:
    """Read names, style and coverage. Return None for colour fonts and unusable files."""
    try:
        font = TTFont(path, lazy=True)
        if any(table in font for table in ("COLR", "CBDT", "SVG ", "sbix")):
            return None
        names, style = font["name"], font["OS/2"]
        family = names.getDebugName(16) or names.getDebugName(1)
        cut = names.getDebugName(17) or names.getDebugName(2) or ""
        cmap = font.getBestCmap() or {}
        italic = bool(style.fsSelection & 1) or bool(font["head"].macStyle & 2)
        weight, width = style.usWeightClass, style.usWidthClass
    except Exception:  # a broken font can fail anywhere in the parser
        return None
    if not family:
        return None
    italic = italic or bool(SLANTED.search(f"{family} {cut} {path.stem}"))
    drawn = frozenset(code for code, glyph in cmap.items() if glyph != ".notdef")
    return FontFile(path, relative_name(path, folder), package, family, cut, weight, width, italic, drawn)


def web_files(package: SourcePackage, folder: Path) -> Iterator[FontFile]:
    """Yield the upright files of a web font package: one for each character subset, with weight nearest to regular."""
    about = json.loads((folder / "package" / "metadata.json").read_text(encoding="utf-8"))
    weight = min(about["weights"], key=lambda item: abs(item - 400))
    for path in sorted((folder / "package" / "files").glob(f"*-{weight}-normal.woff2")):
        if font := read_font(path, folder, package):
            yield replace(font, family=about["family"], cut="regular", weight=weight, italic=False)


def debian_files(package: SourcePackage, folder: Path) -> Iterator[FontFile]:
    """Yield the upright font files of a Debian package."""
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in SUFFIXES and path.is_file() and not path.is_symlink():
            font = read_font(path, folder, package)
            if font and not font.italic:
                yield font


def font_files(package: SourcePackage, folder: Path) -> Iterator[FontFile]:
    """Return the package's upright text fonts."""
    read = web_files if package.kind == "npm" else debian_files
    return (font for font in read(package, folder) if not is_excluded(font.family))


def typefaces(files: list[FontFile]) -> list[Typeface]:
    """Return one file for each script and family, in this order."""
    result = []
    for script in SCRIPTS:
        codes = {ord(character) for character in script.characters}
        best: dict[str, FontFile] = {}
        for font in files:
            if len(codes & font.characters) < LEAST_COVERAGE * len(codes):
                continue
            key = family_key(font.family)
            if key not in best or font.preference < best[key].preference:
                best[key] = font
        result += [Typeface(script, best[key].family, best[key]) for key in sorted(best)]
    return result


def crop(font: ImageFont.FreeTypeFont, character: str) -> Pixels | None:
    """Draw the glyph's ink (255 is full ink), cropped to its outline. Return None if it has no ink."""
    left, top, right, bottom = font.getbbox(character)
    width, height = int(right - left) + 8, int(bottom - top) + 8
    if not (8 < width < 20 * DRAW_SIZE and 8 < height < 20 * DRAW_SIZE):
        return None
    canvas = Image.new("L", (width, height), 0)
    ImageDraw.Draw(canvas).text((4 - left, 4 - top), character, font=font, fill=255)
    box = canvas.getbbox()
    return np.asarray(canvas.crop(box), dtype=np.uint8) if box else None


def draw_typeface(face: Typeface) -> dict[str, Pixels]:
    """Draw the script's characters as dark-on-white tiles. Characters with equal glyphs are dropped."""
    try:
        font = ImageFont.truetype(face.file.path, DRAW_SIZE, layout_engine=ImageFont.Layout.BASIC)
        covered = [item for item in face.script.characters if ord(item) in face.file.characters]
        inks = {item: ink for item in covered if (ink := crop(font, item)) is not None}
    except (OSError, ValueError):
        return {}
    seen: dict[bytes, list[str]] = {}
    for character, ink in inks.items():
        seen.setdefault(ink.tobytes(), []).append(character)
    inks = {item: ink for item, ink in inks.items() if len(seen[ink.tobytes()]) == 1}
    if not inks:
        return {}
    median = float(np.median([max(ink.shape) for ink in inks.values()]))
    return {item: fit(ink, median) for item, ink in inks.items()}


def fit(ink: Pixels, median: float) -> Pixels:
    """Scale the cropped glyph and centre it in a white tile."""
    longest = max(ink.shape)
    side = float(np.clip(MEDIAN_SIDE * (longest / median) ** SIZE_EXPONENT, *SIDE_LIMITS))
    height, width = (max(1, round(extent * side / longest)) for extent in ink.shape)
    small = Image.fromarray(ink).resize((width, height), Image.Resampling.LANCZOS)
    tile = np.full((SIDE, SIDE), 255, dtype=np.uint8)
    top, left = (SIDE - height) // 2, (SIDE - width) // 2
    tile[top : top + height, left : left + width] = 255 - np.asarray(small, dtype=np.uint8)
    return tile
