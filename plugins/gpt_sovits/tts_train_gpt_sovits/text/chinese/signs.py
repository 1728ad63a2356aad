"""Signs that are read as words: operators, powers, circled and Roman numbers, Greek letters, addresses."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping

from tts_train_gpt_sovits.text.chinese.dates import (
    NAMED_CODE,
    NUMBER_BEFORE,
    PLATE,
    SCORE_AFTER,
    SCORE_BEFORE,
    arithmetic,
    telephone,
)
from tts_train_gpt_sovits.text.chinese.units import UNITS, any_of, cardinal, number, row, telephone_row

_FOLDED = {ord(wide): chr(ord(wide) - 0xFEE0) for wide in "＋－＝＜＞＊／＃＆＠＿｜＾．（）～"}
_FOLDED |= {
    ord(sign): plain for sign, plain in zip("‐‑‒﹣∼〜∶⁄≦≧≒✕✖￡￠￦∙⋅‧｡､", "----~~:/≤≥≈××£¢₩···。、", strict=False)
}
_FOLDED |= {0x2080 + digit: str(digit) for digit in range(10)}
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n")
_GREEK = {
    "α": "阿尔法", "β": "贝塔", "γ": "伽马", "δ": "德尔塔", "ε": "艾普西隆", "ζ": "泽塔",
    "η": "伊塔", "θ": "西塔", "ι": "约塔", "κ": "卡帕", "λ": "兰姆达", "μ": "缪",
    "ν": "纽", "ξ": "克西", "ο": "奥密克戎", "π": "派", "ρ": "柔", "σ": "西格玛",
    "τ": "陶", "υ": "宇普西隆", "φ": "斐", "χ": "希", "ψ": "普西", "ω": "欧米伽",
}  # fmt: skip
_WORDS = {
    "≤": "小于等于", "≥": "大于等于",
    "<=": "小于等于", ">=": "大于等于", "≠": "不等于", "!=": "不等于", "==": "等于",
    "=": "等于",
    "×": "乘", "÷": "除以", "√": "根号", "∞": "无穷大", "±": "正负", "∵": "因为", "∴": "所以",
}  # fmt: skip
_GROUPED = re.compile(r"(?<![0-9.,])[0-9]{1,3}(?:,[0-9]{3})+(?![0-9]|,[0-9])")
_BUSINESS = re.compile(r"(?<![A-Za-z0-9])([BCDFGOP])2([BCDFGOP])(?![A-Za-z0-9])")
_NUMERO = re.compile(r"(?<![A-Za-z])(?:N[oO]\.|no\.|№) ?(?=[0-9])")
_POWER = re.compile(r"[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ]+|\^ ?[-+]?[0-9n]+(?![A-Za-z])")
_AREA = re.compile(r"(?<![A-Za-z0-9])(?<![0-9] )[kcdm]?m[²³]")
_PER_UNIT = re.compile(rf"(?:(?<=[^A-Za-z]/)|(?<=每)) ?({any_of(UNITS)})(?![A-Za-z0-9])")
_ADDRESS = re.compile(
    r"(?<![A-Za-z0-9@])(?:(?:https?|ftp)://[!-~]+|www\.[!-~]+|[A-Za-z0-9._+-]{1,64}@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+"
    r"|(?:[A-Za-z0-9-]{1,63}\.){1,8}(?:com|cn|net|org|io|gov|edu|hk|tw|info|xyz|top|cc|ai|me|app|dev)(?:/[!-~]*)?)(?![A-Za-z0-9])"
)
_ADDRESS_SIGNS = {
    ".": "点", "@": "艾特", "/": "斜杠", ":": "冒号", "-": "杠", "_": "下划线", "?": "问号", "=": "等于", "&": "和",
    "#": "井号", "%": "百分号", "+": "加", "~": "波浪号",
}  # fmt: skip
_OPERAND_START = re.compile(r" ?[-−+√]?(?:[0-9.$¥€£(]|[A-Z]{0,2}\$|[A-Za-z](?![A-Za-z]))")
# A dash behind these joins a name and its number (F-16, 歼-20) and is a pause.
_MODEL = re.compile(
    r"(?:[A-Za-z]|[歼殲轰轟运運直苏蘇图圖]|东风|東風|长征|長征|红旗|紅旗|神舟|天[宫宮问問]|嫦娥|巨浪|[鹰鷹][击擊]|霹[雳靂]|米格|伊[尔爾])$"
)
_OPERAND_END = re.compile(r"[0-9A-Za-z)⁰¹²³⁴-⁹%°℃℉‰] ?$")


def folded(text: str, form: Mapping[int, int]) -> str:
    """Give signs one form, and read what has to be seen before the numbers in it are (addresses, plates, codes).

    Args:
        text: a whole row.
        form: what to write other characters for in a reading, as `str.translate` takes it.
    """
    text = "".join(
        unicodedata.normalize("NFKC", c) if "㌀" <= c <= "㏿" or "⑴" <= c <= "⒛" or "﹐" <= c <= "﹫" else c
        for c in text
    )
    text = re.sub(
        "(?<![\u0370-\u03ff])[\u0391-\u03c9](?![\u0370-\u03ff])", _greek, text.replace("µ", "μ").translate(_FOLDED)
    )
    text = _ADDRESS.sub(lambda match: _address(match).translate(form), text)
    text = re.sub(
        r"(?<![0-9.,])[0-9]{1,3}(?:,[0-9]{3})+(?![0-9]|,[0-9])", lambda match: match[0].replace(",", ""), text
    )
    # B2B and P2P are said in English.
    text = _BUSINESS.sub(r"\1 to \2", _NUMERO.sub("第", text))
    text = NAMED_CODE.sub(lambda match: match[1] + telephone(match[2]), text)
    text = PLATE.sub(lambda match: telephone_row(re.sub("[^A-Z0-9]", "", match[0])), text)
    text = _AREA.sub(lambda match: UNITS[match[0]].translate(form), text)
    return _PER_UNIT.sub(lambda match: UNITS[match[1]].translate(form), text)


def sign(text: str, place: int) -> tuple[str, int] | None:
    """Read the sign at `place`: what is said and how many characters it takes; None where it is no word."""
    before, after, mark = text[:place], text[place + 1 :], text[place]
    power = _POWER.match(text, place)
    # At the head of a line a raised number is a footnote's.
    if power and re.search(r"[0-9A-Za-z)\u4e00-\u9fff] ?$", before):
        return _power(power[0]), len(power[0])
    if text[place : place + 2] in _WORDS:
        return _WORDS[text[place : place + 2]], 2
    if mark in "×√" or mark in _WORDS:
        joined = "," if mark in "×÷" and before.endswith(")") else ""
        return joined + _WORDS[mark] + ("," if after.startswith("(") and mark in "×÷" else ""), 1
    if mark in "-−–—~":
        return _dash(before, after, mark, text, place)
    if unicodedata.category(mark) in {"No", "Nl"}:
        # The number of a point in a list has a pause after it.
        listed = after[:1] >= "\u4e00" and not re.search("[\u4e00-\u9fff0-9]$", before) and mark in "①②③④⑤⑥⑦⑧⑨⑩"
        return _numeral(mark, before) + ("," if listed else ""), 1
    spoken = _other(mark, before, after)
    return (spoken, 1) if spoken else None


def follows_number(before: str) -> bool:
    """Tell whether `before` ends in a number, with its unit or without, or in an operand of a sum."""
    return bool(NUMBER_BEFORE.search(before[-12:]) or _OPERAND_END.search(before))


def _dash(before: str, after: str, mark: str, text: str, place: int) -> tuple[str, int] | None:
    if not _OPERAND_START.match(after) or _doubled(before, after, mark):
        return None
    if mark in "-−–" and (mark == "−" or arithmetic(text, place)):
        return ("减" if follows_number(before) else "负"), 1
    if not re.match(r" ?[-−+]?[0-9.$¥€£A-Z]", after):
        return None
    if NUMBER_BEFORE.search(before[-12:]):
        score = re.search(r"(?<![0-9.])[0-9]{1,3}$", before) and re.match(r"[0-9]{1,3}(?![0-9.])", after)
        named = SCORE_BEFORE.search(before.rstrip("0123456789")) or SCORE_AFTER.match(after.lstrip("0123456789"))
        # 3-1 is a score where words around it speak of a game, and a range elsewhere.
        return "比" if score and named else "到", 1
    # 歼-20 has no minus.
    if _MODEL.search(before) or not re.match(r" ?[0-9.$¥€£]|[A-Z]{1,2}\$", after):
        return None
    return {"~": ("约", 1), "-": ("负", 1)}.get(mark)


def _doubled(before: str, after: str, mark: str) -> bool:
    """-- and —— are pauses, but 5--3 has a negative number."""
    return after[:1] == mark and not (mark in "-−" and follows_number(before) and re.match("[-−][0-9]", after))


def _numeral(mark: str, before: str) -> str:
    """½ is a fraction, also behind a whole number; ①, Ⅳ and the like are their number."""
    upper, slash, lower = unicodedata.normalize("NFKC", mark).partition("⁄")
    if slash and lower:
        # 3½ is three and a half.
        return ("又" if before[-1:].isdigit() else "") + f"{cardinal(lower)}分之{cardinal(upper)}"
    return cardinal(str(int(unicodedata.numeric(mark))))


def _power(sign_of_power: str) -> str:
    exponent = sign_of_power.translate(_SUPERSCRIPTS).lstrip("^ +")
    if exponent in {"2", "3"}:
        return {"2": "的平方", "3": "的立方"}[exponent]
    negative = "负" if exponent.startswith("-") else ""
    digits = exponent.lstrip("-")
    return f"的{negative}{number(digits) if digits.isdecimal() else digits}次方"


def _other(mark: str, before: str, after: str) -> str | None:
    operand, digit_after = follows_number(before), bool(re.match(r" ?[0-9]", after))
    if mark == "+":
        return "加"
    if mark == "≈":
        return "约等于" if operand or before else "约"
    if mark in "<>":
        digit = re.search(r"[0-9A-Za-z\u4e00-\u9fff] ?$", before) and re.match(r" ?-?[0-9]", after)
        letters = re.search(r"(?:^|[^A-Za-z])[A-Za-z0-9] ?$", before) and re.match(r" ?[A-Za-z](?![A-Za-z])", after)
        return {"<": "小于", ">": "大于"}[mark] if digit or letters else None
    if mark == "*":
        return "乘" if operand and digit_after else None
    if mark in "xX":
        return "乘" if re.search(r"[0-9] ?$", before) and digit_after else None
    if mark == "&":
        return "和" if re.search(r"[\u4e00-\u9fff0-9] ?$", before) or re.match(r" ?[\u4e00-\u9fff0-9]", after) else None
    if mark == "@":
        return "艾特"
    if mark == "#":
        return "号" if before[-1:].isdigit() and not digit_after else None
    if mark == "/":
        # 5元/人 is five a head; behind a code such as A4 a slash only separates.
        thing = re.match(r" ?[(\u4e00-\u9fff]", after) and not re.search(r"[A-Za-z][0-9]+$", before)
        counted = digit_after and re.search("[\u4e00-\u9fff]$", before)
        return "每" if NUMBER_BEFORE.search(before[-12:]) and (counted or thing) else None
    return None


def _greek(match: re.Match[str]) -> str:
    return _GREEK.get(match[0].lower().replace("ς", "σ"), match[0])


def _address(match: re.Match[str]) -> str:
    return "".join(_ADDRESS_SIGNS.get(c, row(c)) for c in match[0].rstrip(".,?!)"))
