"""Reads numbers, money and clock times aloud in Hangul."""

from __future__ import annotations

import re
from collections.abc import Callable

_DIGITS = "영일이삼사오육칠팔구"
_SMALL = ("", "십", "백", "천")
_LARGE = ("", "만", "억", "조", "경")
_NATIVE_ONES = ("", "한", "두", "세", "네", "다섯", "여섯", "일곱", "여덟", "아홉")
_NATIVE_TENS = ("", "열", "스물", "서른", "마흔", "쉰", "예순", "일흔", "여든", "아흔")
# Counted with native numerals; 발 (shots) and 번 (times) are left out where the plain word is likelier.
_COUNTERS_TEXT = """
군데 권 개 그루 닢 대 마리 모금 뭇 발짝 번째 번 벌 보루 살 술 시간 시 쌈 움큼 짝 채 척 첩 축 켤레 톨 통 명 사람 잔 병
가지 달 송이 곳 쪽
"""
_COUNTERS = tuple(_COUNTERS_TEXT.split())
_SINO_AFTER_ALL = ("개월", "대회", "대학", "시즌", "번지", "번길", "통신")
_MONEY = {"₩": "원", "$": "달러", "¥": "엔", "€": "유로", "£": "파운드"}
_UNITS = {
    "kg": "킬로그램",
    "km": "킬로미터",
    "cm": "센티미터",
    "mm": "밀리미터",
    "m": "미터",
    "g": "그램",
    "%": "퍼센트",
}
_SIGNS = {"+": " 더하기 ", "×": " 곱하기 ", "=": " 는 "}


def spoken_numbers(text: str) -> str:
    """Replace the numbers of `text`: native numerals before native counters up to 99, Sino-Korean ones elsewhere."""
    text = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text)
    for pattern, reading in _RULES:
        text = pattern.sub(reading, text)
    return text


def sino(digits: str) -> str:
    """Read a whole number in Sino-Korean: `110` is 백십, `10000` is 만."""
    if not digits.strip("0"):
        return _DIGITS[0]
    if len(digits) > 4 * len(_LARGE):
        return one_by_one(digits)
    groups: list[str] = []
    for place, start in enumerate(range(len(digits), 0, -4)):
        group = _thousands(digits[max(0, start - 4) : start])
        if group:
            groups.append(("" if group == "일" and place == 1 else group) + _LARGE[place])
    return "".join(reversed(groups))


def native(value: int) -> str:
    """Read 1 to 99 as it stands before a counter: 한, 스무, 스물한."""
    if value == 20:
        return "스무"
    return _NATIVE_TENS[value // 10] + _NATIVE_ONES[value % 10]


def one_by_one(digits: str) -> str:
    """Read a row of digits."""
    return "".join(_DIGITS[int(digit)] for digit in digits)


def _thousands(digits: str) -> str:
    spoken = ""
    for place, digit in zip(range(len(digits) - 1, -1, -1), digits, strict=True):
        if digit != "0":
            spoken += ("" if digit == "1" and place else _DIGITS[int(digit)]) + _SMALL[place]
    return spoken


def _number(digits: str) -> str:
    whole, _, decimals = digits.partition(".")
    spoken = one_by_one(whole) if len(whole) > 1 and whole.startswith("0") and not decimals else sino(whole)
    return f"{spoken}점{one_by_one(decimals)}" if decimals else spoken


def _counted(match: re.Match[str]) -> str:
    value = int(match[1])
    if not 0 < value < 100 or match[0][match.end(1) - match.start() :].lstrip().startswith(_SINO_AFTER_ALL):
        return match[0]
    return native(value) + match[2]


_Reading = Callable[[re.Match[str]], str]
_NUMBER = r"\d+(?:\.\d+)?"
_RULES: tuple[tuple[re.Pattern[str], _Reading], ...] = (
    (re.compile(r"(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})(?!\d)"), lambda m: f"{m[1]}년 {m[2]}월 {m[3]}일"),
    (re.compile(r"(?<!\d)(\d{1,2}):00(?!\d)"), lambda m: f"{m[1]}시"),
    (re.compile(r"(?<!\d)(\d{1,2}):(\d{2})(?!\d)"), lambda m: f"{m[1]}시 {int(m[2])}분"),
    (re.compile(r"0\d{1,2}-\d{3,4}-\d{4}"), lambda m: " ".join(map(one_by_one, m[0].split("-")))),
    (re.compile(rf"([₩$¥€£])({_NUMBER})"), lambda m: _number(m[2]) + _MONEY[m[1]]),
    (re.compile(r"(?<!\d)0?6월"), lambda _: "유월"),
    (re.compile(r"(?<!\d)10월"), lambda _: "시월"),
    (re.compile(r"(?<!\d)1번째"), lambda _: "첫번째"),
    (re.compile(rf"({_NUMBER}) ?(kg|km|cm|mm|m|g|%)(?![A-Za-z])"), lambda m: f"{m[1]}{_UNITS[m[2]]}"),
    (
        re.compile(rf"(?<![\d.])(\d+)( ?(?:{'|'.join(_COUNTERS)}))(?:월|회|학|즌|지|길|신)?"),
        lambda m: _counted_whole(m),
    ),
    (re.compile(rf"(?<![\d가-힣])-(?={_NUMBER})"), lambda _: "마이너스 "),
    (re.compile(rf"({_NUMBER}) ?([+×=]) ?"), lambda m: _number(m[1]) + _SIGNS[m[2]]),
    (re.compile(rf"({_NUMBER})[~-](?=\d)"), lambda m: f"{_number(m[1])}에서 "),
    (re.compile(_NUMBER), lambda m: _number(m[0])),
)


def _counted_whole(match: re.Match[str]) -> str:
    """Read the number before a counter and keep whatever letter the counter's guard consumed."""
    if (spoken := _counted(match)) == match[0]:
        return spoken
    return spoken + match[0][match.end(2) - match.start() :]
