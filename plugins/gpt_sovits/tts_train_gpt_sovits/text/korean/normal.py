"""Normalises Korean to Hangul and marks: signs about numbers as words, then the numbers.

Native numerals stand before native counters, Sino-Korean ones elsewhere.
"""

from __future__ import annotations

import re
import unicodedata

from tts_train_gpt_sovits.text.expressions.read import read_signs
from tts_train_gpt_sovits.text.expressions.signs import fold, is_letter, pauses, refuse_references, require_readable
from tts_train_gpt_sovits.text.korean.rules import is_syllable, taken_apart
from tts_train_gpt_sovits.text.korean.words import KOREAN, TOPIC, phone_digits
from tts_train_gpt_sovits.text.reading import PUNCTUATION

_DIGITS = "영일이삼사오육칠팔구"
_SMALL = ("", "십", "백", "천")
_LARGE = ("", "만", "억", "조", "경", "해", "자", "양", "구", "간", "정", "재", "극")
_NATIVE_ONES = ("", "한", "두", "세", "네", "다섯", "여섯", "일곱", "여덟", "아홉")
_NATIVE_TENS = ("", "열", "스물", "서른", "마흔", "쉰", "예순", "일흔", "여든", "아흔")
# 발 (shots), 방, 축 and 쪽 (pages) are left out where the Sino-Korean reading is likelier.
_COUNTERS_TEXT = """
군데 권 개 그루 닢 대 마리 모금 뭇 발짝 번째 번 벌 보루 살 술 시간 시 쌈 움큼 짝 채 척 첩 켤레 톨 통 명 사람 잔 병
가지 달 송이 곳 자루 장 그릇 봉지 상자 박스 조각 줄 쌍 접시 포기 바퀴 차례 끼 묶음 컵 팀 곡 편 배 건 방울 다발 알
과목 종류 자리 글자 겹 갑 큰술 작은술 스푼 식구 걸음 갈래 군데
"""
_COUNTERS = "|".join(sorted(set(_COUNTERS_TEXT.split()), key=len, reverse=True))
# The largest number that is said with native numerals: 열두 시 but 십삼 시.
_LARGEST_NATIVE = {"시": 12, "시간": 20, "배": 20}
# What makes another word of the counter, or the number of one thing among others out of it.
_SINO_AFTER_ALL = re.compile(
    r"개(?:월|국|년|사|소|교|항)|대(?:\s?째|회|학|원|기업|강|손|\s?\d|\s?(?:독자|보험|명절|문명|천왕|불가사의|원칙|과제|요소))"
    r"|시(?:즌|리즈|그마)|번(?:지|길|호|가|\s?(?:출구|버스|국도|문제|선|트랙|홈|채널|타자|선수|게이트|승강장|교향곡|도로|방|마))"
    r"|통신|달러|배럴|장\s?\d+절|권역|편성|팀장|조각상|줄기세포|건물|병동|명분"
)
_COUNTED = re.compile(rf"(?<![\d.제])(?<!제 )(?<!분의 )(?<!넘버 )(?<!버전 )(\d+)(?=\s?(?P<counter>{_COUNTERS}))")
_RANGE = re.compile(rf"(?<![\d.])(\d+)에서 (\d+)(\s?(?:{_COUNTERS}))(?!\d)")
_PLAIN = re.compile(r"\d+(?:\.\d+)?")


def spelled(text: str) -> str:
    """Spell every number of `text`, whose signs have been read."""
    # June and October have lost a sound.
    text = re.sub(r"(?<!\d)0?6월", "유월", re.sub(r"(?<!\d)10월", "시월", text))
    text = re.sub(r"(?<!\d)1번째", "첫번째", text)
    text = re.sub(r"(?<![\d.])0(?=\d\s?[시분초월일](?!\d))", "", text)
    # 1만 is 만: nobody says 일만.
    text = re.sub(r"(?<![\d.])1(?=[십백천만])", "", text)
    # 112, 114 and 119, where something is reported to them.
    text = re.sub(r"(?<!\d)11[249](?=에 |로 |번? ?신고| ?구급)", lambda m: phone_digits(m[0]), text)
    text = _COUNTED.sub(_counted, _RANGE.sub(_each_counted, text))
    return _PLAIN.sub(lambda m: number(m[0]), re.sub(r"(?<![\d.])(?=\.\d)", "0", text))


def number(digits: str) -> str:
    """Read a number with or without decimals; a leading zero makes it a row of digits."""
    whole, _, decimals = digits.partition(".")
    if len(whole) > 1 and whole.startswith("0") and not decimals:
        return phone_digits(whole)
    return f"{sino(whole)}점{one_by_one(decimals)}" if decimals else sino(whole)


def sino(digits: str) -> str:
    """Read a whole number in Sino-Korean: `110` is 백십, `10000` is 만. Beyond 극 the digits are read one by one."""
    digits = digits.lstrip("0")
    if not digits:
        return _DIGITS[0]
    if len(digits) > 4 * len(_LARGE):
        return one_by_one(digits)
    groups: list[str] = []
    for place, end in enumerate(range(len(digits), 0, -4)):
        group = _thousands(digits[max(0, end - 4) : end])
        if group:
            # 만 for 10000, but 십일만 and 일억.
            groups.append(("" if group == "일" and place == 1 and len(digits) == 5 else group) + _LARGE[place])
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


def _counted(match: re.Match[str]) -> str:
    """Read in native numerals, unless the number is too large or what follows is no counter after all."""
    digits, counter = match[1], match["counter"]
    rest = match.string[match.end() :].lstrip()
    largest = _LARGEST_NATIVE.get(counter, 99)
    if len(digits) > 2 or not 0 < int(digits) <= largest or _SINO_AFTER_ALL.match(rest):
        return digits
    if counter == "대" and int(digits) % 10 == 0:  # 20대: in one's twenties
        return digits
    return native(int(digits))


def _each_counted(match: re.Match[str]) -> str:
    rest = match.string[match.start(3) :].lstrip()
    if _SINO_AFTER_ALL.match(rest):
        return match[0]
    # 3에서 5개: the counter belongs to both, or the first would be read as Sino-Korean.
    return f"{match[1]}{match[3]}에서 {match[2]}{match[3]}"


_MARKS = str.maketrans("：；，。．！？\n·、:;～~—―–•‥・", ",,,..!?.,,,,……---,…,")
_KEPT = frozenset({*PUNCTUATION, " "})
_LETTERS = "가-힣ㄱ-ㅎㅏ-ㅣ"
# Days that name an event are said digit by digit: 3·1절, 6.25 전쟁.
_EVENT = re.compile(
    r"(?<![\d.])(\d{1,2})[·.ㆍ・](\d{1,2})(?=\s?(?:절|운동|전쟁|민주|혁명|테러|동란|사태|사변|선언|참사|때|당시|세대|기념|사건))"
)
_QUARTER = re.compile(r"(?<![\d/])([1-4])/4(?=\s?분기)")
# Two for one, in a shop.
_OFFER = re.compile(r"(?<!\d)([12])\+1(?=\s?(?:행사|이벤트|상품|증정|세일|할인))")
_NAMED_NUMBER = re.compile(r"[\u2160-\u2182\u2460-\u249b\u24ea-\u24ff\u2776-\u2793]")
_BELOW_ZERO = re.compile(r"(?<![\d\w])[-−]\s?(?=\d+(?:\.\d+)?\s?(?:℃|°C))")
_WEEKDAY = re.compile(r"(?<=\d일)\s?[(（]([월화수목금토일])[)）]")
_FAHRENHEIT = re.compile(r"(?<![\d.])(\d+(?:\.\d+)?)\s?(?:℉|°F)")
_FROM = re.compile(r"(?<=[년월일시분원])~(?=[\s,.!?)]|$)")
_COMPARED = re.compile(r"(?<=[A-Za-z\d)])\s?([<>≤≥])\s?(?=[-−]?\d)")
_COMPARED_LETTERS = re.compile(r"(?<=[A-Za-z\d)])\s?([<>≤≥])\s?([A-Za-z]+)(?![^<>]*>)")
_READABLE = frozenset({*PUNCTUATION, *map(chr, _MARKS), *" /"})
_TOPIC = re.compile(rf"(\w?)\s?{TOPIC}")
_LETTERS_WITH_CODA = frozenset("LMNRlmnr")


def spoken_signs(text: str) -> str:
    """Write signs and numbers in words; `=` becomes the topic particle that fits the word before it."""
    refuse_references(text)
    text = _EVENT.sub(lambda m: one_by_one(m[1]) + one_by_one(m[2]), text.replace("...", "…"))
    text = _QUARTER.sub(lambda m: one_by_one(m[1] + "4"), text)
    text = _OFFER.sub(lambda m: f"{'원' if m[1] == '1' else '투'} 플러스 원", text)
    # Before signs are folded, after which a circled number is a number like any other.
    text = fold(_NAMED_NUMBER.sub(_named, text))
    text = _FAHRENHEIT.sub(r"화씨 \1도", text)
    text = _COMPARED_LETTERS.sub(lambda m: f"{TOPIC} {m[2]}{KOREAN.bound[m[1]]}", text)
    text = _COMPARED.sub(rf"{TOPIC} \1", _BELOW_ZERO.sub("영하 ", text))
    text = _WEEKDAY.sub(r" \1요일", read_signs(text, KOREAN))
    text = _TOPIC.sub(_topic, spelled(pauses(_FROM.sub("부터", text), _LETTERS)))
    require_readable(text, _READABLE | frozenset(filter(is_letter, text)))
    return text


def normalise(text: str) -> str:
    """Give Hangul, spaces, upstream's marks and quotes, brackets and the like.

    Raises:
        TextRejected: `unreadable_text` for a sign that has no reading where it stands.
    """
    text = re.sub(r"\s+", " ", spoken_signs(text).translate(_MARKS)).strip()
    require_readable(text, _KEPT | frozenset(filter(is_letter, text)))
    return text


def _named(match: re.Match[str]) -> str:
    """Circled and Roman numerals number things, so no counter makes them native: ①번 is 일번."""
    beside = match.string[match.start() - 1 : match.start()] + match.string[match.end() :][:1]
    spoken = sino(str(int(unicodedata.numeric(match[0]))))
    return f" {spoken} " if any(character.isnumeric() for character in beside) else spoken


def _topic(match: re.Match[str]) -> str:
    last = match[1]
    # 은 after a consonant, 는 after a vowel; L, M, N and R end in one when they are spelled.
    coda = bool(taken_apart(last).coda) if last and is_syllable(last) else last in _LETTERS_WITH_CODA
    return f"{last}{'은' if last and coda else '는'}"
