"""Scripts: which of the writing systems of the five languages a character belongs to."""

from __future__ import annotations

import unicodedata
from enum import Enum, auto

_HAN = ((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3134F))
_HAN_MARKS = "々〆〇"
_KANA = ((0x3041, 0x3096), (0x309D, 0x309F), (0x30A1, 0x30FA), (0x30FC, 0x30FF), (0x31F0, 0x31FF))
_HANGUL = ((0x1100, 0x11FF), (0x3131, 0x318E), (0xAC00, 0xD7A3))
_LATIN = ((0x41, 0x5A), (0x61, 0x7A), (0xC0, 0xD6), (0xD8, 0xF6), (0xF8, 0x24F), (0x1E00, 0x1EFF))
# Unit signs that Unicode counts as letters; the normalisers read them.
_SIGNS = "ªº℃℉Ωμµ"


class Script(Enum):
    """The classes that segmentation tells apart."""

    HAN = auto()
    KANA = auto()
    HANGUL = auto()
    LATIN = auto()
    DIGIT = auto()
    MARK = auto()
    FOREIGN = auto()


def script_of(character: str) -> Script:
    """Classify one character; letters of other scripts are FOREIGN, everything that is no letter a MARK."""
    code = ord(character)
    if character in _HAN_MARKS or _within(code, _HAN):
        return Script.HAN
    for ranges, script in ((_LATIN, Script.LATIN), (_KANA, Script.KANA), (_HANGUL, Script.HANGUL)):
        if _within(code, ranges):
            return script
    if "0" <= character <= "9":
        return Script.DIGIT
    return Script.FOREIGN if character.isalnum() and character not in _SIGNS and _is_letter(character) else Script.MARK


def _within(code: int, ranges: tuple[tuple[int, int], ...]) -> bool:
    return any(first <= code <= last for first, last in ranges)


def _is_letter(character: str) -> bool:
    return unicodedata.category(character) in {"Lu", "Ll", "Lt", "Lo", "Nd"}
