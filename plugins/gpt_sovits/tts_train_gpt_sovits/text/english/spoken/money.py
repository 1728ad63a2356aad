"""Amounts of money, percentages, fractions and ratios."""

from __future__ import annotations

import re

from tts_train_gpt_sovits.text.english.spoken.numbers import (
    MIXED,
    NUMBER,
    cardinal,
    fraction,
    number,
    quantity,
    running_number,
)
from tts_train_gpt_sovits.text.english.spoken.rules import Rule, after, before, describes_a_noun, rule

_CENT = ("cent", "cents")
_NONE = ("", "")
_DOLLAR = ("dollar", "dollars", *_CENT)
_CURRENCIES: dict[str, tuple[str, str, str, str]] = {
    "$": _DOLLAR, "£": ("pound", "pounds", "penny", "pence"), "€": ("euro", "euros", *_CENT), "¥": ("yen", "yen",
    *_NONE),
    "₹": ("rupee", "rupees", "paisa", "paise"), "₩": ("won", "won", *_NONE), "₽": ("ruble", "rubles", *_NONE),
    "₺": ("lira", "lira", *_NONE), "₫": ("dong", "dong", *_NONE), "₱": ("peso", "pesos", *_NONE),
    "₪": ("shekel", "shekels", *_NONE), "฿": ("baht", "baht", *_NONE), "₿": ("bitcoin", "bitcoin", *_NONE),
    "₴": ("hryvnia", "hryvnias", *_NONE), "₦": ("naira", "naira", *_NONE), "¢": ("cent", "cents", *_NONE),
}  # fmt: skip
_COUNTRIES = {
    "US": "U S", "HK": "Hong Kong", "NT": "New Taiwan", "CA": "Canadian", "C": "Canadian", "AU": "Australian",
    "A": "Australian", "NZ": "New Zealand", "SG": "Singapore", "S": "Singapore", "MX": "Mexican",
}  # fmt: skip
_COINED = {f"{code}$": tuple(f"{land} {w}" for w in _DOLLAR[:2]) + _CENT for code, land in _COUNTRIES.items()}
_CODES = {
    "USD": _COINED["US$"], "EUR": _CURRENCIES["€"], "GBP": ("British pound", "British pounds", "penny", "pence"),
    "JPY": _CURRENCIES["¥"], "INR": _CURRENCIES["₹"], "KRW": _CURRENCIES["₩"], "CAD": _COINED["C$"],
    "AUD": _COINED["A$"],
    "HKD": _COINED["HK$"], "SGD": _COINED["S$"], "NZD": _COINED["NZ$"], "CHF": ("Swiss franc", "Swiss francs", *_NONE),
    "CNY": ("yuan", "yuan", *_NONE), "RMB": ("yuan", "yuan", *_NONE), "CN¥": ("yuan", "yuan", *_NONE),
}  # fmt: skip
_COINED["R$"] = ("Brazilian real", "Brazilian reais", *_NONE)
NAMES = {**_CURRENCIES, **_COINED, **_CODES}
"""Each sign and code with one and many of it, and of its hundredth."""
_SIGN = "|".join(re.escape(sign) for sign in sorted({**_COINED, **_CURRENCIES, "CN¥": 0}, key=len, reverse=True))
_CODE = "|".join(code for code in _CODES if code.isalpha())
_SCALES = {"k": "thousand", "m": "million", "mm": "million", "mn": "million", "mln": "million", "mil": "million",
    "b": "billion",
           "bn": "billion", "t": "trillion", "tn": "trillion", "trn": "trillion"}  # fmt: skip
_SCALE_WORDS = "hundred|thousand|million|billion|trillion|lakh|crore"
_SCALE = rf"(?:[ -]?({_SCALE_WORDS})\b|(?: ?(mm|mn|mln|mil|bn|tn|trn|MM|Mn|Bn|BN|MN|TN|[MBT])|([kKmbt]))(?![A-Za-z\d]))"
_UP_TO = rf"(?: ?[-–] ?({NUMBER})(?![\d,.]*[-–]?\d))?"


def _money(match: re.Match[str]) -> str | None:
    """Say what `$` or `EUR` stands before: sign, minus, amount, upper end of a range, scale."""
    minus, sign, inner_minus, amount, upper, *scales = match.groups()
    if minus and re.search(r"[\w%)]$", before(match)):
        return None  # the upper end of a range
    words = _amount(match, NAMES[sign.strip()], amount, upper, scales)
    return f"negative {words}" if minus or inner_minus else words


def _money_behind(match: re.Match[str]) -> str | None:
    amount, upper, *scales, sign = match.groups()
    return _amount(match, NAMES[sign], amount, upper, scales)


def _amount(
    match: re.Match[str], names: tuple[str, ...], amount: str, upper: str | None, scales: list[str | None]
) -> str | None:
    one, many, small_one, small_many = names
    scale = next((_SCALES.get(s.lower(), s) for s in scales if s), "")
    noun = one if describes_a_noun(match) else many
    if upper:
        return f"{number(amount)} to {number(upper)}{' ' + scale if scale else ''} {noun}"
    whole, point, small = amount.replace(",", "").partition(".")
    whole = whole or "0"
    if scale or len(small.rstrip("0")) > 2 or (point and not small_one and int(small)):
        return f"{number(amount)}{' ' + scale if scale else ''} {noun}"
    small = small.rstrip("0")
    cents = small.ljust(2, "0").lstrip("0")
    parts = [f"{cardinal(whole)} {one if whole == '1' else noun}"] if int(whole) or not cents else []
    parts += [f"{cardinal(cents)} {small_one if cents == '1' else small_many}"] if cents else []
    return " and ".join(parts)


def _pence(match: re.Match[str]) -> str | None:
    return f"{cardinal(match[1])} {'penny' if match[1] == '1' else 'pence'}" if "£" in match.string else None


def _fraction(match: re.Match[str]) -> str:
    top, bottom = match[1], match[2]
    if "." in top + bottom:
        return f"{number(top)} over {number(bottom)}"
    if re.match(r"\s*=", after(match)) or "÷" in match.string:
        return f"{cardinal(top)} divided by {cardinal(bottom)}"
    return f"{cardinal(top)} out of {cardinal(top)}" if top == bottom else fraction(top, bottom)


def _ratio(match: re.Match[str]) -> str:
    return " to ".join(number(part) for part in match[0].split(":"))


def _scaled(match: re.Match[str]) -> str | None:
    """Say 1.5M views and 2bn people; K is said as the letter, and M and B where a name may be meant (3M, 7B)."""
    scale, people = match[2], re.match(r" [a-z]+s\b| people\b", after(match))
    if scale in {"M", "m"} and not (people or "." in match[1]):
        return None
    return f"{number(match[1])} {_SCALES[scale.lower()]}"


MONEY: tuple[Rule, ...] = (
    rule(rf"(-)?((?:{_SIGN}|(?:{_CODE})(?= ?\d)) ?)(-)?({NUMBER}){_UP_TO}{_SCALE}?", _money),
    rule(rf"({NUMBER}){_UP_TO}{_SCALE}? ?({_SIGN}|(?:{_CODE})\b)(?! ?\d)", _money_behind),
    rule(r"(\d+)p\b", _pence),
    rule(rf"({NUMBER}) ?(mn|mln|bn|tn|trn|Bn|M)(?![A-Za-z\d])", _scaled),
)
SHARES: tuple[Rule, ...] = (
    rule(r"(?:50[/:-]50|24/7|20/20)(?![/:\d-])", lambda m: " ".join(map(cardinal, re.split("[/:-]", m[0])))),
    rule(rf"({MIXED})(?!\w)", lambda m: quantity(m[1])[0]),
    rule(r"\d+(?:/\d+){2,}(?![\d/])", lambda m: " slash ".join(map(running_number, m[0].split("/")))),
    rule(r"(\d+)/(\d+)(?:st|nd|rd|th)s?\b", lambda m: fraction(m[1], m[2]), re.IGNORECASE),
    rule(r"(401|403)\((k|b)\)", lambda m: f"four oh {cardinal(m[1][2])} {m[2].upper()}"),
    rule(r"(\d+(?:\.\d+)?) ?[/⁄] ?(\d+(?:\.\d+)?)(?!\d|[/⁄]\d|\.\d)", _fraction),
    rule(r"\d+(?:\.\d+)?(?::\d+(?:\.\d+)?)+(?![A-Za-z\d])", _ratio),
)
LONE = {sign: names[0] for sign, names in _CURRENCIES.items()}
"""What a sign is called where no amount stands beside it."""


def inside_a_word(match: re.Match[str]) -> bool:
    """Tell whether letters stand on both sides, as in a name that a sign is a letter of."""
    return before(match)[-1:].isalpha() and after(match)[:1].isalpha()
