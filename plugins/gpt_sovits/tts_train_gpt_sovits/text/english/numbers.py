"""Numbers in words, as American English says them, and what a rule of the normaliser looks like."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any
from unittest.mock import patch

from tts_train_gpt_sovits.text.reading import library

Rule = tuple[re.Pattern[str], Callable[[re.Match[str]], "str | None"]]
"""A pattern, tried where a word or a sign begins, and the words for it; None leaves it to the rules behind it."""

# Words that begin a new phrase: behind "a 5 kg" they are no noun that the quantity describes.
_NO_NOUN_TEXT = """
about after and are as at away because before but by each every for from had has have if in into is less long more
of off old on or over per since so tall than that then to too until was were when where which while with
"""
_NO_NOUN = frozenset(_NO_NOUN_TEXT.split())


def rule(pattern: str, say: Callable[[re.Match[str]], str | None], flags: int = 0) -> Rule:
    """Make a rule."""
    return re.compile(pattern, flags), say


def before(match: re.Match[str]) -> str:
    """Give the text in front of a match."""
    return match.string[: match.start()]


def after(match: re.Match[str]) -> str:
    """Give the text behind a match."""
    return match.string[match.end() :]


def follows(match: re.Match[str], pattern: str) -> bool:
    """Tell whether the text in front ends in `pattern`, whatever the case."""
    return re.search(rf"(?:{pattern})$", before(match), re.IGNORECASE) is not None


def describes_a_noun(match: re.Match[str]) -> bool:
    """Tell whether a quantity stands between an article and a noun (a 5 kg bag), where its unit is in the singular."""
    word = re.match(r"[ -]([A-Za-z]+)\b", after(match))
    return bool(word) and word[1] not in _NO_NOUN and follows(match, r"\ban? ") if word else False


NUMBER = r"(?:\d{1,3}(?:,\d{3})+(?!,?\d)|\d{1,2}(?:,\d{2})+,\d{3}(?!,?\d)|\d+)(?:\.\d+)?|\.\d+"
"""Digits, with commas between thousands (or lakhs) and decimals."""
VULGAR = "¼½¾⅐⅑⅒⅓⅔⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞"
_PARTS_TEXT = "1/4 1/2 3/4 1/7 1/9 1/10 1/3 2/3 1/5 2/5 3/5 4/5 1/6 5/6 1/8 3/8 5/8 7/8"
_PARTS = dict(zip(VULGAR, _PARTS_TEXT.split(), strict=True))
MIXED = rf"\d+[ -]?[{VULGAR}]|\d+[ -]\d{{1,2}}[/⁄]\d{{1,2}}(?![\d/⁄])|[{VULGAR}]"
"""A whole number and a fraction (2 1/2, 3¾), or a fraction in one sign."""
QUANTITY = rf"{MIXED}|{NUMBER}"

_DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
_LONGEST = 36  # inflect counts to decillions
_LONGEST_PLAIN = 9  # a longer number without commas is a number of an account or a telephone


def digits(text: str) -> str:
    """Say digits one by one; what is no digit is passed over."""
    return " ".join(_DIGITS[int(digit)] for digit in text if digit.isdecimal())


def cardinal(text: str) -> str:
    """Say a whole number; one with a leading zero, or too long to have a name, digit by digit."""
    text = text.replace(",", "")
    # 007 is no quantity, and nobody counts beyond decillions.
    if (len(text) > 1 and text.startswith("0")) or len(text) > _LONGEST:
        return digits(text)
    return _words(text)


def ordinal(text: str) -> str:
    """Say the place in a row (22: twenty second)."""
    text = text.replace(",", "").lstrip("0") or "0"
    if len(text) > _LONGEST:
        return f"{digits(text[:-1])} {ordinal(text[-1])}"
    return str(_engine().ordinal(str(_engine().number_to_words(text, andword="")))).replace(",", "").replace("-", " ")


def number(text: str) -> str:
    """Say a number that may have commas and decimals; decimals digit by digit."""
    whole, point, decimals = text.partition(".")
    return cardinal(whole or "0") + (f" point {digits(decimals)}" if point else "")


def running_number(text: str) -> str:
    """Say a number without unit: four digits as a year, a long one without commas digit by digit."""
    if not text.isdecimal():
        return number(text)
    # 1234567890 is somebody's account; 5000000000 is a sum.
    if len(text) > _LONGEST_PLAIN and not text.endswith("000"):
        return digits(text)
    return year(text)


def year(text: str) -> str:
    """Say 1001 to 2999 as years are said (nineteen eighty four), 2000 to 2009 in full; others as quantities."""
    # Two thousand five, but twenty ten: so these years are said.
    if len(text) != 4 or not 1000 < int(text) < 3000 or 2000 <= int(text) < 2010:
        return cardinal(text)
    first, last = text[:2], text[2:]
    if last == "00":
        return f"{cardinal(first)} hundred"
    return f"{cardinal(first)} {'oh ' + cardinal(last[1]) if last[0] == '0' else cardinal(last)}"


def decade(text: str) -> str:
    """Say a decade, given the number before its s (1990, 90, 2000, 100)."""
    # Nineteen ninety becomes nineteen nineties.
    return re.sub(r"y$", "ie", year(text)) + "s"


def code_number(text: str) -> str:
    """Say a number inside a name (A320, H264): three digits in two steps."""
    parts = text.split(".")
    if len(parts) > 1:
        return version(text)
    # A three twenty, but A one hundred.
    if len(text) == 3 and text[0] != "0" and not text.endswith("00"):
        return f"{cardinal(text[0])} {'oh ' + cardinal(text[2]) if text[1] == '0' else cardinal(text[1:])}"
    return running_number(text)


def version(text: str) -> str:
    """Say numbers between points (3.10.2), each after the first digit by digit; all so in an address of four."""
    first, *rest = text.split(".")
    # Four numbers are an address of the internet, where each is read digit by digit.
    start = digits(first) if len(rest) == 3 else cardinal(first)
    return " point ".join([start, *map(digits, rest)])


def fraction(top: str, bottom: str, *, quarters: bool = False) -> str:
    """Say a fraction; `quarters` says them so rather than as fourths. What is no usual fraction is said with over."""
    if (
        bottom[0] == "0"
        or int(bottom) < 2
        or int(top) > max(int(bottom), 20)
        or (int(bottom) > 20 and int(bottom) % 10 in {1, 2})
    ):
        return f"{cardinal(top)} over {cardinal(bottom)}"
    many = "" if top == "1" else "s"
    if bottom == "2":
        return f"{cardinal(top)} {'halves' if many else 'half'}"
    part = "quarter" if quarters and bottom == "4" else ordinal(bottom)
    return f"{cardinal(top)} {re.sub('^one (?=.)', '', part) if many else part}{many}"


def quantity(text: str) -> tuple[str, bool]:
    """Say what matched `QUANTITY`; also whether a unit behind it is in the singular."""
    whole, top, bottom = mixed_parts(text)
    if not bottom:
        return number(text), text == "1"
    if not int(bottom):
        return fraction(top, bottom), False
    if not whole:
        return fraction(top, bottom, quarters=True), False
    # Two and a half, not two and half; a quarter, not one fourth.
    part = "a half" if (top, bottom) == ("1", "2") else fraction(top, bottom, quarters=True)
    return f"{cardinal(whole)} and {'a quarter' if part == 'one quarter' else part}", False


def mixed_parts(text: str) -> tuple[str, str, str]:
    """Give the whole number, top and bottom of what matched `MIXED`; empty where there are none."""
    for sign, plain in _PARTS.items():
        text = text.replace(sign, f" {plain}")
    found = re.fullmatch(r"(?:(\d+)[ -]+)?[ -]*(\d+)[/⁄](\d+)", text)
    return (found[1] or "", found[2], found[3]) if found else ("", "", "")


def _words(text: str) -> str:
    return str(_engine().number_to_words(text, andword="")).replace(",", "").replace("-", " ")


@cache
def _engine() -> Any:  # noqa: ANN401
    return inflect().engine()


def inflect() -> ModuleType:
    """Import inflect, without the type checks that it compiles into itself: they take seconds, and are not for us.

    Raises:
        MissingExtraError: it is not installed.
    """
    with suppress(ImportError), patch("typeguard.typechecked", lambda target: target):
        import_module("inflect")
    return library("inflect", purpose="Reading English", extra="en")
