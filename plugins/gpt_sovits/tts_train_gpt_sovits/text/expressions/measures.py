"""Units, powers, subscripts and the numbers that stand beside Latin letters."""

from __future__ import annotations

import re
from functools import cache

from tts_train_gpt_sovits.text.expressions.apart import replaced
from tts_train_gpt_sovits.text.expressions.vocabulary import Vocabulary

_RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻", "0123456789+-")
_LOWERED = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
_ANGLE = re.compile(r"(?<!\d)(\d+)°\s?(\d+)[′'](?:\s?(\d+(?:\.\d+)?)[″\"])?")
_POWER = re.compile(r"(?<=[\dA-Za-z)\]])(?:([⁺⁻]?[⁰¹²³⁴⁵⁶⁷⁸⁹]+)|\^([-+]?\d+))(?!\.?\d)")
_BELOW = re.compile(r"(?<=[A-Za-z)])[₀₁₂₃₄₅₆₇₈₉]+")
_ENGLISH_DIGIT = re.compile(r"(?:(?<=CO)2|(?<=[HNO])2(?=O)|(?<=MP)[34]|(?<=PS)[1-5]|(?<=[A-Z])2(?=[A-Z]))(?![\d.])")
_ENGLISH_ORDINAL = re.compile(r"(?<![A-Za-z\d.,])(1st|2nd|3rd|[4-9]th|10th)(?![A-Za-z])")
_DECADE = re.compile(r"(?<![A-Za-z\d.])(?:['’]?(\d0)['’]s|((?:1[5-9]|20)\d0)['’]?s|['’](\d0)s)(?![A-Za-z])")
_DIMENSION = re.compile(r"(?<![A-Za-z\d.,/:+-])([1-6])(D|G)(?![A-Za-z\d])")
_NUMBERED = re.compile(r"(?<![A-Za-z])(?:[Nn][Oo]\.\s?(1(?![\d.]))?|#\s?)(?:(?<=1)|(?=\d))")


def read_measures(text: str, words: Vocabulary) -> str:
    """Read `80 km/h`, `5 m²`, `x²`, `10⁻³`, `H₂O`, `3D`, `5G`, `1st`, `1980s`, `No. 1` and `#3`."""
    text = replaced(_DIMENSION, lambda m: words.english_digits[int(m[1])] + words.english_letters[m[2]], text)
    text = replaced(_DECADE, lambda m: f"{m[1] or m[2] or m[3]}{words.decade}", text)
    text = replaced(_ENGLISH_ORDINAL, lambda m: words.english_ordinals[int(m[0][:-2]) - 1], text)
    text = replaced(_ANGLE, lambda m: _angle(m, words), text)
    text = replaced(_unit_pattern(tuple(words.units)), lambda m: _unit(m, words), text)
    text = replaced(_POWER, lambda m: words.power((m[1] or m[2]).translate(_RAISED)), text)
    text = replaced(_BELOW, lambda m: _english(m[0].translate(_LOWERED), words), text)
    text = replaced(_ENGLISH_DIGIT, lambda m: _english(m[0], words), text)
    text = re.sub(r"(?<=[A-Za-z])#", words.sharp, text)
    text = re.sub(r"#(?=[^\W\d_])", words.hashtag, text)
    return replaced(_NUMBERED, lambda m: words.number_one if m[1] else words.number, text)


@cache
def _unit_pattern(units: tuple[str, ...]) -> re.Pattern[str]:
    """A number with a unit; `5s` behind a Latin letter (iPhone5s) has none."""
    unit = "|".join(_ended(name) for name in sorted(units, key=len, reverse=True))
    number = r"(?<![A-Za-z\d.])(?P<number>\d+(?:\.\d+)?)"
    return re.compile(rf"{number}\s?(?P<unit>{unit})(?:/(?P<per>{unit}))?")


def _ended(unit: str) -> str:
    """A unit of letters ends where they do: the m of 5mg is none."""
    return re.escape(unit) + (r"(?![A-Za-z\d²³])" if unit[-1].isalnum() else "")


def _unit(match: re.Match[str], words: Vocabulary) -> str:
    number, unit, divisor = match["number"], match["unit"], match["per"]
    return words.per(number, unit, divisor) if divisor else number + words.units[unit]


def _angle(match: re.Match[str], words: Vocabulary) -> str:
    units = (words.units["°"], words.units["min"], words.units["s"])
    return "".join(f"{number}{unit}" for number, unit in zip(match.groups(), units, strict=True) if number)


def _english(digits: str, words: Vocabulary) -> str:
    return "".join(words.english_digits[int(digit)] for digit in digits)
