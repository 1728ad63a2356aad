"""Quantities with a unit, and amounts of money, percentages, fractions and ratios."""

from __future__ import annotations

import re

from tts_train_gpt_sovits.text.english.numbers import (
    MIXED,
    NUMBER,
    QUANTITY,
    VULGAR,
    Rule,
    after,
    before,
    cardinal,
    describes_a_noun,
    follows,
    fraction,
    mixed_parts,
    number,
    quantity,
    rule,
    running_number,
)

_PREFIXES = {
    "n": "nano", "µ": "micro", "μ": "micro", "m": "milli", "c": "centi", "d": "deci", "h": "hecto", "k": "kilo",
    "M": "mega", "G": "giga", "T": "tera", "P": "peta", "": "",
}  # fmt: skip
# Each base with the prefixes that are in use; one letter alone is a unit only where it is rarely anything else.
_BASES = (
    ("m", "meter", "nµμmck-"), ("g", "gram", "nµμmk-"), ("L", "liter", "µμmcd-"), ("l", "liter", "µμmcd-"),
    ("W", "watt", "mkMGT-"), ("V", "volt", "mkM-"), ("A", "amp", "mµμ"), ("Hz", "hertz", "kMGT-"),
    ("Pa", "pascal", "hkMG-"), ("J", "joule", "kM"), ("B", "byte", "kMGTP"), ("b", "bit", "kMG"), ("bit", "bit", "kMG"),
    ("Wh", "watt hour", "kMGT-"), ("Ah", "amp hour", "m-"), ("Ω", "ohm", "kM-"), ("s", "second", "nµμm-"),
    ("N", "newton", "k"), ("eV", "electronvolt", "kMG-"), ("cal", "calorie", "k-"), ("F", "farad", "nµμ"),
    ("mol", "mole", "mµμ-"),
)  # fmt: skip
_OTHERS = {
    "KB": "kilobyte", "Kb": "kilobit", "KG": "kilogram", "Kg": "kilogram", "KM": "kilometer", "Km": "kilometer",
    "Ghz": "gigahertz", "GHZ": "gigahertz", "Mhz": "megahertz", "MHZ": "megahertz", "Khz": "kilohertz",
    "KHz": "kilohertz",
    "kbps": "kilobit per second", "Kbps": "kilobit per second", "Mbps": "megabit per second",
    "mbps": "megabit per second",
    "Gbps": "gigabit per second", "bps": "bit per second", "mph": "mile per hour", "MPH": "mile per hour",
    "kph": "kilometer per hour", "kmh": "kilometer per hour", "mpg": "mile per gallon", "rpm": "revolution per minute",
    "RPM": "revolution per minute", "bpm": "beat per minute", "BPM": "beat per minute", "fps": "frame per second",
    "FPS": "frame per second", "dpi": "dot per inch", "ppm": "part per million", "psi": "pound per square inch",
    "lb": "pound", "lbs": "pound", "oz": "ounce", "ft": "foot", "in": "inch", "yd": "yard", "yds": "yard", "mi": "mile",
    "gal": "gallon", "tbsp": "tablespoon", "tsp": "teaspoon", "min": "minute", "mins": "minute", "sec": "second",
    "secs": "second", "hr": "hour", "hrs": "hour", "h": "hour", "ha": "hectare", "px": "pixel", "dB": "decibel",
    "db": "decibel", "mcg": "microgram", "cc": "cubic centimeter", "mmHg": "millimeter of mercury", "mins.": "minute",
    "Nm": "newton meter", "N·m": "newton meter", "fl oz": "fluid ounce",
    "sq ft": "square foot", "sq. ft.": "square foot", "sq m": "square meter", "sq km": "square kilometer",
    "sq mi": "square mile", "cu ft": "cubic foot", "ft.": "foot", "lbs.": "pound", "oz.": "ounce", "hrs.": "hour",
    "°C": "degree celsius", "°F": "degree fahrenheit", "° C": "degree celsius", "° F": "degree fahrenheit",
    "°": "degree",
    "º": "degree", "ºC": "degree celsius", "ºF": "degree fahrenheit", '"': "inch", "″": "inch", "′": "foot",
}  # fmt: skip
_IRREGULAR = {"millimeter of mercury": "millimeters of mercury", "foot": "feet", "inch": "inches",
    "degree celsius": "degrees celsius",
              "degree fahrenheit": "degrees fahrenheit"}  # fmt: skip
_POWERS = {"²": "square", "2": "square", "³": "cubic", "3": "cubic"}
_LENGTHS = frozenset(["meter", "kilometer", "centimeter", "millimeter", "foot", "inch", "yard", "mile"])


def _names() -> dict[str, str]:
    units = {
        ("" if prefix == "-" else prefix) + sign: _PREFIXES["" if prefix == "-" else prefix] + name
        for sign, name, prefixes in _BASES
        for prefix in prefixes
    }
    return units | _OTHERS


UNITS = _names()
"""Each sign of a unit with its name in the singular."""
_UNIT = "|".join(re.escape(sign) for sign in sorted(UNITS, key=len, reverse=True))
_HALVES = (
    "cup teaspoon tablespoon hour mile pound ounce inch year day dozen pint gallon liter minute second meter kilometer"
)


def plural(name: str) -> str:
    """Give the plural of a unit's name (foot per second: feet per second)."""
    head, per, tail = name.partition(" per ")
    shape, space, noun = head.rpartition(" ")
    nouns = noun if noun.endswith("hertz") else _IRREGULAR.get(noun, f"{noun}s")
    many = _IRREGULAR.get(head) or f"{shape}{space}{nouns}"
    return many + per + tail


def _name(sign: str, power: str | None, *, below: bool = False) -> str | None:
    """Give the unit's name in the singular, `below` a slash or not; None where a power stands on what has none."""
    name = UNITS[sign]
    if not power:
        return name
    power = power.lstrip("^")
    if name in _LENGTHS:
        return f"{_POWERS[power]} {name}"
    return f"{name} {'squared' if power in '²2' else 'cubed'}" if below and name == "second" else None


def _measure(match: re.Match[str]) -> str | None:
    text, scale, link, sign, power, over, over_power = match.groups()
    # `in` is a preposition and a quotation mark closes a quotation far more often.
    if (sign in {"in", '"'} and not _is_inch(match)) or follows(match, r"(?:^|[^A-Za-z\d])[A-Za-z]+-"):
        return None
    name = _name(sign, power)
    if over:
        below = _name(over, over_power, below=True)
        name = f"{name} per {below}" if name and below else None
    if name is None:
        return None
    words, one = quantity(text)
    whole, top, bottom = mixed_parts(text)
    # Half a mile, three quarters of a mile: the unit stays in the singular.
    if bottom and not whole and int(top) < int(bottom):
        return f"{'half' if bottom == '2' else f'{words} of'} {_article(name)} {name}"
    return f"{words}{scale or ''} {name if one or link == '-' or describes_a_noun(match) else plural(name)}"


def _is_inch(match: re.Match[str]) -> bool:
    """Take `in` for inches only beside its number or with a full stop, a quotation mark only where none is open."""
    if match[4] == '"':
        return len(re.findall(rf'(?<![\d{VULGAR}])"', before(match))) % 2 == 0
    if after(match).startswith("-"):
        return False  # 3-in-1
    beside = not match[3] or match[3] == "-" or bool(match[5]) or after(match).startswith(".")
    return beside or follows(match, r"(?:ft\.?|foot|feet) ")


def _article(name: str) -> str:
    return "an" if name[0] in "aeio" or name.startswith("hour") else "a"


def _feet_and_inches(match: re.Match[str]) -> str:
    return f"{cardinal(match[1])} foot {quantity(match[2])[0]}"


def _angle(match: re.Match[str]) -> str:
    parts = [(text, name) for text, name in zip(match.groups(), ("degree", "minute", "second"), strict=True) if text]
    return " ".join(f"{number(text)} {name if text == '1' else plural(name)}" for text, name in parts)


def _feet(match: re.Match[str]) -> str | None:
    # The closing mark of a quotation is no foot.
    opened = re.search(r"(?:^|[\s(])'(?:\w|$)", before(match))
    return None if opened else f"{cardinal(match[1])} {'foot' if match[1] == '1' else 'feet'}"


MEASURES: tuple[Rule, ...] = (
    rule(r"(\d+)° ?(\d{1,2})['′](?: ?(\d{1,2}(?:\.\d+)?)(?:[\"″]|''))?", _angle),
    rule(r"(\d+)\s?['′]\s?((?:1[01]|\d)(?: ?[¼½¾])?)(?:\"|″|''| ?in\b\.?|(?!\w|[.,]\d))", _feet_and_inches),
    rule(
        rf"(?:1/2|½) (?=(?:{'|'.join(_HALVES.split())})\b)(?=([aeio]|hour)?)", lambda m: f"half {'an' if m[1] else 'a'}"
    ),
    rule(
        rf"(\d+/\d+|{QUANTITY})( (?:thousand|million|billion|trillion)(?= ))?( ?|-)"
        rf"({_UNIT})([²³]|\^[23]|(?<=[a-z])[23])?(?:/({_UNIT})([²³]|\^[23])?)?(?![A-Za-z\d²³])",
        _measure,
    ),
    rule(r"(\d+)'(?:(?![\w'])|(?=x ?\d))", _feet),
    rule(r"([kcm]?m|ft|mi)([²³])(?![\w²³⁻⁺])", lambda m: plural(_name(m[1], m[2]) or "")),
    rule(r"(km|mi|m|[kKMG][bB])/([hs])\b", lambda m: f"{plural(UNITS[m[1]])} per {UNITS[m[2]]}"),
)


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
        # $5-$10: the dash is read by the rule for hyphens.
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
    # $1.5 million and $0.125 have no cents.
    if scale or len(small.rstrip("0")) > 2 or (point and not small_one and int(small)):
        return f"{number(amount)}{' ' + scale if scale else ''} {noun}"
    small = small.rstrip("0")
    cents = small.ljust(2, "0").lstrip("0")
    parts = [f"{cardinal(whole)} {one if whole == '1' else noun}"] if int(whole) or not cents else []
    parts += [f"{cardinal(cents)} {small_one if cents == '1' else small_many}"] if cents else []
    return " and ".join(parts)


def _pence(match: re.Match[str]) -> str | None:
    # Elsewhere 50p is a page, or lines of a picture.
    return f"{cardinal(match[1])} {'penny' if match[1] == '1' else 'pence'}" if "£" in match.string else None


def _fraction(match: re.Match[str]) -> str:
    top, bottom = match[1], match[2]
    if "." in top + bottom:
        return f"{number(top)} over {number(bottom)}"
    if re.match(r"\s*=", after(match)) or "÷" in match.string:
        return f"{cardinal(top)} divided by {cardinal(bottom)}"
    # 10/10 is a mark, not ten tenths.
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
    # Fractions and ratios by their form, phrases by their use.
    rule(r"(?:50[/:-]50|24/7|20/20)(?![/:\d-])", lambda m: " ".join(map(cardinal, re.split("[/:-]", m[0])))),
    rule(rf"({MIXED})(?!\w)", lambda m: quantity(m[1])[0]),
    rule(r"\d+(?:/\d+){2,}(?![\d/])", lambda m: " slash ".join(map(running_number, m[0].split("/")))),
    rule(r"(\d+)/(\d+)(?:st|nd|rd|th)s?\b", lambda m: fraction(m[1], m[2]), re.IGNORECASE),
    # American pension plans.
    rule(r"(401|403)\((k|b)\)", lambda m: f"four oh {cardinal(m[1][2])} {m[2].upper()}"),
    rule(r"(\d+(?:\.\d+)?) ?[/⁄] ?(\d+(?:\.\d+)?)(?!\d|[/⁄]\d|\.\d)", _fraction),
    rule(r"\d+(?:\.\d+)?(?::\d+(?:\.\d+)?)+(?![A-Za-z\d])", _ratio),
)
LONE = {sign: names[0] for sign, names in _CURRENCIES.items()}
"""What a sign is called where no amount stands beside it."""


def inside_a_word(match: re.Match[str]) -> bool:
    """Tell whether letters stand on both sides, as in a name that a sign is a letter of."""
    return before(match)[-1:].isalpha() and after(match)[:1].isalpha()
