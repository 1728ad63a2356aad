"""Replaces what a pattern finds without ever bringing two numbers together."""

from __future__ import annotations

import re
from collections.abc import Callable

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
