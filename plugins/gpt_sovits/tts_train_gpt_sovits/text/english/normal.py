"""Normalises English text to words, apostrophes and `. , ? ! -`."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Container
from contextlib import suppress
from importlib import import_module
from types import ModuleType
from unittest.mock import patch

from tts_train_gpt_sovits.text.libraries import library

_QUOTES = str.maketrans('’‘“”„"；;：，。！？、…–—', "'''''',,,,.!?,.--")
_ABBREVIATIONS = {
    "mr": "mister", "mrs": "missus", "ms": "miz", "dr": "doctor", "prof": "professor", "jr": "junior", "sr": "senior",
    "st": "saint", "mt": "mount", "vs": "versus", "etc": "et cetera", "approx": "approximately", "dept": "department",
    "gen": "general", "col": "colonel", "capt": "captain", "lt": "lieutenant", "rev": "reverend", "hon": "honorable",
}  # fmt: skip
_UNITS = {
    "km/h": "kilometer per hour", "mph": "mile per hour", "kg": "kilogram", "km": "kilometer", "cm": "centimeter",
    "mm": "millimeter", "ml": "milliliter", "lb": "pound", "oz": "ounce", "tbsp": "tablespoon", "tsp": "teaspoon",
    "°C": "degree celsius", "°F": "degree fahrenheit", "min": "minute", "ft": "foot", "m": "meter", "g": "gram",
    "h": "hour", "s": "second", "L": "liter",
}  # fmt: skip
_PLURALS = {"foot": "feet"}
_MONEY = {
    "$": ("dollar", "dollars", "cent", "cents"),
    "£": ("pound", "pounds", "penny", "pence"),
    "€": ("euro", "euros", "cent", "cents"),
    "¥": ("yen", "yen", "sen", "sen"),
}
_MONTHS_TEXT = """
January February March April May June July August September October November December
Jan Feb Mar Apr Jun Jul Aug Sept Sep Oct Nov Dec
"""
_MONTHS = tuple(_MONTHS_TEXT.split())
_FULL_MONTH = {name[:3]: name for name in _MONTHS[:12]}
_SIGNS = {
    ":": ",",
    "&": " and ",
    "@": " at ",
    "+": " plus ",
    "=": " equals ",
    "×": " times ",
    "÷": " divided by ",
    "%": " percent ",
}


class EnglishNormaliser:
    """Spells out what is not a word. Numbers are spoken by inflect.

    Args:
        words: the dictionary; capitals of four letters or more that it has are read as a word (NASA), others as
            letters (BBC).
    """

    def __init__(self, words: Container[str]) -> None:
        self._engine = _inflect().engine()
        self._words = words
        self._rules = self._number_rules()

    def normalise(self, text: str) -> str:
        """Give letters, spaces, apostrophes and the marks `. , ? ! -`."""
        text = text.translate(_QUOTES).replace("℃", "°C").replace("℉", "°F")
        text = re.sub(r"(?i)\bi\.e\.", "that is", re.sub(r"(?i)\be\.g\.", "for example", text))
        text = re.sub(r"\b([A-Za-z]+)\.(?=\s+\w|,)", self._abbreviation, text)
        for pattern, reading in self._rules:
            text = pattern.sub(reading, text)
        for sign, word in _SIGNS.items():
            text = text.replace(sign, word)
        text = "".join(c for c in unicodedata.normalize("NFD", text) if unicodedata.category(c) != "Mn")
        text = self._capitals(text)
        text = re.sub(r"(?<=[A-Za-z])[-/](?=[A-Za-z])", " ", re.sub(r"[^ A-Za-z'.,?!/\-\n]", "", text))
        text = re.sub(r"\s+", " ", text.replace("/", " ").replace("\n", ", "))
        text = re.sub(r"\s+(?=[.,?!]|'s\b)", "", text)
        return re.sub(r"([.,?!\-])[ .,?!\-]*[.,?!\-]", r"\1", text).strip()

    def _abbreviation(self, match: re.Match[str]) -> str:
        word = match[1]
        full = _ABBREVIATIONS.get(word.lower())
        return full if full and not word.isupper() else match[0]

    def _capitals(self, text: str) -> str:
        text = re.sub(r"\b(?:[A-Z]\.){2,}", lambda m: m[0].replace(".", ""), text)
        words = re.findall(r"[A-Za-z]{2,}", text)
        if len(words) > 2 and all(word.isupper() for word in words):  # a shouted sentence, not an abbreviation
            return text.lower()
        return re.sub(r"[A-Za-z]*[A-Z][A-Za-z]*", self._word_with_capitals, text)

    def _word_with_capitals(self, match: re.Match[str]) -> str:
        word = match[0]
        if word.lower() in self._words and (not word.isupper() or len(word) >= 4):
            return word
        word = re.sub(r"^([A-Z]{2,})s$", lambda m: f"{m[1]}'s", word)  # CDs
        word = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", word)
        return re.sub(r"\b[A-Z]{2,}\b", lambda m: " ".join(m[0]), word)

    def _cardinal(self, digits: str) -> str:
        if len(digits) > 1 and digits.startswith("0"):
            return " ".join(self._engine.number_to_words(digit) for digit in digits)
        return str(self._engine.number_to_words(digits, andword="")).replace(",", "")

    def _year(self, digits: str) -> str:
        """Read 1001 to 2999 as years are read (nineteen eighty four), 2000 to 2009 in full; others as quantities."""
        value = int(digits)
        if not 1000 < value < 3000 or 2000 <= value < 2010 or len(digits) != 4:
            return self._cardinal(digits)
        if value % 100 == 0:
            return f"{self._cardinal(str(value // 100))} hundred"
        return str(self._engine.number_to_words(value, andword="", zero="oh", group=2)).replace(",", "")

    def _decade(self, match: re.Match[str]) -> str:
        return re.sub(r"y$", "ie", self._year(match[1])) + "s"

    def _decimal(self, match: re.Match[str]) -> str:
        whole, decimals = match[1] or "0", match[2]
        return f"{self._cardinal(whole)} point {' '.join(self._cardinal(digit) for digit in decimals)}"

    def _ordinal(self, digits: str) -> str:
        return str(self._engine.number_to_words(self._engine.ordinal(int(digits)), andword="")).replace(",", "")

    def _money(self, match: re.Match[str]) -> str:
        one, many, small_one, small_many = _MONEY[match[1]]
        if match[4]:
            return f"{match[2]}{'.' + match[3] if match[3] else ''} {match[4]} {many}"
        whole, small = int(match[2]), int((match[3] or "0").ljust(2, "0")[:2])
        parts = [f"{whole} {one if whole == 1 else many}"] if whole or not small else []
        parts += [f"{small} {small_one if small == 1 else small_many}"] if small else []
        return " and ".join(parts)

    def _time(self, match: re.Match[str]) -> str:
        hour, minute, half = int(match[1]), int(match[2]), match[3]
        spoken_half = half.replace(".", "").upper() if half else "AM" if hour < 12 else "PM"
        spoken_minute = "" if not minute else f" oh {minute}" if minute < 10 else f" {minute}"
        clock = "" if minute or half else " o'clock"
        full_stop = "." if match[0].endswith(".") and match.end() == len(match.string) else ""
        return f"{(hour - 1) % 12 + 1}{spoken_minute}{clock} {' '.join(spoken_half)}{full_stop}"

    def _unit(self, match: re.Match[str]) -> str:
        one = _UNITS[match[2]]
        if match[1] == "1":
            return f"{match[1]} {one}"
        head, space, tail = one.partition(" ")
        return f"{match[1]} {_PLURALS.get(head, head + 's')}{space}{tail}"

    def _fraction(self, match: re.Match[str]) -> str:
        top, bottom = int(match[1]), int(match[2])
        if bottom == 2:
            return f"{self._cardinal(match[1])} {'half' if top == 1 else 'halves'}"
        return f"{self._cardinal(match[1])} {self._ordinal(match[2])}{'' if top == 1 else 's'}"

    def _day(self, match: re.Match[str]) -> str:
        return f"{_FULL_MONTH[match[1][:3]]} {self._ordinal(match[2])}{match[3]}"

    def _iso_date(self, match: re.Match[str]) -> str:
        return f"{_MONTHS[int(match[2]) - 1]} {self._ordinal(match[3])}, {match[1]}"

    def _number_rules(self) -> list[tuple[re.Pattern[str], Callable[[re.Match[str]], str]]]:
        months, units = "|".join(_MONTHS), "|".join(map(re.escape, _UNITS))
        return [
            (re.compile(r"(?<=\d),(?=\d{3}(?!\d))"), lambda _: ""),
            (re.compile(r"\b(\d{4})-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])\b"), self._iso_date),
            (re.compile(rf"\b({months})\.? (\d{{1,2}})(?:st|nd|rd|th)?(\b)(?!:)"), self._day),
            (re.compile(r"\b([01]?\d|2[0-3]):([0-5]\d)(?:\s*([ap]\.?m\b\.?))?", re.IGNORECASE), self._time),
            (re.compile(r"\b(\d{1,2})\s*([ap])\.?m\b\.?", re.IGNORECASE), lambda m: f"{m[1]} {m[2].upper()} M"),
            (re.compile(r"([$£€¥])(\d+)(?:\.(\d+))?(?: (million|billion|trillion))?"), self._money),
            (re.compile(r"\b([12]\d{2}0)s\b"), self._decade),
            (re.compile(rf"\b(\d+(?:\.\d+)?) ?({units})(?![A-Za-z])"), self._unit),
            (re.compile(r"(?<![\d/])(\d+)/(\d+)(?![\d/])"), self._fraction),
            (re.compile(r"\b(\d+)(?:st|nd|rd|th)\b"), lambda m: self._ordinal(m[1])),
            (re.compile(r"(?:(?<=\s)|^)-(?=\d)"), lambda _: "negative "),
            (re.compile(r"(\d+) - (?=\d)"), lambda m: f"{m[1]} minus "),
            (re.compile(r"(\d+)[-–](?=\d)"), lambda m: f"{m[1]} to "),
            (re.compile(r"(\d*)\.(\d+)"), self._decimal),
            (re.compile(r"#(?=\d)"), lambda _: "number "),
            (re.compile(r"\d+"), lambda m: f" {self._year(m[0])} "),
        ]


def _inflect() -> ModuleType:
    """Import inflect without the type checks that it compiles into itself: they take seconds, and are not for us."""
    with suppress(ImportError), patch("typeguard.typechecked", lambda target: target):
        import_module("inflect")
    return library("inflect", purpose="Reading English", extra="en")
