"""Dates, decades and times of day."""

from __future__ import annotations

import re

from tts_train_gpt_sovits.text.english.numbers import (
    Rule,
    after,
    cardinal,
    decade,
    follows,
    number,
    ordinal,
    rule,
    year,
)

_MONTHS_TEXT = """
January February March April May June July August September October November December
"""
_MONTHS = tuple(_MONTHS_TEXT.split())
# March and May are words as well: in small letters they are months only before a year.
_SHORT = "Jan|Feb|Apr|Jun|Jul|Aug|Sept|Sep|Oct|Nov|Dec"
_UNLIKE_VERBS = "|".join(name for name in _MONTHS if name not in {"March", "May"})
_DATED_VERBS = r"(?:may|march)(?=(?: \d{1,2}(?:st|nd|rd|th)?)?,? \d{4})"
_MONTH = rf"(?:(?i:{_UNLIKE_VERBS}|{_SHORT})|March|MARCH|Mar|MAR|May|MAY|{_DATED_VERBS})\b\.?"
_DAYS_TEXT = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday"
_DAYS = {name[:3]: name for name in _DAYS_TEXT.split()}
_WEEKDAY = r"(?:{}|Mon|Tues?|Wed|Thu(?:rs?)?|Fri|Sat|Sun)\b\.?".format("|".join(_DAYS.values()))
_FULL = {name[:3]: name for name in _MONTHS}
_DAY = r"(?:0?[1-9]|[12]\d|3[01])"
_RATIO = re.compile(r"\b(?:ratio|aspect|odds|scale|score|dilution)\b", re.IGNORECASE)
# A number of tens with an s is a decade, unless what stands around it speaks of a time span.
_SPAN_BEFORE = (
    r"[\d:=<>~+*/] ?|\d ?[-–] ?|\b(?:for|in|after|within|about|around|wait|waits|waited|lasts?|lasted|takes?|took|than|"
    r"per|is|was|are|exactly|only|another|under|over|delay|timeout|every|each|extra|additional) "
)
_MANY = {"100": "hundreds", "1000": "thousands"}
_SPAN_AFTER = re.compile(
    r" (?:clips?|timer|timeout|videos?|audio|delay|window|interval|break|pause|limit|recordings?|ads?)\b"
)


def _month(name: str) -> str:
    return _FULL[name[:3].title()]


def _spoken_day(day: str, month: int, year_digits: str) -> str | None:
    if not (1 <= month <= 12 and 1 <= int(day) <= 31):
        return None
    return f"{_MONTHS[month - 1]} {ordinal(day)}, {_full_year(year_digits)}"


def _full_year(text: str) -> str:
    if len(text) == 2:
        # The same border as C's strptime.
        text = ("19" if int(text) > 68 else "20") + text
    return year(text)


def _numeric_date(match: re.Match[str]) -> str | None:
    """Read 5/1/2024 with the month first, as Americans write it, or second where only that gives a date."""
    first, second, year_digits = match[1], match[3], match[4]
    if match[2] == ".":
        if len(year_digits) == 2:
            # 1.2.24 has the form of a date on the Continent.
            return None  # a version
        first, second = second, first
    return _spoken_day(second, int(first), year_digits) or _spoken_day(first, int(second), year_digits)


def _day_of_month(match: re.Match[str]) -> str:
    last = f" to {ordinal(match[3])}" if match[3] else ""
    return f"{_month(match[1])} {ordinal(match[2])}{last}"


def _day_first(match: re.Match[str]) -> str:
    article = "" if follows(match, r"\bthe ") else "the "
    last = f" to the {ordinal(match[2])}" if match[2] else ""
    return f"{article}{ordinal(match[1])}{last} of {_month(match[3])}"


def _month_and_day(match: re.Match[str]) -> str | None:
    if int(match[1]) > 12 or not follows(match, r"\b(?:on|by|until|till|since|before|after|due|dated) "):
        return None
    return f"{_MONTHS[int(match[1]) - 1]} {ordinal(match[2])}"


def _with_s(match: re.Match[str]) -> str | None:
    text = match[1]
    if text in _MANY:
        return _MANY[text] if after(match).startswith(" of ") else None
    if len(text) == 4 or match[0].startswith("'"):
        return decade(text)
    if int(text) < 20 or follows(match, _SPAN_BEFORE) or _SPAN_AFTER.match(after(match)):
        return None
    return decade(text)


def _time(match: re.Match[str]) -> str | None:
    hour, minute, second, half = int(match[1]), match[2], match[3], match[4]
    # A ratio of 16:10 has the form of a time.
    if hour > 24 or (not half and _RATIO.search(match.string)):
        return None
    if second and not half:
        parts = [(text.lstrip("0") or "0", name) for text, name in ((match[1], "hour"), (minute, "minute"))]
        parts.append((re.sub(r"^0(?=\d)", "", second), "second"))
        *first, last = [f"{number(text)} {name}{'' if text == '1' else 's'}" for text, name in parts]
        return f"{' '.join(first)} and {last}"
    return clock(hour, minute, half or "") + _full_stop(match)


def clock(hour: int, minute: str, half: str) -> str:
    """Say a time of day; hours from 13 on, and 0, are told on the clock of twelve hours."""
    half = half.upper() or ("P" if 12 < hour < 24 else "A" if hour in {0, 24} else "")
    minutes = "" if minute == "00" else f" oh {cardinal(minute[1])}" if minute[0] == "0" else f" {cardinal(minute)}"
    on_the_hour = "" if minutes or half else " o'clock"
    return f"{cardinal(str((hour - 1) % 12 + 1))}{minutes}{on_the_hour}{f' {half} M' if half else ''}"


def _hour(match: re.Match[str]) -> str:
    return f"{cardinal(match[1])} {match[2].upper()} M{_full_stop(match)}"


def _full_stop(match: re.Match[str]) -> str:
    return "." if match[0].endswith(".") and not after(match).strip() else ""


def _years(match: re.Match[str]) -> str | None:
    """Read 1914-18 as a range of years and 2023-05 as a month."""
    if int(match[2]) > int(match[1][2:]):
        return f"{year(match[1])} to {cardinal(match[2])}"
    return _month_and_year(match[2], match[1])


def _month_and_year(month: str, year_digits: str) -> str | None:
    return f"{_MONTHS[int(month) - 1]} {year(year_digits)}" if 1 <= int(month) <= 12 else None


def _names_range(match: re.Match[str]) -> str:
    return " to ".join(_DAYS.get(name[:3]) or _month(name) for name in (match[1], match[2]))


DATES: tuple[Rule, ...] = (
    # A day that is said by its number.
    rule(r"9/11(?![\d/])", lambda _: "nine eleven"),
    rule(
        r"(\d{4})([-/.])(\d{1,2})\2(\d{1,2})(?![\d/.-]*\d)(?:T(?=\d\d:))?", lambda m: _spoken_day(m[4], int(m[3]), m[1])
    ),
    rule(r"(\d{1,2})([-/.])(\d{1,2})\2(\d{4}|\d{2})(?![\d/.:-]*\d)", _numeric_date),
    rule(rf"({_MONTH}) ({_DAY})(?:st|nd|rd|th)?(?:[-–]({_DAY})(?:st|nd|rd|th)?)?(?![\d:%]|[.,/-]\d|\w)", _day_of_month),
    rule(rf"({_DAY})(?:st|nd|rd|th)?(?: ?[-–] ?({_DAY})(?:st|nd|rd|th)?)?(?: of)? ({_MONTH})(?![a-z])", _day_first),
    rule(rf"((?:{_SHORT}|Mar)\b\.?)(?=,? \d{{4}}\b)", lambda m: _month(m[1])),
    rule(
        rf"({_MONTH})-({_DAY})-(\d{{4}}|\d\d)(?![\w-])", lambda m: f"{_month(m[1])} {ordinal(m[2])}, {_full_year(m[3])}"
    ),
    rule(
        rf"({_DAY})-({_MONTH})-(\d{{4}}|\d\d)(?![\w-])", lambda m: f"{_month(m[2])} {ordinal(m[1])}, {_full_year(m[3])}"
    ),
    rule(r"'?(\d0|100|1000|1\d\d0|2[01]\d0)'?s\b", _with_s),
    # 1914-18 is a span, 2023-05 a month.
    rule(r"(1\d{3}|20\d\d)[-–](\d\d)\b(?![-–]?[\d%])", _years),
    rule(rf"(0?[1-9]|1[0-2])/({_DAY})(?![\d/])", _month_and_day),
    rule(r"(\d{1,2})/((?:19|20)\d\d)(?![\d/])", lambda m: _month_and_year(m[1], m[2])),
    rule(rf"({_MONTH}|{_WEEKDAY}) ?[-–] ?({_MONTH}|{_WEEKDAY})(?![\w-])", _names_range),
)
TIMES: tuple[Rule, ...] = (
    rule(r"(\d{1,2}):([0-5]\d)(?::([0-5]\d(?:\.\d+)?))?(?![\d:])(?:\s*([ap])\.?\s?m\b\.?)?", _time, re.IGNORECASE),
    # The empty group stands for seconds, so that one function reads both forms.
    rule(r"(1[0-2]|0?[1-9])\.([0-5]\d)()\s*([ap])\.?m\b\.?", _time, re.IGNORECASE),
    rule(r"(1[0-2]|0?[1-9])\s*([ap])\.?m\b\.?", _hour, re.IGNORECASE),
)
