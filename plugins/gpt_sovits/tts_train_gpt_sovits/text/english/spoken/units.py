"""Names of units, and quantities that have one."""

from __future__ import annotations

import re

from tts_train_gpt_sovits.text.english.spoken.numbers import QUANTITY, VULGAR, cardinal, mixed_parts, number, quantity
from tts_train_gpt_sovits.text.english.spoken.rules import Rule, after, before, describes_a_noun, follows, rule

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
