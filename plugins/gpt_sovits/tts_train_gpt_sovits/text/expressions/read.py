"""Reads the signs of a text in order: dates before ranges, money before units, sums before lone signs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache

from tts_train_gpt_sovits.text.expressions.amounts import read_dates, read_measures, read_money, read_times
from tts_train_gpt_sovits.text.expressions.signs import fold
from tts_train_gpt_sovits.text.expressions.vocabulary import Vocabulary, replaced

_NUMBER = r"\d+(?:\.\d+)?"
_PHONE = (  # abroad, by area, with the area in brackets
    r"(?<![\d-])(?:\+\d{1,3}[ -]?(?:\d{1,4}-\d{1,4}-\d{3,4}|0?\d{9,11})"
    r"|0\d{1,4}-\d{1,4}-\d{3,4}|0\d{1,3}-\d{6,8}|\d{3}-\d{3,4}-\d{4}"
    r"|\(0\d{1,4}\) ?\d{1,4}-\d{3,4}|0\d{1,4}\(\d{1,4}\)\d{3,4}|0\d{1,2}\)\s?\d{3,4}-\d{4}"
)
_POSTCODE = re.compile(r"〒\s?(\d{3})-(\d{4})(?!\d)|〒\s?(\d+)")
_VERSION = re.compile(rf"(?<![\d.])(?:(?<![A-Za-z])[vV](?:er)?\.? ?(?={_NUMBER}))?(\d+(?:\.\d+){{2,}})(?![\d]|\.\d)")
_VERSION_LETTER = re.compile(
    r"(?<![A-Za-z\d])(?:(?:v|[vV]er\.?|[vV]ersion) ?(?=\d)|V(?=\d+\.\d))(?=\d+(?:\.\d+)*(?![A-Za-z\d]))"
)
_SUM = re.compile(rf"(?<![\d.]){_NUMBER}(?:\s?[-+−×÷*/]\s?{_NUMBER})+(?P<compared>\s?[=≈≠<>≤≥])?")
_SCORE = re.compile(r"(?<![\d.:/-])(\d{1,3})\s?[-–:]\s?(\d{1,3})(?![\d.:/-])")
_RATIO = re.compile(rf"(?<![\d:]){_NUMBER}(?:\s?:\s?{_NUMBER})+(?![\d:])")
_FRACTION = re.compile(r"(?<![\d./])(\d+)\s?/\s?(\d+)(?![\d/]|\.\d)")
_BLOCKS = re.compile(r"(?<![\d-])\d+(?:-\d+){2,}(?![\d-])")
_PAIR = re.compile(rf"(?<![\d.-])({_NUMBER})(-|−|\s-\s)({_NUMBER})(?![\d-]|\.\d)")
_DIFFERENCE_FOLLOWS = re.compile(r"(?:は|은|는)\s?[?？]|\s?=")
_UNIT_BEFORE_TO = r"(?P<unit>[^\d\s、。,.!?~+=:/-]{0,5}?)"
_TO = re.compile(rf"(?<=\d){_UNIT_BEFORE_TO}\s?~\s?(?=[-−]?\d)")
_DASH_AFTER_UNIT = re.compile(r"(?<=\d)([%℃°年月日時分円時년월일시분원]|[a-z]{1,2})\s?[-–—―]\s?(?=\d)")
_EN_DASH = re.compile(r"(?<=\d)\s?–\s?(?=\d)")
_NOTHING_BEFORE = r"(?<![A-Za-z\d)])(?<![A-Za-z\d)]\s)"
_ABOUT = re.compile(rf"{_NOTHING_BEFORE}≈\s?(?=\d)")
_MINUS = re.compile(
    r"(?:(?<=[\s(\[~、。,はがでをにともの])|^)-(?=\d)"
    r"|(?<![A-Za-z\d])(?:−|-(?=\d+(?:\.\d+)?\s?(?:[℃°%度点]|도|점)))\s?(?=\d)"
)


def read_signs(text: str, words: Vocabulary) -> str:
    """Give `text` with the signs about numbers as words; digits stay, apart from rows of digits.

    What no rule knows is left as it is: the caller refuses it.
    """
    for step in _steps(words):
        text = step(text)
    return text


def _steps(words: Vocabulary) -> Iterator[Callable[[str], str]]:
    yield fold
    # Sums first, since a date or a range could be found inside one; telephone numbers before dates, whose form they may
    # have.
    yield lambda text: replaced(_SUM, lambda m: _sum(m, words), text)
    yield lambda text: _numbers_in_rows(text, words)
    yield lambda text: read_dates(text, words)
    yield lambda text: _scores(text, words)
    # After scores and before ratios: all three may be 2:1.
    yield lambda text: read_times(text, words)
    yield lambda text: read_money(text, words)
    yield lambda text: replaced(_RATIO, lambda m: re.sub(r"\s?:\s?", words.ratio, m[0]), text)
    yield lambda text: _ranges(text, words)
    yield lambda text: _bounds(text, words)
    yield lambda text: read_measures(text, words)
    yield lambda text: replaced(_FRACTION, lambda m: words.fraction(m[1], m[2]), text)
    yield lambda text: _MINUS.sub(words.minus, text)
    yield lambda text: _between(text, words)
    # Last: what is left stands for itself.
    yield lambda text: _alone(text, words)


def _numbers_in_rows(text: str, words: Vocabulary) -> str:
    """Telephone numbers, postcodes, versions and addresses of machines."""

    def phone(match: re.Match[str]) -> str:
        plus = words.alone["+"] if match[0].startswith("+") else ""
        return plus + words.group.join(words.digits(group) for group in re.findall(r"\d+", match[0]))

    def postcode(match: re.Match[str]) -> str:
        groups = [words.digits(group) for group in match.groups() if group]
        following = match.string[match.end() : match.end() + 1]
        return words.postcode + words.group.join(groups) + (" " if following.isalnum() else "")

    def version(match: re.Match[str]) -> str:
        named = words.version if match[0][0] in "vV" else ""
        return named + words.point.join(words.version_digits(group) for group in match[1].split("."))

    def dotted_date(match: re.Match[str]) -> bool:
        groups = match[1].split(".")
        sizes = [len(group) for group in groups]
        # 2024.5.1 is a day and 2024.13.1 a version.
        return sizes[0] == 4 and len(sizes) == 3 and max(sizes[1:]) <= 2 and 1 <= int(groups[1]) <= 12

    phones = re.compile(rf"{_PHONE}|{words.short_phone})(?![\d-])")
    text = replaced(_POSTCODE, postcode, replaced(phones, phone, text))
    text = replaced(_VERSION, lambda m: m[0] if dotted_date(m) else version(m), text)
    return _VERSION_LETTER.sub(words.version, text)


def _scores(text: str, words: Vocabulary) -> str:
    def score(match: re.Match[str]) -> str:
        before = words.score_before.search(match.string[: match.start()])
        if before or words.score_follows.match(match.string, match.end()):
            return match[1] + words.ratio + match[2]
        return match[0]

    return replaced(_SCORE, score, text)


def _ranges(text: str, words: Vocabulary) -> str:
    """Read `3-5`, `3日~5日`, `1-2-3` (blocks of an address) and `5 - 3` (a difference)."""

    def pair(match: re.Match[str]) -> str:
        first, sign, second = match.groups()
        counted = re.match(rf"\s?[%℃{words.counters}]", match.string[match.end() :])
        down = float(first) > float(second)
        # A real minus sign, or blanks around a hyphen, make a difference of it, unless things are counted.
        if sign != "-" and (down or not counted):
            return match[0]
        if down and _DIFFERENCE_FOLLOWS.match(match.string, match.end()):
            return first + words.between["-"] + second
        address = words.address_before.search(match.string[: match.start()])
        # 5-3 counts down, and so is a block and a house.
        return first + (words.block if down or (address and not counted) else words.to) + second

    text = replaced(_BLOCKS, lambda m: m[0].replace("-", words.block), text)
    text = replaced(_PAIR, pair, text)
    text = _TO.sub(lambda m: m["unit"] + words.to, text)
    text = _DASH_AFTER_UNIT.sub(lambda m: m[1] + words.to, text)
    return _EN_DASH.sub(words.to, text)


def _sum(match: re.Match[str], words: Vocabulary) -> str:
    """Take a hyphen and a slash for signs of a sum beside another sign, or before what it is equal to."""
    return _between(match[0], words, tight=True) if match["compared"] or re.search("[+×÷]", match[0]) else match[0]


def _between(text: str, words: Vocabulary, *, tight: bool = False) -> str:
    """Read the signs between numbers; a hyphen is one with blanks around it, or in a sum (`tight`)."""
    for sign, word in words.between.items():
        if sign == "/" and not tight:
            continue
        blank = r"\s?" if tight or sign != "-" else r"\s"
        if sign == "×":  # of anything by a number, or of letters
            text = re.sub(r"\s?×\s?(?=[-−√]?\d)|(?<=[A-Za-z\d)])\s?×\s?(?=[A-Za-z(])", word, text)
        text = re.sub(rf"(?<=\d){blank}{re.escape(sign)}{blank}(?=[-−√]?\d)", word, text)
    return text


def _bounds(text: str, words: Vocabulary) -> str:
    """Read `≤ 5` and `≈ 5` with nothing before them to compare: 5 or less, about 5."""
    pattern = _bound_pattern("".join(words.bound), (*words.units, *words.money.values()), words.counters)
    text = replaced(pattern, lambda m: m[2] + words.bound[m[1]], text)
    return _ABOUT.sub(words.about, text)


@cache
def _bound_pattern(signs: str, names: tuple[str, ...], counters: str) -> re.Pattern[str]:
    unit = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    number = rf"{_NUMBER}(?:\s?(?:{unit})(?![A-Za-z])|[{counters}])?"
    return re.compile(rf"{_NOTHING_BEFORE}([{re.escape(signs)}])\s?({number})")


def _alone(text: str, words: Vocabulary) -> str:
    """Read the signs that stand by themselves; `<` and `>` only beside a number or a letter of a sum."""
    for sign, word in words.alone.items():
        if sign in "<>":
            text = re.sub(rf"(?<=[\dA-Za-z)])\s?{sign}\s?(?=[-\dA-Za-z(])(?![^<>]*>)", word, text)
        else:
            text = text.replace(sign, word)
    return text
