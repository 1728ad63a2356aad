"""Folds the many ways in which Unicode writes one number or sign, before anything is read."""

from __future__ import annotations

import re
import unicodedata

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
