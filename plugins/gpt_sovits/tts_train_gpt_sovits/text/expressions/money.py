"""Money: a sign, code or prefix before or after an amount, with large units and K, M, B."""

from __future__ import annotations

import re
from functools import cache

from tts_train_gpt_sovits.text.expressions.apart import replaced
from tts_train_gpt_sovits.text.expressions.vocabulary import Vocabulary

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
        return f"{amount} {scale}"
    places = _SCALES[scale.lower()]
    whole, decimals = whole + decimals[:places].ljust(places, "0"), decimals[places:]
    return (whole.lstrip("0") or "0") + (f".{decimals}" if decimals else "")


def _name(name: str) -> str:
    return (r"(?<![A-Za-z])" if name[0].isalpha() else "") + re.escape(name)
