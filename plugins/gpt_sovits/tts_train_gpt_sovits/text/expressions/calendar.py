"""Dates and times of day written with signs."""

from __future__ import annotations

import re

from tts_train_gpt_sovits.text.expressions.apart import replaced
from tts_train_gpt_sovits.text.expressions.vocabulary import Vocabulary

_MONTH, _DAY = r"(0?[1-9]|1[0-2])", r"(0?[1-9]|[12]\d|3[01])"
_DATE = (
    re.compile(rf"(?<![\d./-])(\d{{4}})(-){_MONTH}-{_DAY}(?![\d/-])"),
    re.compile(rf"(?<![\d./])(\d{{4}})(/){_MONTH}/{_DAY}(?![\d/])"),
    re.compile(rf"(?<![\d./])(\d{{4}})(\. ?){_MONTH}\. ?{_DAY}(?![\d/]|\.\d)\.?"),
)
_MONTH_YEAR = re.compile(r"(?<![\d./-])(0[1-9]|1[0-2])/([12]\d{3})(?![\d/.-])")
_YEAR_MONTH = re.compile(r"(?<![\d./-])([12]\d{3})(?:/(0?[1-9]|1[0-2])|-(0[1-9]|1[0-2]))(?![\d/.-])")
_DAYS = re.compile(rf"(?<![\d./]){_MONTH}/{_DAY}(\s?[-~–]\s?){_MONTH}/{_DAY}(?![\d/]|\.\d)")
_DAY_OR_FRACTION = re.compile(r"(?<![\d./])(\d{1,2})/(\d{1,2})(?![\d/]|\.\d)")
_TIME = re.compile(
    r"(?<![\d:.])(?:(?<![A-Za-z])([aApP])\.?[mM]\.?\s?)?([01]?\d|2\d):([0-5]\d)(?::([0-5]\d))?(?![\d:]|\.\d)(?:\s?([aApP])\.?\s?[mM](?![A-Za-z])\.?)?"
)
_HOUR = re.compile(r"(?<![\d:.])(1[0-2]|0?[1-9])\s?([aApP])\.?[mM](?![A-Za-z])\.?")
_LARGEST_MONTH, _FEWEST_DAYS = 12, 12


def read_dates(text: str, words: Vocabulary) -> str:
    """Read `2024-05-01`, `2024. 5. 1.`, `2024/5` and, where it is no fraction, `12/25`; two days may bound a time."""
    for pattern in _DATE:
        text = replaced(pattern, lambda m: words.date(m[1], m[3], m[4]), text)
    text = replaced(_MONTH_YEAR, lambda m: words.date(m[2], m[1], None), text)
    text = replaced(_YEAR_MONTH, lambda m: words.date(m[1], m[2] or m[3], None), text)
    text = replaced(_DAYS, lambda m: words.date(None, m[1], m[2]) + words.to + words.date(None, m[4], m[5]), text)
    return replaced(_DAY_OR_FRACTION, lambda m: _day(m, words), text)


def read_times(text: str, words: Vocabulary) -> str:
    """Read `15:30`, `1:05:09` and `3:30 pm`; `16:10` before a word for proportions is left."""

    def clock(match: re.Match[str]) -> str:
        if words.ratio_follows.match(match.string, match.end()):
            return match[0]
        return words.time(match[2], match[3], match[4], _half(match[1] or match[5]))

    return replaced(_HOUR, lambda m: words.time(m[1], "00", None, _half(m[2])), replaced(_TIME, clock, text))


def _day(match: re.Match[str], words: Vocabulary) -> str:
    """Tell a day from a fraction by what follows, then by what the numbers allow."""
    month, day = int(match[1]), int(match[2])
    if (month, day) == (24, 7):  # all day, every day
        return "24, 7"
    possible = 1 <= month <= _LARGEST_MONTH and 1 <= day <= 31
    if not possible or words.fraction_follows.match(match.string, match.end()):
        return match[0]
    padded = match[1].startswith("0") or match[2].startswith("0")
    if padded or words.date_follows.match(match.string, match.end()) or day > _FEWEST_DAYS or month >= day:
        return words.date(None, match[1], match[2])
    return match[0]


def _half(letter: str | None) -> str | None:
    return f"{letter.lower()}m" if letter else None
