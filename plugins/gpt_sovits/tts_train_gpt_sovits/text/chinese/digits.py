"""Whole numbers and decimals in Chinese characters: as a quantity, or digit by digit."""

from __future__ import annotations

import re
from collections.abc import Callable

from tts_train_gpt_sovits.text.libraries import library

Rule = tuple[re.Pattern[str], Callable[[re.Match[str]], str | None]]
"""What a stretch of text looks like, and its reading; None where it is something else after all."""

NUMBER = r"\d+(?:\.\d+)?"
HAN_DIGITS = frozenset("零一二三四五六七八九十百千万亿两半幺萬億兩")
_DIGITS = str.maketrans("0123456789", "零一二三四五六七八九")
_LONGEST_CARDINAL = 12
# 两 stands for 二 before the large powers, but not inside a number (十二万, 三万二千).
_LEADING_TWO = re.compile(r"^二(?=[千万亿])")


def row(digits: str) -> str:
    """Read digits one by one: `101` is 一零一."""
    return digits.translate(_DIGITS)


def telephone_row(digits: str) -> str:
    """Read digits one by one as in a telephone number, where 1 is 幺."""
    return row(digits).replace("一", "幺")


def cardinal(digits: str) -> str:
    """Read a whole number of at most twelve digits as a quantity: `110` is 一百一十, `12` is 十二."""
    cn2an = library("cn2an", purpose="Reading numbers in Chinese", extra="zh")
    spoken = str(cn2an.an2cn(digits.lstrip("0") or "0", "low"))
    return _LEADING_TWO.sub("两", spoken[1:] if spoken.startswith("一十") else spoken)


def number(text: str) -> str:
    """Read digits with an optional decimal point; rows of digits (a leading zero, more than twelve) one by one."""
    whole, _, decimals = text.partition(".")
    row_of_digits = len(whole) > _LONGEST_CARDINAL or (len(whole) > 1 and whole.startswith("0") and not decimals)
    spoken = row(whole) if row_of_digits else cardinal(whole)
    return f"{spoken}点{row(decimals)}" if decimals else spoken


def counted(text: str) -> str:
    """Read the number before a measure word, where 2 is 两."""
    spoken = number(text)
    return "两" if spoken == "二" else spoken


def rule(pattern: str, read: Callable[[re.Match[str]], str | None]) -> Rule:
    """Make a rule; `\\d` and `\\s` are ASCII's, for other digits have no reading here."""
    return re.compile(pattern, re.ASCII), read
