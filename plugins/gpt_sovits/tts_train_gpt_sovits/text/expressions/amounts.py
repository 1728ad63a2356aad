"""Dates, times, money and measures that are written with signs."""

from __future__ import annotations

import re
from functools import cache

from tts_train_gpt_sovits.text.expressions.vocabulary import Vocabulary, replaced

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
    # The two numbers are read one after the other.
    if (month, day) == (24, 7):  # all day, every day
        return "24, 7"
    possible = 1 <= month <= _LARGEST_MONTH and 1 <= day <= 31
    if not possible or words.fraction_follows.match(match.string, match.end()):
        return match[0]
    padded = match[1].startswith("0") or match[2].startswith("0")
    # 1/2 to 11/12 may be either; a day above 12, a zero in front or a fraction of more than one can only be a day.
    if padded or words.date_follows.match(match.string, match.end()) or day > _FEWEST_DAYS or month >= day:
        return words.date(None, match[1], match[2])
    return match[0]


def _half(letter: str | None) -> str | None:
    return f"{letter.lower()}m" if letter else None


_SCALES = {"k": 3, "m": 6, "mn": 6, "million": 6, "b": 9, "bn": 9, "billion": 9, "t": 12, "tn": 12, "trillion": 12}
_RANGE = r"\s?[-–~]\s?"


def read_money(text: str, words: Vocabulary) -> str:
    """Read `$5`, `5$`, `US$5`, `5 EUR`, `$1.5M`, `¥100-200`; the word follows the amount."""
    before, after = _patterns(tuple(words.money), words.large, words.currency_words)
    text = replaced(before, lambda m: _amounts(m, words), text)
    return replaced(after, lambda m: f"{_scaled(m['first'], m['scale1'])}{words.money[m['money']]}", text)


@cache
def _patterns(names: tuple[str, ...], large: str, currency_words: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    signs = "|".join(_name(name) for name in sorted(names, key=len, reverse=True))
    scale = "|".join(sorted(_SCALES, key=len, reverse=True))

    def amount(group: str, number: int) -> str:
        whole = rf"\d+(?:\.\d+)?(?:[{large}]+(?:\d+(?:\.\d+)?)?)*"
        return rf"(?P<{group}>{whole})(?:\s?(?P<scale{number}>(?i:{scale}))(?![A-Za-z\d²³/]))?"

    before = rf"(?P<minus>[-−])?(?P<money>{signs})\s?(?P<inner>[-−])?{amount('first', 1)}"
    second = rf"(?:{_RANGE}(?:(?P=money)\s?)?{amount('second', 2)})?(?:\s?(?:{currency_words}))?"
    after = rf"(?<![A-Za-z\d.]){amount('first', 1)}\s?(?P<money>{signs})(?![A-Za-z\d])"
    return re.compile(before + second), re.compile(after)


def _amounts(match: re.Match[str], words: Vocabulary) -> str:
    minus = words.minus if match["minus"] or match["inner"] else ""
    scale = match["scale1"] or (match["scale2"] if match["second"] else None)
    spoken = minus + _scaled(match["first"], scale)
    if match["second"]:
        spoken += words.to + _scaled(match["second"], match["scale2"])
    return spoken + words.money[match["money"]]


def _scaled(amount: str, scale: str | None) -> str:
    """Write `1.5` with `M` as 1500000; an amount that has large units keeps them."""
    whole, _, decimals = amount.partition(".")
    if not scale:
        return amount
    if not (whole + decimals).isdigit():
        # 3억M means nothing; both are left as they stand.
        return f"{amount} {scale}"
    places = _SCALES[scale.lower()]
    whole, decimals = whole + decimals[:places].ljust(places, "0"), decimals[places:]
    return (whole.lstrip("0") or "0") + (f".{decimals}" if decimals else "")


def _name(name: str) -> str:
    return (r"(?<![A-Za-z])" if name[0].isalpha() else "") + re.escape(name)


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
    # 3D and 5G are said in English by Japanese and Koreans as well; so is what follows.
    text = replaced(_DIMENSION, lambda m: words.english_digits[int(m[1])] + words.english_letters[m[2]], text)
    text = replaced(_DECADE, lambda m: f"{m[1] or m[2] or m[3]}{words.decade}", text)
    text = replaced(_ENGLISH_ORDINAL, lambda m: words.english_ordinals[int(m[0][:-2]) - 1], text)
    text = replaced(_ANGLE, lambda m: _angle(m, words), text)
    # Units before powers, or the ² of m² would be one.
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
