"""Signs before and after the rules: folds many forms to one; what is left is silent, a pause or refused."""

from __future__ import annotations

import re
import unicodedata

from tts_train_gpt_sovits.text.languages import Script, script_of
from tts_train_gpt_sovits.text.reading import TextRejected

_SIGNS = {
    "＋": "+", "－": "-", "＝": "=", "／": "/", "＜": "<", "＞": ">", "＆": "&", "＠": "@", "＃": "#", "＊": "*",
    "＿": "_", "｜": "|", "＼": "\\", "＾": "^", "￡": "£", "￦": "₩", "％": "%", "￥": "¥", "＄": "$", "№": "No.",
    "‐": "-", "‑": "-", "‒": "-", "﹣": "-", "–": "–", "〜": "~", "～": "~", "∼": "~", "⁄": "/", "∕": "/", "ℓ": "l",
    "≦": "≤", "≧": "≥", "≒": "≈", "⇒": "→", "∗": "*", "⨯": "×", "✕": "×", "➗": "÷", "㎧": "m/s", "㎨": "m/s²",
    "㎡": "m²", "㎥": "m³", "㎠": "cm²", "㎤": "cm³", "㎢": "km²", "㎜": "mm", "µ": "μ", "℉": "°F", "‼": "!", "⁉": "?",
    "｡": "。", "､": "、", "｢": "「", "｣": "」", "⋯": "…", "ㆍ": "·", "‧": "·", "∙": "·", "⋅": "·", "＇": "'", "＂": '"',
    "─": "―", "━": "―", "˚": "°", "º": "°", "￠": "¢", "℡": "TEL", "㈱": "株式会社", "㈲": "有限会社",
    "㈜": "주식회사 ",
}  # fmt: skip
_TABLE = str.maketrans(_SIGNS)
_COMPATIBLE = re.compile(r"[\u2160-\u217f\u2460-\u24ff\u2776-\u2793\u3200-\u33ff\ufe50-\ufe6b¼½¾⅐-⅞]")
_ROW_OF_DIGITS = re.compile(r"(?<!\d)(?:〒\s?\d{3}|0\d{1,4}−\d{1,4})−\d{4}(?!\d)")
_BETWEEN_DIGITS = {"：": ":", "，": ",", "．": ".", "∶": ":"}


def fold(text: str) -> str:
    """Give one form to full-width signs, circled and Roman numerals, squared units and fractions in one character."""
    text = _COMPATIBLE.sub(_compatible, text.translate(_TABLE))
    text = re.sub(r"(?<=\d)\s?([：∶])\s?(?=\d)|(?<=\d)([，．])(?=\d)", lambda m: _BETWEEN_DIGITS[m[1] or m[2]], text)
    text = re.sub(r"(?<=\d)[ー—―](?=\d)", "-", text)  # what a Japanese keyboard gives for a hyphen
    text = _ROW_OF_DIGITS.sub(lambda m: m[0].replace("−", "-"), text)
    text = re.sub(
        r"(?<![A-Za-z])((?:Vol|Part|Ch|Lv|Ep|Fig|P|p|pp)|[vV]ol|[pP]art|[eE]p|[lL]v)\.(?=\s?\d)", r"\1 ", text
    )
    # Last: only now are all commas between thousands of one form.
    return re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text)


def _compatible(match: re.Match[str]) -> str:
    """Write the character out; a number stays apart from the number beside it."""
    character = match[0]
    value = unicodedata.numeric(character, None)
    whole = value is not None and value == int(value)
    plain = str(int(value)) if value is not None and whole else unicodedata.normalize("NFKC", character)
    plain = plain.translate(_TABLE)
    before = match.string[match.start() - 1 : match.start()]
    after = match.string[match.end() : match.end() + 1]
    left = " " if plain[:1].isdigit() and _is_number(before) else ""
    return left + plain + (" " if plain[-1:].isdigit() and after.isdigit() else "")


def _is_number(character: str) -> bool:
    return bool(character) and unicodedata.numeric(character, None) is not None


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
        # A bracket or a quote that parted two numbers goes, and the numbers must not meet.
        elif kept and kept[-1].isdigit() and next((c for c in text[i:] if c in spoken), "").isdigit():
            kept.append(",")
    return "".join(kept)


def _unreadable(character: str, text: str, place: int) -> str:
    name = unicodedata.name(character, f"U+{ord(character):04X}").lower()
    around = text[max(0, place - 12) : place + 13]
    return f"{character!r} ({name}) in {around!r} has no reading here; write it out in words"
