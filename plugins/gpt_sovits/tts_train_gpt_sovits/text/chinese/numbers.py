"""Reads numbers, dates, times, units and money aloud in Chinese characters (shared by zh and yue)."""

from __future__ import annotations

import re
from collections.abc import Callable

from tts_train_gpt_sovits.text.libraries import library

_DIGITS = str.maketrans("0123456789", "零一二三四五六七八九")
_LONGEST_CARDINAL = 12
_NUMBER = r"\d+(?:\.\d+)?"
_UNITS = {
    "km/h": "千米每小时", "kg": "千克", "km": "千米", "cm": "厘米", "mm": "毫米", "ml": "毫升", "db": "分贝",
    "m²": "平方米", "m2": "平方米", "m³": "立方米", "m3": "立方米", "m": "米", "g": "克", "s": "秒", "h": "小时",
}  # fmt: skip
_MONEY = {"¥": "元", "$": "美元", "€": "欧元", "£": "英镑"}
_SIGNS = {"+": "加", "-": "减", "×": "乘", "÷": "除以", "=": "等于"}
# Two of a thing is 两; ordinals, dates and clock parts keep 二.
_MEASURES = "个只位名条张本把间座家台架辆件块口头匹双对杯瓶碗盒包次遍年天周岁层元斤里倍片朵封首颗棵扇艘群点万亿"


def spoken_numbers(text: str) -> str:
    """Replace every number of `text` by the characters it is read with.

    The forms are those of upstream's normaliser (years and telephone numbers digit by digit, 1 as 幺 in the latter,
    百分之, 分之, 零下, 点). Unlike upstream's, a bare number of three digits or more is read as a quantity, not digit
    by digit; only a leading zero or more than twelve digits make it a row of digits.
    """
    text = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text)
    for pattern, reading in _RULES:
        text = pattern.sub(reading, text)
    return text


def cardinal(digits: str) -> str:
    """Read a whole number of at most twelve digits as a quantity: `110` is 一百一十, `12` is 十二."""
    cn2an = library("cn2an", purpose="Reading numbers in Chinese", extra="zh")
    spoken = str(cn2an.an2cn(digits.lstrip("0") or "0", "low"))
    return spoken[1:] if spoken.startswith("一十") else spoken


def number(text: str) -> str:
    """Read digits with an optional decimal point; rows of digits one by one."""
    whole, _, decimals = text.partition(".")
    row_of_digits = len(whole) > _LONGEST_CARDINAL or (len(whole) > 1 and whole.startswith("0") and not decimals)
    spoken = whole.translate(_DIGITS) if row_of_digits else cardinal(whole)
    return f"{spoken}点{decimals.translate(_DIGITS)}" if decimals else spoken


def _telephone(match: re.Match[str]) -> str:
    return re.sub(r"\D", "", match[0]).translate(_DIGITS).replace("一", "幺")


def _date(match: re.Match[str]) -> str:
    year, month, day = match["year"], match["month"], match["day"]
    parts = [f"{year.translate(_DIGITS)}年"]
    parts += [f"{cardinal(month)}月"] if month else []
    parts += [f"{cardinal(day)}日"] if day else []
    return "".join(parts)


def _clock(hour: str, minute: str, second: str | None) -> str:
    spoken = f"{cardinal(hour)}点"
    if minute == "30" and not second:
        spoken += "半"
    elif int(minute):
        spoken += f"{number(minute)}分"
    return spoken + (f"{number(second)}秒" if second and int(second) else "")


def _time(match: re.Match[str]) -> str:
    first = _clock(match[1], match[2], match[3])
    return f"{first}至{_clock(match[4], match[5], match[6])}" if match[4] else first


def _counted(match: re.Match[str]) -> str:
    spoken = number(match[1])
    return ("两" if spoken == "二" else spoken) + match[2] + match[3]


def _arithmetic(match: re.Match[str]) -> str:
    return number(match[1]) + _SIGNS[match[2]]


_Reading = Callable[[re.Match[str]], str]
_CLOCK = r"([01]?\d|2[0-3])[:：]([0-5]\d)(?:[:：]([0-5]\d))?"
_UNIT = "|".join(re.escape(unit) for unit in _UNITS)
_RULES: tuple[tuple[re.Pattern[str], _Reading], ...] = (
    (
        re.compile(r"(?<!\d)(?P<year>\d{4}|\d{2})年(?:(?P<month>0?[1-9]|1[0-2])月(?:(?P<day>[0-3]?\d)[日号])?)?"),
        _date,
    ),
    (re.compile(r"(?<!\d)(?P<year>\d{4})([-/.])(?P<month>0?[1-9]|1[0-2])\2(?P<day>[0-3]?\d)(?!\d)"), _date),
    (re.compile(rf"(?<!\d){_CLOCK}(?:[~-]{_CLOCK})?(?!\d)"), _time),
    (re.compile(r"(?<!\d)(?:\+?86[ -]?)?1[3-9]\d[ -]?\d{4}[ -]?\d{4}(?!\d)"), _telephone),
    (re.compile(r"(?<!\d)(?:0\d{2,3}-[1-9]\d{6,7}|400-?\d{3}-?\d{4})(?!\d)"), _telephone),
    (
        re.compile(rf"(-?)({_NUMBER})(?:°C|℃|摄氏度)"),
        lambda m: f"{'零下' if m[1] else ''}{number(m[2])}{'摄氏度' if '摄' in m[0] else '度'}",
    ),
    (re.compile(rf"([¥$€£])({_NUMBER})([万亿]?)"), lambda m: f"{number(m[2])}{m[3]}{_MONEY[m[1]]}"),
    (re.compile(rf"(-?)({_NUMBER})%"), lambda m: f"{'负' if m[1] else ''}百分之{number(m[2])}"),
    (re.compile(rf"({_NUMBER})({_UNIT})(?![A-Za-z])"), lambda m: number(m[1]) + _UNITS[m[2]]),
    (re.compile(r"(-?)(\d+)/(\d+)"), lambda m: f"{'负' if m[1] else ''}{number(m[3])}分之{number(m[2])}"),
    (re.compile(rf"({_NUMBER})[~～]({_NUMBER})"), lambda m: f"{number(m[1])}到{number(m[2])}"),
    (re.compile(rf"({_NUMBER})([+×÷=])(?=\d)"), _arithmetic),
    (re.compile(rf"(?<![\d])({_NUMBER})-({_NUMBER})(?![\d=])"), lambda m: f"{number(m[1])}到{number(m[2])}"),
    (re.compile(rf"({_NUMBER})(-)(?=\d)"), _arithmetic),
    (re.compile(r"\d+(?:\.\d+){2,}"), lambda m: m[0].translate(_DIGITS).replace(".", "点")),
    (re.compile(rf"([\u4e00-\u9fff]?)-({_NUMBER})"), lambda m: f"{m[1]}负{number(m[2])}"),
    (re.compile(rf"(?<!第)({_NUMBER})([多几余]?)([{_MEASURES}])"), _counted),
    (re.compile(_NUMBER), lambda m: number(m[0])),
)
