"""Builds the emoji data set: Unicode subgroups drawn by several designers, 32 x 32 RGB on white.

All drawings of one emoji, its gender and direction variants included, share one group.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import resvg_py
from PIL import Image

from asset_writer import (
    SIDE,
    AssetClass,
    AssetImage,
    Pixels,
    quantise,
    save_contact_sheet,
    write_asset,
    write_checksums,
    write_sources_section,
)
from source_packages import TOOLS, SourcePackage, read_pins, unpack

LEVELS = 64
CLASS_CAP = 220
LEAST_IMAGES = 30
LEAST_GROUPS = 6
# Two drawings of a class whose mean absolute difference (of 255) is smaller are near-duplicates.
NEAR_DUPLICATE = 3.0
# Smallest side of the scaled part of a drawing, as a share of the designer's frame.
LEAST_SIDE = 0.7
SPLIT_SHARES = (("test", 0.20), ("val", 0.16))
# Validation and test classes have enough images for this many shots and queries.
SHOTS, QUERIES = 5, 15
SKIPPED_SUBGROUPS = {"skin-tone"}

MAN, WOMAN, PERSON = "1f468", "1f469", "1f9d1"
# Emoji that differ from another one only in the gender of the person.
SAME_BUT_GENDER = {
    MAN: PERSON,
    WOMAN: PERSON,
    "1f466": "1f9d2",  # boy, girl: child
    "1f467": "1f9d2",
    "1f474": "1f9d3",  # old man, old woman: older person
    "1f475": "1f9d3",
    "1f934": "1fac5",  # prince, princess: person with crown
    "1f478": "1fac5",
    "1f936": "1f385",  # Mrs. Claus, Mx. Claus: Santa Claus
    "1f9d1-200d-1f384": "1f385",
    "1f483": "1f57a",  # woman, man dancing
    "1f930": "1fac4",  # pregnant woman, man: person
    "1fac3": "1fac4",
    "1f46b": "1f46d",  # people holding hands
    "1f46c": "1f46d",
    "1f9d1-200d-1f91d-200d-1f9d1": "1f46d",
    "1f9d1-200d-2764-200d-1f9d1": "1f491",  # couples with heart
    "1f9d1-200d-2764-200d-1f48b-200d-1f9d1": "1f48f",  # kissing couples
}
FAMILY, CHILD = "1f46a", "1f9d2"


@dataclass(frozen=True)
class Emoji:
    """One emoji without skin tone.

    Attributes:
        code: code points, without variation selector.
        name: readable name.
        subgroup: Unicode subgroup, the class.
        group: Unicode group, the superclass.
        image: file name in the data source package.
    """

    code: str
    name: str
    subgroup: str
    group: str
    image: str


def group_key(code: str) -> str:
    """The code points shared by all gender and direction variants of an emoji."""
    for suffix in ("-200d-27a1", "-200d-2640", "-200d-2642"):
        code = code.replace(suffix, "")
    people = code.split("-")
    if "200d" in people:
        code = "-".join(PERSON if part in (MAN, WOMAN) else part for part in people)
    if people[0] in (MAN, WOMAN, PERSON) and {"1f466", "1f467", CHILD} & set(people[1:]):
        return FAMILY
    return SAME_BUT_GENDER.get(code, code)


def read_emoji(folder: Path, names: dict[str, str]) -> list[Emoji]:
    """Read the emoji list of the data source package."""
    rows = json.loads((folder / "package" / "emoji.json").read_text(encoding="utf-8"))
    emoji = []
    for row in sorted(rows, key=lambda item: item["sort_order"]):
        code = str(row["unified"]).lower().replace("-fe0f", "")
        if row["subcategory"] in SKIPPED_SUBGROUPS:
            continue
        name = names.get(code, str(row["name"]).lower())
        emoji.append(Emoji(code, name, row["subcategory"], row["category"], row["image"]))
    return emoji


def files_by_code(folder: Path, suffix: str) -> dict[str, Path]:
    """Return image files by the code points in their names, without variation selector."""
    return {path.stem.lower().replace("-fe0f", ""): path for path in sorted(folder.glob(f"*{suffix}"))}


def flatten(picture: Image.Image) -> Pixels:
    """Trim a wide margin, composite on white in a square and scale down."""
    rgba = picture.convert("RGBA")
    box = rgba.getchannel("A").getbbox() or (0, 0, *rgba.size)
    drawn = rgba.crop(box)
    side = round(max(LEAST_SIDE * max(rgba.size), 1.03 * max(drawn.size)))
    canvas = Image.new("RGBA", (side, side), (255, 255, 255, 255))
    canvas.alpha_composite(drawn, ((side - drawn.width) // 2, (side - drawn.height) // 2))
    small = canvas.convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    return quantise(np.asarray(small, dtype=np.uint8), LEVELS)


def open_svg(path: Path) -> Image.Image:
    """Draw an SVG file 128 pixels wide."""
    drawn = resvg_py.svg_to_bytes(svg_string=path.read_text(encoding="utf-8"), width=128, height=128)
    return Image.open(io.BytesIO(bytes(drawn)))


def slug(name: str) -> str:
    """A readable emoji name in the spelling of file names."""
    return re.sub(r"[^a-z0-9]+", "-", re.sub(r"['\u2019]", "", name.lower())).strip("-")


def designers(folders: dict[str, Path]) -> dict[str, Callable[[Emoji], Image.Image | None]]:
    """Return for each designer a function that opens the drawing of an emoji, or returns None if there is none."""
    openmoji = files_by_code(folders["openmoji"] / "package" / "color" / "svg", ".svg")
    fluent_3d = files_by_code(folders["@lobehub/fluent-emoji-3d"] / "package" / "assets", ".webp")
    flat = {path.stem: path for path in (folders["fluentui-emoji"] / "package" / "icons" / "flat").glob("*.svg")}

    def datasource(vendor: str) -> Callable[[Emoji], Image.Image | None]:
        folder = folders[f"emoji-datasource-{vendor}"] / "package" / "img" / vendor / "64"

        def draw(emoji: Emoji) -> Image.Image | None:
            path = folder / emoji.image
            return Image.open(path) if path.exists() else None

        return draw

    def draw_flat(emoji: Emoji) -> Image.Image | None:
        path = flat.get(slug(emoji.name)) or flat.get(f"{slug(emoji.name)}-default")
        return open_svg(path) if path else None

    return {
        "fluent 3d": lambda emoji: Image.open(fluent_3d[emoji.code]) if emoji.code in fluent_3d else None,
        "fluent flat": draw_flat,
        "noto": datasource("google"),
        "openmoji": lambda emoji: open_svg(openmoji[emoji.code]) if emoji.code in openmoji else None,
        "twemoji": datasource("twitter"),
    }


def draw_all(emoji: list[Emoji], folders: dict[str, Path]) -> Iterator[tuple[Emoji, str, Pixels]]:
    """Yield every drawing of every emoji, except blank ones."""
    for designer, draw in designers(folders).items():
        for item in emoji:
            # Skip the Fluent packages' country flags: Microsoft's set has none.
            if designer.startswith("fluent") and item.group == "Flags" and item.subgroup != "flag":
                continue
            picture = draw(item)
            if picture is None:
                continue
            pixels = flatten(picture)
            if np.ptp(pixels) > 0 and float((pixels < 248).mean()) > 0.01:
                yield item, designer, pixels


def merge_groups(images: list[AssetImage]) -> list[AssetImage]:
    """Drop exact duplicates of a class and give near-duplicates one group."""
    images = sorted(images, key=lambda image: (image.group, image.source, image.pixels.tobytes()))
    flat = np.stack([image.pixels.reshape(-1) for image in images]).astype(np.float32)
    parent = {image.group: image.group for image in images}

    def root(group: str) -> str:
        while parent[group] != group:
            group = parent[group]
        return group

    kept = []
    for index, image in enumerate(images):
        distance = np.abs(flat[:index] - flat[index]).mean(axis=1)
        for near in np.flatnonzero(distance < NEAR_DUPLICATE):
            first, second = sorted((root(image.group), root(images[near].group)))
            parent[second] = first
        if not (distance == 0).any():
            kept.append(image)
    return [AssetImage(image.pixels, image.label, root(image.group), image.source) for image in kept]


def cap_class(images: list[AssetImage], cap: int) -> list[AssetImage]:
    """Keep whole groups, in the order of a digest of their key, up to ``cap`` images."""
    members: dict[str, list[AssetImage]] = defaultdict(list)
    for image in images:
        members[image.group].append(image)
    kept: list[AssetImage] = []
    for key in sorted(members, key=lambda group: hashlib.sha256(group.encode()).hexdigest()):
        if len(kept) + len(members[key]) <= cap:
            kept += members[key]
    return kept


def drop_pictures_of_two_classes(by_class: dict[str, list[AssetImage]]) -> None:
    """Drop drawings that equal a drawing of another class: their label is ambiguous."""
    holders: dict[bytes, set[str]] = defaultdict(set)
    for name, drawn in by_class.items():
        for image in drawn:
            holders[image.pixels.tobytes()].add(name)
    for name, drawn in by_class.items():
        by_class[name] = [image for image in drawn if len(holders[image.pixels.tobytes()]) == 1]


def has_enough_for_episodes(images: list[AssetImage]) -> bool:
    """Return whether any SHOTS support images leave QUERIES images of other groups."""
    sizes = sorted(Counter(image.group for image in images).values())
    return sum(sizes[:-SHOTS]) >= QUERIES


def split_of(chosen: dict[str, list[AssetImage]]) -> dict[str, str]:
    """Assign each class to a split: by the digest of its name, test and validation first.

    Classes that are too small for episodes go to training.
    """
    testable = [name for name, images in chosen.items() if has_enough_for_episodes(images)]
    ordered = sorted(testable, key=lambda name: hashlib.sha256(f"emoji split {name}".encode()).hexdigest())
    result = dict.fromkeys(chosen, "train")
    start = 0
    for split, share in SPLIT_SHARES:
        size = round(share * len(chosen))
        result.update(dict.fromkeys(ordered[start : start + size], split))
        start += size
    return result


def sources_text(pins: list[SourcePackage], counts: dict[str, int]) -> str:
    """Return the section of SOURCES.md about this data set."""
    table = (TOOLS / "emoji_sources.md").read_text(encoding="utf-8").strip()
    rows = [f"| {pin.name} | {pin.version} | {pin.licence} |" for pin in pins]
    drawn = [f"| {name} | {count} |" for name, count in sorted(counts.items())]
    parts = [table, "| npm package | version | licence of the drawings |\n| --- | --- | --- |\n" + "\n".join(rows)]
    parts.append("| designer | images |\n| --- | --- |\n" + "\n".join(drawn))
    return "\n\n".join(parts)


def openmoji_names(folder: Path) -> dict[str, str]:
    """Return Unicode's short names by code points, from the OpenMoji package."""
    rows: list[dict[str, Any]] = json.loads((folder / "package/data/openmoji.json").read_text(encoding="utf-8"))
    return {str(row["hexcode"]).lower().replace("-fe0f", ""): str(row["annotation"]) for row in rows}


def build(cache: Path, out: Path, sheets: Path | None) -> None:
    """Build the asset from the pinned packages."""
    pins = read_pins(TOOLS / "emoji_packages.tsv")
    folders = {pin.name: unpack(pin, cache) for pin in pins}
    emoji = read_emoji(folders["emoji-datasource-google"], openmoji_names(folders["openmoji"]))
    by_class: dict[str, list[AssetImage]] = defaultdict(list)
    superclass = {item.subgroup: item.group for item in emoji}
    for item, designer, pixels in draw_all(emoji, folders):
        by_class[item.subgroup].append(AssetImage(pixels, 0, group_key(item.code), designer))
    drop_pictures_of_two_classes(by_class)
    chosen = {}
    for name, drawn in by_class.items():
        images = cap_class(merge_groups(drawn), CLASS_CAP)
        if len(images) >= LEAST_IMAGES and len({image.group for image in images}) >= LEAST_GROUPS:
            chosen[name] = images
    names = sorted(chosen, key=lambda name: (superclass[name], name))
    splits = split_of(chosen)
    classes = [AssetClass(name, superclass[name], splits[name]) for name in names]
    images = [
        AssetImage(image.pixels, label, f"{name} {image.group}", image.source)
        for label, name in enumerate(names)
        for image in chosen[name]
    ]
    tiles = write_asset(out, "emoji", classes, images)
    counts: dict[str, int] = defaultdict(int)
    for image in images:
        counts[image.source] += 1
    write_sources_section(out, "emoji", sources_text(pins, counts))
    write_checksums(out)
    if sheets is not None:
        labels = np.sort(np.array([image.label for image in images]))
        for label, name in enumerate(names):
            save_contact_sheet(sheets / f"emoji_{label:02d}_{slug(name)}.png", tiles[labels == label], 20, 2)


def main() -> None:
    """Read the command line and build."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, required=True, help="folder for the source packages")
    parser.add_argument("--out", type=Path, default=TOOLS.parent / "benchmark" / "data" / "assets")
    parser.add_argument("--sheets", type=Path, help="folder for contact sheets (one per class)")
    arguments = parser.parse_args()
    build(arguments.cache, arguments.out, arguments.sheets)


if __name__ == "__main__":
    main()
