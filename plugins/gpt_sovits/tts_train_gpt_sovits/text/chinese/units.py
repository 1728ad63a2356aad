"""Numbers in Chinese characters, and the signs beside them: units, currencies, magnitudes and measure words."""

from __future__ import annotations

import re
from collections.abc import Callable

from tts_train_gpt_sovits.text.reading import library

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
    # 一 and 七 sound alike on the line.
    return row(digits).replace("一", "幺")


def cardinal(digits: str) -> str:
    """Read a whole number of at most twelve digits as a quantity: `110` is 一百一十, `12` is 十二."""
    cn2an = library("cn2an", purpose="Reading numbers in Chinese", extra="zh")
    # cn2an 0.5.24 says 十二 for 12; the 一 goes should another version say 一十二.
    spoken = str(cn2an.an2cn(digits.lstrip("0") or "0", "low"))
    return _LEADING_TWO.sub("两", spoken[1:] if spoken.startswith("一十") else spoken)


def number(text: str) -> str:
    """Read digits with an optional decimal point; rows of digits (a leading zero, more than twelve) one by one."""
    whole, _, decimals = text.partition(".")
    # Nobody counts beyond 千亿, and what begins with a zero is a code: both are said digit by digit.
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


_PREFIXED = {
    "m": "米", "g": "克", "l": "升", "L": "升", "W": "瓦", "Wh": "瓦时", "V": "伏", "Hz": "赫兹", "Pa": "帕", "J": "焦",
    "mol": "摩尔", "cal": "卡", "N": "牛", "bps": "比特每秒",
}  # fmt: skip
_PREFIXES = {
    "m": ("km 千米", "cm 厘米", "mm 毫米", "dm 分米", "nm 纳米", "μm 微米"), "g": ("kg 千克", "mg 毫克", "μg 微克"),
    "l": ("ml 毫升",), "L": ("mL 毫升",), "W": ("kW 千瓦", "MW 兆瓦", "mW 毫瓦"), "Wh": ("kWh 千瓦时", "MWh 兆瓦时"),
    "V": ("kV 千伏", "mV 毫伏"), "Hz": ("kHz 千赫兹", "MHz 兆赫兹", "GHz 吉赫兹"),
    "Pa": ("kPa 千帕", "MPa 兆帕", "hPa 百帕"),
    "J": ("kJ 千焦",), "mol": ("mmol 毫摩尔",), "cal": ("kcal 千卡",), "N": ("kN 千牛",),
    "bps": ("kbps 千比特每秒", "Mbps 兆比特每秒", "Gbps 吉比特每秒"),
}  # fmt: skip
_OTHERS = {
    "s": "秒", "ms": "毫秒", "min": "分钟", "h": "小时", "t": "吨", "ha": "公顷", "mph": "英里每小时",
    "km/h": "千米每小时", "kph": "千米每小时", "m/s": "米每秒", "rpm": "转每分", "mAh": "毫安时", "Ah": "安时",
    "mA": "毫安", "kVA": "千伏安", "mmHg": "毫米汞柱", "dB": "分贝", "db": "分贝", "px": "像素", "lb": "磅",
    "oz": "盎司", "ft": "英尺", "cc": "毫升", "Ω": "欧姆", "kΩ": "千欧", "℃": "摄氏度", "°": "度", "KG": "千克",
    "Kg": "千克", "KM": "千米", "Km": "千米", "CM": "厘米", "MM": "毫米", "ML": "毫升", "KM/H": "千米每小时",
    "Km/h": "千米每小时", "KWh": "千瓦时", "KWH": "千瓦时", "kwh": "千瓦时", "kw": "千瓦", "KW": "千瓦",
    "hz": "赫兹", "HZ": "赫兹", "DB": "分贝", "mah": "毫安时", "MAH": "毫安时", "w": "万",
}  # fmt: skip


def _units() -> dict[str, str]:
    found = _PREFIXED | _OTHERS
    found |= dict(pair.split(" ") for pairs in _PREFIXES.values() for pair in pairs)
    for length in ("m", "km", "cm", "mm", "dm", "ft", "KM", "CM", "MM"):
        for power, name in (("2", "平方"), ("²", "平方"), ("3", "立方"), ("³", "立方")):
            found[length + power] = name + found[length]
    return found


UNITS = _units()
MONEY = {
    "US$": "美元", "USD": "美元", "HK$": "港元", "HKD": "港元", "NT$": "新台币", "NTD": "新台币", "TWD": "新台币",
    "A$": "澳元", "AU$": "澳元", "AUD": "澳元", "C$": "加元", "CA$": "加元", "CAD": "加元", "S$": "新加坡元",
    "SGD": "新加坡元", "MOP$": "澳门元", "MOP": "澳门元", "R$": "雷亚尔", "RMB¥": "元", "CN¥": "元", "JP¥": "日元",
    "RMB": "人民币", "CNY": "人民币", "JPY": "日元", "EUR": "欧元", "GBP": "英镑", "KRW": "韩元", "CHF": "瑞士法郎",
    "NZ$": "新西兰元", "NZD": "新西兰元", "THB": "泰铢", "INR": "印度卢比", "VND": "越南盾", "MYR": "马来西亚令吉",
    "RM": "马来西亚令吉", "IDR": "印尼盾", "RUB": "卢布", "SEK": "瑞典克朗", "NOK": "挪威克朗", "DKK": "丹麦克朗",
    "BRL": "雷亚尔", "MXN": "墨西哥比索", "AED": "阿联酋迪拉姆",
    "$": "美元", "¥": "元", "€": "欧元", "£": "英镑", "₩": "韩元", "₹": "卢比", "₽": "卢布", "฿": "泰铢", "₫": "越南盾",
    "₿": "比特币", "₱": "比索", "₴": "格里夫纳", "₺": "里拉",
}  # fmt: skip
MAGNITUDES = {
    "trillion": 10**12, "billion": 10**9, "million": 10**6, "thousand": 10**3, "bn": 10**9, "mn": 10**6, "B": 10**9,
    "M": 10**6, "m": 10**6, "K": 10**3, "k": 10**3, "w": 10**4, "W": 10**4,
}  # fmt: skip


def any_of(signs: dict[str, str] | dict[str, int]) -> str:
    """Give a pattern for the keys, longest first."""
    return "|".join(re.escape(sign) for sign in sorted(signs, key=len, reverse=True))


# Two of a thing is 两; ordinals, dates, levels and powers of ten below a thousand keep 二. Both scripts.
_SINGLE = (
    "米千百磅呎吋哩个個只隻位名条條张張本把间間座家台臺架辆輛件块塊口头頭匹双雙对對杯瓶碗盒包次遍年天周週岁歲层層元斤里倍片朵封首颗顆棵扇艘群点點万萬"
    "亿億千种種场場部项項幅滴份股支枝根栋棟幢所套副串组組批趟顿頓句段篇页頁步秒分米吨噸克升寸尺亩畝箱袋桶桌车車站集轮輪节節门門样樣蚊"
)
MEASURE = (
    rf"(?:[{_SINGLE}](?!级|級|等|之)|小时|小時|分钟|分鐘|公里|公斤|公分|公尺|公升|公顷|千米|千克|厘米|毫米|毫升|毫克|平方|立方|"
    r"美元|港元|欧元|歐元|英镑|英鎊|日元)"
)
# What may stand between a number and a dash that means "to" (5月1日-3日, 10元-20元).
AFTER_NUMBER = (
    r"(?:[万萬亿億千百]?(?:%|‰|[℃℉°]|(?:km|cm|mm|kg|mg|ml|mL|[mgslhLVW])[²³23]?|km/h|m/s|[KMGT]B|GHz|MHz|Hz|年代?|月|日|号|號|"
    r"点半?|點半?|时|時|分钟?|分鐘?|秒|[周週]岁?|天|[岁歲]|美元|港元|[欧歐]元|元|[块塊]|人|名|位|个月?|個月?|[件条條张張页頁章节節级級"
    r"层層楼樓期届代次倍步]|小时|小時|公里|千米|厘米|毫米|公斤|千克|毫升|毫克|摄氏度|度|米|斤|[吨噸]|克|升|后|後)?)"
)
