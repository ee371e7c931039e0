"""Builds the glyph data set: characters of several scripts in many typefaces, 32 x 32 grey, dark on white."""

from __future__ import annotations

import argparse
import logging
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np

from asset_writer import (
    AssetClass,
    AssetImage,
    quantise,
    save_contact_sheet,
    write_asset,
    write_checksums,
    write_sources_section,
)
from glyph_classes import SCRIPTS, Script, class_name
from glyph_exclusions import EXCLUDED_GLYPHS
from glyph_fonts import Typeface, draw_typeface, font_files, typefaces
from glyph_selection import Pool, choose, drop_outliers
from source_packages import TOOLS, SourcePackage, read_pins, unpack

PER_CLASS = 60
LEAST_PER_CLASS = 40
LEVELS = 64

log = logging.getLogger("build_glyphs")


def draw_pool(script: Script, faces: list[Typeface]) -> Pool:
    """Draw all characters of the script in all its typefaces."""
    tiles, labels, owners = [], [], []
    for owner, face in enumerate(faces):
        for character, tile in draw_typeface(face).items():
            if (face.family, character) in EXCLUDED_GLYPHS:
                continue
            tiles.append(quantise(tile, LEVELS))
            labels.append(script.characters.index(character))
            owners.append(owner)
    return Pool(np.stack(tiles), np.array(labels, dtype=np.int64), np.array(owners, dtype=np.int64))


def build_script(script: Script, faces: list[Typeface], first_label: int) -> tuple[list[AssetClass], list[AssetImage]]:
    """Choose the images of one script. Characters with too few good images are dropped."""
    pool = drop_outliers(draw_pool(script, faces))
    chosen = choose(pool, len(script.characters), PER_CLASS)
    counts = np.bincount(pool.labels[chosen], minlength=len(script.characters))
    kept = [label for label, count in enumerate(counts) if count >= LEAST_PER_CLASS]
    log.info(
        "%s: %d typefaces, %d after outliers, %d used; left out: %s",
        script.name,
        len(faces),
        len(np.unique(pool.faces)),
        len(np.unique(pool.faces[chosen])),
        {script.characters[label]: int(count) for label, count in enumerate(counts) if label not in kept},
    )
    classes = [AssetClass(class_name(script, script.characters[label]), script.name, script.split) for label in kept]
    images = []
    for index in chosen:
        label = int(pool.labels[index])
        if label in kept:
            family = faces[int(pool.faces[index])].family
            number = first_label + kept.index(label)
            images.append(AssetImage(pool.tiles[index][:, :, None], number, f"{number} {family}", family))
    return classes, images


def sources_text(used: dict[tuple[str, str], set[str]], pins: list[SourcePackage]) -> str:
    """Return the section of SOURCES.md about this data set: packages, licences and their used families."""
    intro = (TOOLS / "glyph_sources.md").read_text(encoding="utf-8").strip()
    rows = []
    for pin in sorted(pins, key=lambda item: (item.kind, item.name)):
        families = used.get((pin.kind, pin.name))
        if families:
            names = ", ".join(sorted(families))
            rows.append(f"| {pin.kind} | {pin.name} | {pin.version} | {pin.licence} | {names} |")
    head = "| registry | package | version | licence | families |\n| --- | --- | --- | --- | --- |\n"
    return f"{intro}\n\n{head}" + "\n".join(rows)


def build(cache: Path, out: Path, sheets: Path | None) -> None:
    """Build the asset from the pinned packages."""
    pins = read_pins(TOOLS / "glyph_packages.tsv")
    files = [font for pin in pins for font in font_files(pin, unpack(pin, cache))]
    faces = typefaces(files)
    classes: list[AssetClass] = []
    images: list[AssetImage] = []
    used: dict[tuple[str, str], set[str]] = defaultdict(set)
    for script in SCRIPTS:
        script_faces = [face for face in faces if face.script is script]
        new_classes, new_images = build_script(script, script_faces, len(classes))
        taken = {image.source for image in new_images}
        for face in script_faces:
            if face.family in taken:
                used[face.file.package.kind, face.file.package.name].add(face.family)
        classes += new_classes
        images += new_images
    tiles = write_asset(out, "glyphs", classes, images)
    write_sources_section(out, "glyphs", sources_text(used, pins))
    write_checksums(out)
    counts = Counter(image.label for image in images).values()
    log.info("%d images, %d classes, %d to %d each", len(images), len(classes), min(counts), max(counts))
    if sheets is not None:
        labels = np.sort(np.array([image.label for image in images]))
        for script in SCRIPTS:
            script_labels = [label for label, item in enumerate(classes) if item.superclass == script.name]
            for block in range(0, len(script_labels), 16):
                picked = np.flatnonzero(np.isin(labels, script_labels[block : block + 16]))
                save_contact_sheet(sheets / f"glyphs_{script.name}_{block // 16}.png", tiles[picked], PER_CLASS // 2)


def main() -> None:
    """Read the command line and build."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, required=True, help="folder for the source packages")
    parser.add_argument("--out", type=Path, default=TOOLS.parent / "benchmark" / "data" / "assets")
    parser.add_argument("--sheets", type=Path, help="folder for contact sheets (by script)")
    arguments = parser.parse_args()
    build(arguments.cache, arguments.out, arguments.sheets)


if __name__ == "__main__":
    main()
