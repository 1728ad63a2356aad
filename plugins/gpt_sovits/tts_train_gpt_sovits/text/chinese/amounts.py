"""Rules for quantities: money, percentages, temperatures, units, fractions, ratios and counted things."""

from __future__ import annotations

import re
from decimal import Context, Decimal

from tts_train_gpt_sovits.text.chinese.dates import DASH, arithmetic
from tts_train_gpt_sovits.text.chinese.units import (
    MAGNITUDES,
    MEASURE,
    MONEY,
    NUMBER,
    UNITS,
    Rule,
    any_of,
    cardinal,
    counted,
    number,
    row,
    rule,
)
from tts_train_gpt_sovits.text.reading import TextRejected

_TO = rf"(?:{DASH}| ?[至到] ?)"
_SIGNED = r"([-−+±]?) ?"
_SIGNS = {"-": "负", "−": "负", "+": "正", "±": "正负", "": ""}
_SHARES = {"%": "百分之", "‰": "千分之", "‱": "万分之"}
_DEGREES = r"℃|℉|摄氏度|攝氏度|华氏度|華氏度|度(?![假过過])"
_MAGNITUDE = rf"(?: ?({any_of(MAGNITUDES)})(?![A-Za-z²³]))?"
_POWER_OF_TEN = r"([十百千]?[万萬亿億]|[百千])?"
_SYMBOL = "[$¥€£₩₹₽฿₫₿₱₴₺]"
_PREFIX = rf"((?<![A-Za-z])(?:{any_of(MONEY)})|{_SYMBOL})"
_SUFFIX = any_of({sign: name for sign, name in MONEY.items() if len(sign) < 4})


def _money(match: re.Match[str]) -> str:
    first, magnitude, power, last, last_magnitude, last_power = match.groups()[1:]
    spoken = _sum(first, magnitude, power)
    if last:
        spoken += f"到{_sum(last, last_magnitude, last_power)}"
    return spoken + MONEY[match[1]]


def _money_behind(match: re.Match[str]) -> str:
    return _sum(match[1], match[2], match[3]) + MONEY[match[4]]


def _sum(digits: str, magnitude: str | None, power: str | None) -> str:
    """Read 3.5 and M as 三百五十万."""
    if not magnitude:
        return counted(digits) + (power or "")
    # Decimals, for products of floats may have digits that nobody wrote.
    context = Context(prec=len(digits) + 16)
    exact = context.multiply(Decimal(digits), MAGNITUDES[magnitude])
    for size, name in ((10**8, "亿"), (10**4, "万")):
        # At most two decimals before 亿 or 万; otherwise the number is said in full.
        if exact >= size and context.remainder(exact, size // 100) == 0:
            return counted(_plain(context.divide(exact, size))) + name
    return counted(_plain(exact))


def _plain(value: Decimal) -> str:
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _share(match: re.Match[str]) -> str:
    return _SIGNS[match[1]] + _SHARES[match[3]] + _hundred(match[2], match[3])


def _shares(match: re.Match[str]) -> str:
    first_sign, first, _, last_sign, last, sign = match.groups()
    first_spoken = _SIGNS[first_sign] + _SHARES[sign] + _hundred(first, sign)
    return f"{first_spoken}到{_SIGNS[last_sign]}{_SHARES[sign]}{_hundred(last, sign)}"


def _hundred(digits: str, sign: str) -> str:
    # 100% is 百分之百, not 百分之一百.
    return "百" if digits == "100" and sign == "%" else number(digits)


def _temperature(match: re.Match[str]) -> str:
    return _degrees(match[1], match[2], match[3])


def _temperatures(match: re.Match[str]) -> str:
    return f"{_degrees(match[1], match[2], match[3] or match[6])}到{_degrees(match[4], match[5], match[6])}"


def _degrees(sign: str, digits: str, unit: str) -> str:
    spoken = ("零下" if sign in "-−" and sign else _SIGNS[sign]) + number(digits)
    if unit == "℉":
        return f"华氏{spoken}度"
    return spoken + ("度" if unit == "℃" else unit)


def _measured(match: re.Match[str]) -> str | None:
    if match[2] in {"g", "s"} and re.match(r"[网網手信时時基卡]", match.string[match.end() :]):
        return None  # 4g网络 is a letter
    return counted(match[1]) + UNITS[match[2]]


def _fraction(match: re.Match[str]) -> str:
    whole, upper, lower = match[1], match[2], match[3]
    if (upper, lower) == ("24", "7"):
        raise TextRejected("unreadable_text", "'24/7' has no settled reading in Chinese; write it in words")
    if not whole and len(upper) <= 2 and len(lower) <= 2 and (day := _month_and_day(match, int(upper), int(lower))):
        return day
    # Compared as strings: digits of any number are allowed.
    larger = len(upper) > len(lower) or (len(upper) == len(lower) and upper > lower)
    if not lower.strip("0") or (larger and arithmetic(match.string, match.start(2))):
        return f"{number(upper)}除以{number(lower)}"
    return (f"{number(whole)}又" if whole else "") + f"{number(lower)}分之{number(upper)}"


def _month_and_day(match: re.Match[str], month: int, day: int) -> str | None:
    """5/1 is a date where the words around it say so, or where it would be a fraction of one."""
    before, after = match.string[: match.start()], match.string[match.end() :]
    named = re.search(r"(?:日期|截[止至]|生日|到期|今天是|[于於在]) ?$", before) and month > day
    if not (day == 1 or named or re.match(r" ?(?:[日号號]|[当當这這]天|[劳勞][动動][节節])", after)):
        return None
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return None
    return f"{cardinal(str(month))}月{cardinal(str(day))}" + ("" if after.startswith(("日", "号", "號")) else "日")


def _ratio(match: re.Match[str]) -> str:
    return "比".join(map(number, re.split(r" ?[:：∶] ?", match[0])))


def _scientific(match: re.Match[str]) -> str:
    sign = "负" if match[2] == "-" else ""
    return f"{number(match[1])}乘以十的{sign}{number(match[3].lstrip('0') or '0')}次方"


def _counted(match: re.Match[str]) -> str:
    return counted(match[1]) + (match[2] or "")


def _feet(match: re.Match[str]) -> str:
    return f"{counted(match[1])}英尺{counted(match[2])}英寸"


def _inches(match: re.Match[str]) -> str | None:
    """A straight quotation mark that opens nothing is inches."""
    return None if match[2] == '"' and match.string.count('"') % 2 == 0 else f"{counted(match[1])}英寸"


AMOUNTS: tuple[Rule, ...] = (
    rule(
        rf"{_PREFIX} ?({NUMBER}){_MAGNITUDE}{_POWER_OF_TEN}"
        rf"(?:{_TO}\1? ?({NUMBER}){_MAGNITUDE}{_POWER_OF_TEN})?(?:[美港欧歐日]元|美金|英镑|英鎊|[元块塊])?",
        _money,
    ),
    # A sign without an amount is the currency's name.
    rule(rf"{_PREFIX}(?<={_SYMBOL})", lambda match: {"¥": "人民币"}.get(match[1], MONEY[match[1]])),
    rule(rf"({NUMBER}){_MAGNITUDE}{_POWER_OF_TEN} ?({_SUFFIX})(?![A-Za-z\d])", _money_behind),
    rule(rf"{_SIGNED}({NUMBER}) ?([%‰])?{_TO}([-−+]?)({NUMBER}) ?((?(3)\3|[%‰]))", _shares),
    rule(rf"{_SIGNED}({NUMBER}) ?([%‰‱])", _share),
    rule(rf"{_SIGNED}({NUMBER}) ?({_DEGREES})?(?:{_TO}| ?[~-] ?)([-−+]?)({NUMBER}) ?({_DEGREES})", _temperatures),
    rule(rf"{_SIGNED}({NUMBER}) ?({_DEGREES})", _temperature),
    rule(rf"({NUMBER})[eE]([+-]?)(\d+)(?![\dA-Za-z])", _scientific),
    rule(r"(?<!\d)(\d)['’′](1[01]|\d)(?:[\"”″]|''|’’)", _feet),
    rule(rf"({NUMBER}) ?(″|\")", _inches),
    rule(rf"(?<![A-Za-z])({NUMBER}) ?({any_of(UNITS)})(?![A-Za-z\d])", _measured),
    rule(r"(?:(\d+) )?(\d+) ?/ ?(\d+)(?![\d.]|/\d)", _fraction),
    rule(rf"{NUMBER}(?: ?[:：∶] ?{NUMBER})+(?!\d)", _ratio),
    rule(rf"(?<!第)({NUMBER})([多几幾余餘])?(?={MEASURE})", _counted),
    # 2-3个: the measure word counts for the first number as well, and 2 is 两.
    rule(rf"(2)(?={_TO}{NUMBER}[多几幾余餘]?{MEASURE})()", _counted),
    # Any number that no rule above has read.
    rule(rf"({NUMBER})", lambda match: number(match[1])),
)
DECIMAL = rule(r"(?<![\d.\w])\.(\d+)", lambda match: f"零点{row(match[1])}")
