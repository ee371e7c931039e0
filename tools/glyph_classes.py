"""The characters of the glyph data set, by script, and the split each script belongs to.

Characters that look alike across scripts or cases appear once: capital A stands for Greek and Cyrillic A too, capital
S for small s, and so on; O, 0, I and l are left out, since Hebrew samekh and Arabic alef are in the test split. Thai
ro rua is left out for looking like S in typefaces without loops, obsolete kho khuat and kho khon for their likeness to
others.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass


@dataclass(frozen=True)
class Script:
    """A script: its characters, its split and how Unicode names start that are shortened in class names."""

    name: str
    split: str
    characters: str
    prefixes: tuple[str, ...]


SCRIPTS = (
    Script("latin", "train", "ABCDEFGHJKLMNPQRSTUVWXYZabdefghijmnqrtyÆæðþ", ("LATIN ",)),
    Script("digit", "train", "123456789", ("DIGIT ",)),
    Script("cyrillic", "train", "БГДЖИЙЛПФЦЧШЩЪЫЬЭЮЯЎЄЇҐЂЋЉЊЏ", ("CYRILLIC ",)),
    Script("greek", "train", "ΔΛΞΣΩαβγδεζηθλμξπσςφψω", ("GREEK ",)),
    Script("devanagari", "train", "अइउएकखगघङचछजझञटठडढणतथदधनपफबभमयरलवशषसह", ("DEVANAGARI ",)),
    Script("thai", "val", "กขคฆงจฉชซฌญฎฏฐฑฒณดตถทธนบปผฝพฟภมยลวศษสหฬอฮ", ("THAI CHARACTER ",)),
    Script("hebrew", "test", "אבגדהוזחטיךכלםמןנסעףפץצקרשת", ("HEBREW ",)),
    Script("arabic", "test", "ابتثجحخدذرزسشصضطظعغفقكلمنهوي", ("ARABIC ",)),
)


def class_name(script: Script, character: str) -> str:
    """The class name, such as ``hebrew alef``, ``latin capital a`` or ``digit 4``."""
    if script.name == "digit":
        return f"digit {character}"
    words = unicodedata.name(character)
    for prefix in script.prefixes:
        words = words.removeprefix(prefix)
    return f"{script.name} {words.replace('LETTER ', '').lower()}"
