"""Normalises Korean to Hangul and marks: signs about numbers as words, then the numbers."""

from __future__ import annotations

import re
import unicodedata

from tts_train_gpt_sovits.text.expressions.fold import fold
from tts_train_gpt_sovits.text.expressions.leftover import is_letter, pauses, refuse_references, require_readable
from tts_train_gpt_sovits.text.expressions.read import read_signs
from tts_train_gpt_sovits.text.korean.hangul import is_syllable, taken_apart
from tts_train_gpt_sovits.text.korean.numbers import one_by_one, sino, spelled
from tts_train_gpt_sovits.text.korean.words import KOREAN, TOPIC
from tts_train_gpt_sovits.text.symbols import PUNCTUATION

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
    coda = bool(taken_apart(last).coda) if last and is_syllable(last) else last in _LETTERS_WITH_CODA
    return f"{last}{'은' if last and coda else '는'}"
