"""Families left out of the glyph data set, by name, with the reason."""

from __future__ import annotations

import re

# Names of families that hold pictures, codes, blanks or capitals in place of small letters.
EXCLUDED_WORDS = re.compile(
    r"dingbat|symbol|emoji|icon|barcode|code ?128|code ?39|redact|blank|braille|music|awesome|glyphicon|ornament"
    r"|small ?caps|\bsc\b|\bcaps\b|smcp|last resort|rashi|nastaliq navees|signwriting|chess|webdings|fallback|flags"
    r"|math|initials|chords",
    re.IGNORECASE,
)

# Found by looking at the tiles: pictures, copies of other fonts, capitals in place of small letters.
EXCLUDED_FAMILIES = frozenset(
    {
        "Because We Build",
        "Because We Connect",
        "Because We Create",
        "Because We Organize",
        "Denemo",
        "NK SSmart3",
        "Rubik Glitch",
        "Wargames",
        "Zawgyi-One",
        "[F500]",
        "flatline",
    }
)

# Typefaces whose blots make narrow letters unreadable.
BLOTTED = ("Rubik Bubbles", "Rubik Dirt", "Rubik Distressed", "Rubik Moonrocks", "Rubik Wet Paint")
NARROW = "\N{HEBREW LETTER YOD}\N{HEBREW LETTER VAV}\N{HEBREW LETTER FINAL NUN}"

# Typefaces that draw Cyrillic de and el like Greek delta and lamda.
PEAKED = ("eurofurence classic light", "eurofurence light", "monofur", "unifur")

# Single glyphs found by looking at the tiles: (family, character).
EXCLUDED_GLYPHS = frozenset(
    {(family, character) for family in BLOTTED for character in NARROW}
    | {("PatchStencil", character) for character in "יןך"}
    | {(family, character) for family in PEAKED for character in "ДЛ"}
    | {("Apropal", "Y")}
)
