"""What a language says for the signs of dates, times, ratios, money, units and sums, and how the words are put in."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

_DIGITS = frozenset("0123456789")  # an exponent is none
_GOES_ON = re.compile(r"\d[.,:/]?\Z")


def replaced(pattern: re.Pattern[str], reading: Callable[[re.Match[str]], str], text: str) -> str:
    """Put `reading` for every match; a blank keeps its first and last digits from digits beside it."""
    return pattern.sub(lambda match: _apart(match, reading(match)), text)


def _apart(match: re.Match[str], spoken: str) -> str:
    if spoken == match[0]:
        return spoken
    before = match.string[max(0, match.start() - 2) : match.start()]
    after = match.string[match.end() :][:1]
    left = " " if spoken[:1].isdigit() and _GOES_ON.search(before) else ""
    return left + spoken + (" " if spoken[-1:].isdigit() and after in _DIGITS else "")


@dataclass(frozen=True)
class Vocabulary:
    """Words of one language. Digits that stay in what they give are read later, with their counters.

    `to`, `ratio` and the signs of sums stand between two numbers, with the spaces that the language writes.
    """

    date: Callable[[str | None, str | None, str | None], str]
    """Year, month and day as written, any of them None."""
    time: Callable[[str, str, str | None, str | None], str]
    """Hour, minute, second or None, and `am`, `pm` or None."""
    digits: Callable[[str], str]
    """A row of digits of a telephone number, one by one."""
    version_digits: Callable[[str], str]
    """The same in a version or an address of a machine."""
    fraction: Callable[[str, str], str]
    """Numerator and denominator."""
    power: Callable[[str], str]
    """An exponent with its sign: what follows the base."""
    per: Callable[[str, str, str], str]
    """A number, its unit and the unit that divides it, as written."""
    short_phone: str
    """Pattern of telephone numbers without a leading zero."""
    point: str
    """Between the groups of a version or an address."""
    group: str
    """Between the groups of a telephone number."""
    block: str
    """Between the numbers of a postal address."""
    to: str
    ratio: str
    decade: str
    minus: str
    version: str
    number: str
    number_one: str
    postcode: str
    english_digits: tuple[str, ...]
    """Digits as English names them, for 3D and 5G."""
    english_ordinals: tuple[str, ...]
    """From first on."""
    english_letters: Mapping[str, str]
    money: Mapping[str, str]
    """By sign, and by code or prefix (`USD`, `HK$`)."""
    units: Mapping[str, str]
    between: Mapping[str, str]
    """Signs between two numbers."""
    alone: Mapping[str, str]
    """Signs anywhere else; what is in neither cannot be read."""
    bound: Mapping[str, str]
    """What follows the number of `≤ 5`."""
    about: str
    """Before the number of `≈ 5`."""
    counters: str
    """Characters that may follow such a number and belong to it."""
    hashtag: str
    sharp: str
    currency_words: str
    """Pattern of the words for money that a text may write behind a sign (`¥500円`)."""
    large: str
    """Characters for powers of ten thousand and less (`万億`)."""
    date_follows: re.Pattern[str]
    """What, after `1/10`, says that it is a day."""
    fraction_follows: re.Pattern[str]
    """What, after `1/20`, says that it is a fraction."""
    score_before: re.Pattern[str]
    """What, before `3-2`, says that it is a score."""
    score_follows: re.Pattern[str]
    """What, after `3-2`, says that it is a score."""
    ratio_follows: re.Pattern[str]
    """What, after `16:10`, says that it is a ratio."""
    address_before: re.Pattern[str]
    """What, before `5-37`, says that it is part of an address."""
