"""Rules for dates, years, times and codes: numbers that are no quantities."""

from __future__ import annotations

import re

from tts_train_gpt_sovits.text.chinese.units import (
    AFTER_NUMBER,
    MEASURE,
    Rule,
    cardinal,
    number,
    row,
    rule,
    telephone_row,
)
from tts_train_gpt_sovits.text.reading import TextRejected

DASH = r" ?[-~–—] ?"
_MONTH, _DAY = r"(?:0?[1-9]|1[0-2])", r"(?:0?[1-9]|[12]\d|3[01])"
_YEAR = r"(?:1[0-9]|20|21)\d\d"
_CLOCK = r"([01]?\d|2[0-4])[:：]([0-5]\d)(?:[:：]([0-5]\d))?"
_HALF = r"(?: ?([AaPp])\.?[Mm]\.?(?![A-Za-z]))?"
_DAYTIME = {"a": "上午", "p": "下午"}
_DURATION_BEFORE = re.compile(
    "(?:[了近约約达達过過满滿活共每前后後用再花第超]|整整|未[来來]|建[国國校党黨军軍厂廠]|[结結]婚|成立|[从從][业業]|"
    "工作|[历歷][时時]|[诞誕]辰|逝世|[创創][办辦业業]|服役|使用|[寿壽]命)$"
)
_YEAR_AFTER = re.compile("(?:出生|生人|生的|[毕畢][业業]|入|[初底中末春夏秋冬那])")
_DURATION_AFTER = re.compile(r"(?:间|間|来|來|多|以|的?历史|的?歷史|的?时间|的?時間|[内內]|级|級|了|之)")
_YEARLY = (
    r"春晚|春[节節]|[奥奧][运運]|世界[杯盃]|[欧歐]洲[杯盃]|[亚亞][运運]|世博|款|新年|元旦|[国國][庆慶]|中秋|高考|届|Q[1-4]|"
    r"[北東东南]京|巴黎"
)
SCORE_BEFORE = re.compile(r"(?:比[分例率數数]|[赔賠]率|[爆险險]冷)(?:[是係]|[为為]|[约約]|定格在|来到|來到)? ?$")
SCORE_AFTER = re.compile(
    r" ?(?:的?比[例率分數数]|[大小战戰险險完]?[胜勝]|[获獲]|力克|[横橫][扫掃]|逆[转轉]|淘汰|[击擊][败敗]|"
    r"[领領]先|落[后後]|[战戰踢打]平|(?:告|惜|不)?[负負](?![责責担擔债債]))"
)
_NAMED_CODE = (
    r"(?:电话|電話|手[机機][号號]|热线|熱線|拨打|撥打|致电|致電|[拨撥]|邮编|郵編|[证證号號密代][码碼]|QQ群?|(?<=[0-9])[转轉]|"
    r"[尾编編学學账帳卡单單工][号號]|[报報]警|分机|分機|客服)(?:是|[为為:：号號])? ?"
)


_RUN = re.compile(r"(?:[0-9.()+\-−–×÷=<>≤≥≈≠*/ √%⁰¹²³⁴-⁹]|(?<![A-Za-z])[A-Za-z](?![A-Za-z]))+")
_LONGEST_SUM = 100
_ASKED = re.compile(r" ?(?:[等][于於]|是多少|得多少|[是得等][幾几]|得[0-9]|[=≈])")


def arithmetic(text: str, place: int) -> bool:
    """Tell whether the sign at `place` stands in a sum: the formula around it has an operator that is no dash."""
    start = max(0, place - _LONGEST_SUM)
    text, place = text[start : place + _LONGEST_SUM], place - start
    for run in _RUN.finditer(text):
        if run.start() <= place < run.end():
            return bool(re.search(r"[+×÷=≤≥≈≠*−<>]", run[0].strip()) or _ASKED.match(text, run.end()))
    return False


def _date(match: re.Match[str]) -> str:
    year, month, day = match["year"], match["month"], match["day"]
    return f"{row(year)}年{cardinal(month)}月" + (f"{cardinal(day)}日" if day else "")


def _day_first_or_month_first(match: re.Match[str]) -> str:
    """5/1/2024 may be May or January: only a number above 12, or two equal ones, tells."""
    first, second, year = match[1], match[3], match[4]
    if int(first) > 12 >= int(second):
        first, second = second, first
    elif int(second) <= 12 and int(first) != int(second):
        raise TextRejected("unreadable_text", f"{match[0]!r}: month or day first? Write {year}-MM-DD")
    return f"{row(year)}年{cardinal(first)}月{cardinal(second)}日"


def _year(match: re.Match[str]) -> str | None:
    digits, before, after = match[1], match.string[: match.start()], match.string[match.end() + 1 :]
    if before.endswith(("公元前", "公元", "西元")):
        return row(digits)
    lasts = bool(_DURATION_BEFORE.search(before) or _DURATION_AFTER.match(after))
    if len(digits) == 4:
        round_span = digits.endswith("00") and (lasts or after.startswith("前") or digits > "2100")
        return None if (digits.endswith("000") and digits != "2000") or round_span else row(digits)
    if digits.startswith("0") or re.match(r" ?[0-9]{1,2}月", after):
        return row(digits)
    if digits < "60" or lasts or after.startswith(("前", "后", "後")):
        return None
    # 90年 may be a span of ninety years; 98年 hardly is.
    return row(digits) if not digits.endswith("0") or _YEAR_AFTER.match(after) else None


def _years(match: re.Match[str]) -> str | None:
    """Both years of a span or list: 2023-2024年, 2023、2024年."""
    after = match.string[match.end() + 1 :]
    if re.fullmatch(r"\d+00\D+\d+00", match[0], re.ASCII) and (after.startswith("前") or _DURATION_AFTER.match(after)):
        return None
    spoken = re.sub(r" ?[-~–—/] ?", "到", match[0]).replace(" ", "")
    return re.sub(r"\d+", lambda digits: row(digits[0]), spoken, flags=re.ASCII)


def _bare_years(match: re.Match[str]) -> str | None:
    quantity = re.match(MEASURE + r"|[人元km%℃]", match.string[match.end() :])
    round_sums = match[1].endswith("00") and match[2].endswith("00")
    # 1500-2000 is a span of money as likely as one of years.
    return None if quantity or round_sums or match[1] >= match[2] else f"{row(match[1])}到{row(match[2])}"


def _short_years(match: re.Match[str]) -> str | None:
    """1914-18年; but 2024-18年 is no span."""
    return f"{row(match[1])}到{row(match[2])}" if match[2] > match[1][2:] else None


def _month_and_day(match: re.Match[str]) -> str:
    """05-01 and 10/08: the zero shows a calendar's form."""
    return f"{cardinal(match[1])}月{cardinal(match[3])}日"


def _clock(hour: str, minute: str, second: str | None, half: str | None) -> str:
    spoken = "两点" if int(hour) == 2 else f"{cardinal(hour)}点"
    if minute == "30" and not second:
        spoken += "半"
    elif int(minute) or (second and int(second)):
        spoken += f"{number(minute)}分"
    spoken += f"{number(second)}秒" if second and int(second) else ""
    return (_DAYTIME[half.lower()] if half else "") + spoken


def _time(match: re.Match[str]) -> str | None:
    if SCORE_BEFORE.search(match.string[: match.start()]) or SCORE_AFTER.match(match.string[match.end() :]):
        return None
    first = _clock(*match.group(1, 2, 3, 4))
    return f"{first}至{_clock(*match.group(5, 6, 7, 8))}" if match[5] else first


def _hour(match: re.Match[str]) -> str:
    return _DAYTIME[match[2].lower()] + ("两" if match[1] == "2" else cardinal(match[1])) + "点"


def telephone(digits: str) -> str:
    """Read groups of digits with a pause between them, as upstream does, and a + before them."""
    groups = [telephone_row(group) for group in re.findall(r"[0-9]+", digits)]
    return ("加" if digits.startswith("+") else "") + ",".join(groups)


def _telephone(match: re.Match[str]) -> str:
    return telephone(match[0])


def _code(match: re.Match[str]) -> str:
    return telephone_row(match[0])


def _letter_code(match: re.Match[str]) -> str | None:
    """A380 and RTX3090 are read digit by digit; A4, A100 and T1000 as quantities."""
    return None if match[0].endswith("00") else row(match[0])


def _identity(match: re.Match[str]) -> str | None:
    if arithmetic(match.string, match.start()):
        return None
    # In the number of a document or a flat the dashes are said.
    return "杠".join(number(part) for part in re.findall(r"\d+", match[0]))


def _slashed(match: re.Match[str]) -> str:
    return "斜杠".join(map(number, match[0].split("/")))


def _internet(match: re.Match[str]) -> str:
    return row(match[0]).replace(".", "点").replace(":", "冒号").replace("/", "斜杠")


def _version(match: re.Match[str]) -> str:
    parts = match[0].split(".")
    return "点".join(map(row if any(len(part) > 2 for part in parts) else number, parts))


TELEPHONES: tuple[Rule, ...] = (
    rule(r"\+\d{1,3}(?:[- ]?\(?\d{2,4}\)?)?(?:[- ]?\d{3,4}){2,3}(?!\d)", _telephone),
    rule(r"(?<![\d.])(?:86[ -]?)?1[3-9]\d(?:[ -]?\d{4}[ -]?\d{4}|\d[ -]?\d{3}[ -]?\d{4})(?![\d.])", _telephone),
    rule(r"(?<!\d)\(?0\d{2,3}[)-] ?[1-9]\d{2,3}[ -]?\d{4}(?:-\d{1,5})?(?!\d)", _telephone),
    rule(r"(?<!\d)0(?:10|2\d|[3-9]\d\d) ?[1-9]\d{6,7}(?!\d)", _telephone),
    # Service numbers of firms, 400 and 800.
    rule(r"[48]00[- ]?\d{3}[- ]?\d{4}(?!\d)", _telephone),
    rule(r"[48]00-\d{4}-\d{3}(?!\d)", _telephone),
)
HONG_KONG_TELEPHONE = rule(
    rf"(?<!\d)(?!{_YEAR}-{_YEAR})(?:852[ -]?)?[235-9]\d{{3}}[ -]\d{{4}}(?![\d年元.%])", _telephone
)
DATES: tuple[Rule, ...] = (
    rule(rf"(?P<year>\d{{4}})([-/.])(?P<month>{_MONTH})\2(?P<day>{_DAY})(?:日|号|號)?(?!\.?\d)", _date),
    rule(rf"(\d{{1,2}})([-/.])(\d{{1,2}})\2({_YEAR})(?!\.?\d)", _day_first_or_month_first),
    rule(rf"\d{{4}}(?:{DASH}| ?[至到、和与與或及/] ?)\d{{4}}(?=年)", _years),
    rule(rf"({_YEAR}){DASH}(\d\d)(?=年)", _short_years),
    rule(r"(?:\d{4}[、，,和])+\d{4}(?=年)", _years),
    rule(rf"{_YEAR} ?[-–—/~] ?(?:\d{{4}}|\d\d)(?=赛季|賽季|财年|財年|学年|學年|年度)", _years),
    rule(rf"(?<![\d.])({_YEAR})(?:{DASH}| ?[到至] ?)({_YEAR})(?![\d.])", _bare_years),
    # What comes once a year makes the number before it a year without 年.
    rule(rf"({_YEAR})(?= ?(?:{_YEARLY}))", lambda match: row(match[1])),
    rule(
        rf"(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?![\d.,]|{MEASURE}|[人%])", lambda match: row(match[0])
    ),
    rule(r"(?<![\d./:-])(0[1-9]|1[0-2])([-/])(0[1-9])(?![\d./:-])", _month_and_day),
    rule(r"(?<![\d./:-])(0[1-9])([-/])([12]\d|3[01])(?![\d./:-])", _month_and_day),
    rule(r"(?P<year>(?:19|20)\d\d)[-/](?P<month>0[1-9]|1[0-2])(?P<day>)(?![-/\d.年月%=])", _date),
    rule(rf"(?<=[《“「『])({_YEAR})(?=[》”」』])", lambda match: row(match[1])),
    rule(r"(\d{4})(?=年代)", lambda match: row(match[1])),
    rule(r"(\d0)(?=年代)", lambda match: "零零" if match[1] == "00" else cardinal(match[1])),
    rule(r"(1[0-9]\d0|20\d0)['’]?s(?![A-Za-z])", lambda match: f"{row(match[1])}年代"),
    rule(r"(?<![\d.第])([5-9][05]|0[05])(?=[后後](?![面方排退背台来來]))", lambda match: row(match[1])),
    rule(rf"(?<=公元)\d{{1,4}}{DASH}\d{{1,4}}(?=年)|(?<=公元前)\d{{1,4}}{DASH}\d{{1,4}}(?=年)", _years),
    rule(r"(?<=公元前)\d{1,3}(?=年)|(?<=公元)\d{1,3}(?=年)", lambda match: row(match[0])),
    rule(r"(?<!\d)(\d{4}|\d\d)(?=年)", _year),
    rule(rf"{_CLOCK}{_HALF}(?:(?:{DASH}| ?[至到] ?){_CLOCK}{_HALF})?(?![\d:：])", _time),
    rule(r"(1[0-2]|[1-9]) ?([ap])\.?m\.?(?![A-Za-z])", _hour),
)
CODES: tuple[Rule, ...] = (
    # Trains: G102次.
    rule(r"(?<=[GDCKTZ])\d{1,4}(?=次)", _code),
    rule(r"\d{3,5}(?=打[个個给給]|打电话|打電話|热线|熱線|急救|客服|平台|短信|官[网網])", _code),
    # A room, a house, a bus line; 房顶 is a roof.
    rule(r"\d{3,4}(?=[房室路](?![顶頂]))", _code),
    # Behind a letter, unless that is the x of 3x100.
    rule(rf"(?<=[A-Za-z])(?<!\d[xX])\d{{3,}}(?![\d.,/%元人]| ?{MEASURE})", _letter_code),
    # The lines of a picture, 1080p, are said digit by digit.
    rule(r"\d{3,4}(?=[pP](?![A-Za-z]))", lambda match: row(match[0])),
    rule(
        r"(?:985|211|996|618|315|911|918|404|502|520)(?=高校|大学|大學|工程|院校|工作制|大促|[购購]物[节節]|晚[会會]|事件|[错錯][误誤])",
        lambda match: row(match[0]),
    ),
    rule(r"(?<=打)(?:110|119|120|122|911|999|1[02]\d{3})(?![\d.元个個折])", _code),
    # 9·11 and 5·12 are days that are said by their digits.
    rule(r"(\d{1,2})·(\d{1,2})(?![\d.])", lambda match: row(match[1] + match[2])),
    rule(r"\d+(?:-\d+){2,}(?![\d.])", _identity),
    rule(r"\d+(?:/\d+){2,}(?![\d.])", _slashed),
    rule(r"(\d{1,2})/(\d{1,2})(?=月)", lambda match: f"{cardinal(match[1])}、{cardinal(match[2])}"),
    rule(r"\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?(?:/\d+)?(?![\d.])", _internet),
    rule(r"\d+(?:\.\d+){2,}", _version),
)
NAMED_CODE = re.compile(rf"({_NAMED_CODE})(\d{{3,}}(?:[ -]\d{{2,}})*)(?![\d.,%元多几幾余餘起行]|{MEASURE})", re.ASCII)
_PROVINCES = "京津沪滬渝冀豫云辽遼黑湘皖鲁魯新苏蘇浙赣贛鄂桂甘晋晉蒙陕陝吉闽閩贵貴粤粵青藏川宁寧琼瓊"
PLATE = re.compile(rf"(?<=[{_PROVINCES}][A-Z])[·・•-]?[A-Z0-9]{{5,6}}(?![A-Z0-9])")
NUMBER_BEFORE = re.compile(rf"\d(?:{AFTER_NUMBER}|[$¥€£]) ?$", re.ASCII)
