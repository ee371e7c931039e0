"""The characters of the glyph data set, by script, and the split each script belongs to.

Characters that look alike across scripts or cases appear once: capital A also stands for Greek and Cyrillic A, capital
S for small s, and so on. O, 0, I and l are left out because Hebrew samekh and Arabic alef are in the test split. Thai
ro rua is left out because it looks like S in typefaces without loops. Obsolete kho khuat and kho khon are left out
because they look like other characters.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass


@dataclass(frozen=True)
class Script:
    """One script.

    Attributes:
        name: the script's name.
        split: ``train``, ``val`` or ``test``.
        characters: its characters, one class each.
        prefixes: beginnings of Unicode names that class names leave out.
    """

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
    """Return the class name, such as ``hebrew alef``, ``latin capital a`` or ``digit 4``."""
    if script.name == "digit":
        return f"digit {character}"
    words = unicodedata.name(character)
    for prefix in script.prefixes:
        words = words.removeprefix(prefix)
    return f"{script.name} {words.replace('LETTER ', '').lower()}"
