"""How a rule of the English normaliser looks, and what stands around a match."""

from __future__ import annotations

import re
from collections.abc import Callable

Rule = tuple[re.Pattern[str], Callable[[re.Match[str]], "str | None"]]
"""A pattern, tried where a word or a sign begins, and the words for it; None leaves it to the rules behind it."""

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
