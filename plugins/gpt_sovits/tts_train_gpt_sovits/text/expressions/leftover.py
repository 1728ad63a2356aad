"""Decides over signs that no rule read: silent, a pause, or a reason to refuse the text."""

from __future__ import annotations

import re
import unicodedata

from tts_train_gpt_sovits.text.rejected import TextRejected
from tts_train_gpt_sovits.text.scripts import Script, script_of

_SILENT_CLASSES = frozenset({"Ps", "Pe", "Pi", "Pf", "So", "Sk", "Mn", "Me", "Cf", "Cc", "Zs", "Zl", "Zp"})
# Symbols to Unicode as emoji and accents are, but words to a reader: °, ℃, ^ and their like.
_WORDS = frozenset({"°", "¦", "^", *map(chr, range(0x2100, 0x2150))} - {"™", "℠"})
_SILENT = frozenset("\"'’‘`´©®™※")
_TAGGED = re.compile(r"<(/?[A-Za-z!][^<>]*|[^<>\d]{0,20})>")
_REFERENCE = re.compile(r"&#?[A-Za-z0-9]{2,8};")
_ARROWS = re.compile(r"\s?[←-⇿➔-➾]\ufe0f?\s?")


def pauses(text: str, letters: str) -> str:
    """Put a comma for a slash beside `letters` (a class of characters) or a number, and for arrows; unwrap `<笑>`."""
    text = _TAGGED.sub(lambda m: m[0] if m[1][:1] in "/!" or m[1][:1].isascii() else m[1], text)
    return re.sub(rf"(?<=[{letters}\d])\s?/\s?|\s?/\s?(?=[{letters}\d])", ",", _ARROWS.sub(",", text))


def refuse_references(text: str) -> None:
    """Raise TextRejected `unreadable_text` for a character reference of HTML (`&amp;`)."""
    if reference := _REFERENCE.search(text):
        raise TextRejected("unreadable_text", f"{reference[0]!r} is a character reference; write the character itself")


def is_letter(character: str) -> bool:
    """Tell letters and digits of any script from marks."""
    return script_of(character) is not Script.MARK


def is_silent(character: str) -> bool:
    """Tell whether a mark stands for no sound: quotes, brackets, emoji."""
    return character in _SILENT or (unicodedata.category(character) in _SILENT_CLASSES and character not in _WORDS)


def require_readable(text: str, spoken: frozenset[str]) -> None:
    """Raise TextRejected `unreadable_text` for a sign that is neither `spoken` nor silent."""
    for i, character in enumerate(text):
        if character not in spoken and not is_silent(character):
            raise TextRejected("unreadable_text", _unreadable(character, text, i))


def without_silent(text: str, spoken: frozenset[str]) -> str:
    """Drop silent marks, and put a comma for those that part two numbers; `spoken` characters are kept.

    Raises:
        TextRejected: `unreadable_text` for any other character.
    """
    require_readable(text, spoken)
    kept: list[str] = []
    for i, character in enumerate(text):
        if character in spoken:
            kept.append(character)
        elif kept and kept[-1].isdigit() and next((c for c in text[i:] if c in spoken), "").isdigit():
            kept.append(",")
    return "".join(kept)


def _unreadable(character: str, text: str, place: int) -> str:
    name = unicodedata.name(character, f"U+{ord(character):04X}").lower()
    around = text[max(0, place - 12) : place + 13]
    return f"{character!r} ({name}) in {around!r} has no reading here; write it out in words"
