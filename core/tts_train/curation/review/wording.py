"""What a text alone gives away: words in a loop, phrases that recognisers make up, expressions with two readings."""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections import Counter

MOST_WORDS_IN_LOOP = 6
"""Longest phrase that is looked for as one that repeats itself."""
COMPRESSED = 2.4
"""Size of a text over its size compressed, from which on it repeats itself: Whisper's default for the same."""
_LONG_ENOUGH_TO_COMPRESS = 80

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
# Scripts without blanks between words: a stretch of two or more characters, three times in a row.
_UNSPACED_LOOP = re.compile(r"([^\s\d]{2,12}?)\1{2,}")
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
_EXPRESSION = re.compile(
    r"[$€£¥#]?\d[\d.,:/–-]*(?:\s?[%°€$£¥])?"  # numbers, times, dates, money
    r"|\b(?:Dr|Mr|Mrs|Ms|St|Nr|vs|etc|bzw|ca|usw|evtl|Mme|Mlle|Sr|Sra|Fr|Hr|Prof|approx|Ave|Jr)\."
    r"|\b(?:z\.\s?B|d\.\s?h|u\.\s?a|e\.g|i\.e|a\.m|p\.m|p\.\s?ej|т\.\s?д|т\.\s?е)\."
    r"|\b[A-ZÄÖÜ]{2,5}\b(?![’'])"  # spelled, or read as a word
    r"|\bNo\.\s?\d+|[&@+=§]"
)
MADE_UP = frozenset(
    {
        "thank you for watching", "thanks for watching", "please subscribe", "like and subscribe",
        "subtitles by the amara org community", "untertitel der amara org community",
        "untertitel im auftrag des zdf 2020", "untertitelung des zdf 2020", "vielen dank fürs zuschauen",
        "sous titres réalisés par la communauté d amara org", "sous titrage société radio canada",
        "sous titrage st 501", "subtítulos realizados por la comunidad de amara org", "gracias por ver el video",
        "sottotitoli creati dalla comunità amara org", "sottotitoli e revisione a cura di qtss",
        "legendas pela comunidade amara org", "продолжение следует", "субтитры сделал dimatorzok",
        "субтитры создавал dimatorzok", "спасибо за просмотр", "ご視聴ありがとうございました",
        "字幕由amara org社区提供",
        "请不吝点赞 订阅 转发 打赏支持明镜与点点栏目", "시청해주셔서 감사합니다", "ترجمة نانسي قنقر",
    }
)  # fmt: skip
"""What Whisper writes of silence and noise: endings of the subtitles that it was trained on, as its users report them
(openai/whisper discussion 679, Vexa-ai/vexa 617, amicalhq/amical 71)."""


def spoken_words(text: str) -> list[str]:
    """Return the words of a text without case and marks; characters where its script has no blanks between words."""
    # NFKC: full-width letters and digits of Japanese texts are those of others.
    plain = unicodedata.normalize("NFKC", text).casefold()
    words = _WORD.findall(plain)
    if len(_UNSPACED.findall(plain)) * 2 > sum(map(len, words)):
        return [character for word in words for character in word]
    return words


def plain_phrase(text: str) -> str:
    """Return a text as it is compared with others: its words with one blank between."""
    return " ".join(_WORD.findall(unicodedata.normalize("NFKC", text).casefold()))


def count_letters(text: str) -> int:
    """Return how many letters and digits a text has."""
    return sum(map(str.isalnum, text))


def find_loop(text: str) -> tuple[str, int] | None:
    """Return a phrase that stands several times in a row, and how often; None where there is none.

    A single word counts from three times on (people say "no, no"), a phrase of words from two.
    """
    # The longest stretch of all: "thank you" four times, not its "you thank" three times.
    # The first thousand tell: a stretch of one word is looked at from each of its words, which would take hours.
    words = spoken_words(text)[:1000]
    best: tuple[str, int] | None = None
    for length in range(1, MOST_WORDS_IN_LOOP + 1):
        start = 0
        while start + 2 * length <= len(words):
            times = _times(words, start, length)
            if times >= (3 if length == 1 else 2) and _says_more(words[start : start + length]):
                if best is None or times * length > best[1] * len(best[0].split()):
                    best = (" ".join(words[start : start + length]), times)
                start += length * times
            else:
                start += 1
    return best or _unspaced_loop(text) or _compressed(text)


def made_up(text: str) -> bool:
    """Tell whether a text is known as one that recognisers make up of silence."""
    return plain_phrase(text) in MADE_UP


def two_readings(text: str) -> list[str]:
    """Return the expressions that front ends of different backends read in different ways, each once."""
    # All in capitals is a style of writing, not an abbreviation.
    shouted = text.isupper()
    found = (match.group().strip(" .,:-–") or match.group() for match in _EXPRESSION.finditer(text))
    return list(dict.fromkeys(each for each in found if not (shouted and each.isalpha())))


def script_of(text: str) -> str:
    """Return the script of most letters by the first word of their Unicode names, as in ``LATIN``; empty for none."""
    names = Counter(unicodedata.name(each, "").split(" ")[0] for each in text if each.isalpha())
    return names.most_common(1)[0][0] if names else ""


def _times(words: list[str], start: int, length: int) -> int:
    phrase, times = words[start : start + length], 1
    while words[start + times * length : start + (times + 1) * length] == phrase:
        times += 1
    return times


def _says_more(phrase: list[str]) -> bool:
    """Digits are read out one by one, and a phrase of one word is that word in a loop, not a phrase."""
    if all(map(str.isdigit, phrase)):
        return False
    # Characters of a script without blanks: 哈哈 is a word, and is looked for as a stretch.
    return not any(_UNSPACED.match(word) and len(word) == 1 for word in phrase) and (
        len(phrase) == 1 or len(set(phrase)) > 1
    )


def _unspaced_loop(text: str) -> tuple[str, int] | None:
    match = _UNSPACED_LOOP.search(text) if _UNSPACED.search(text) else None
    return (match[1], len(match[0]) // len(match[1])) if match else None


def _compressed(text: str) -> tuple[str, int] | None:
    # Loops with small changes, as Whisper finds them itself; short texts hardly compress at all.
    raw = text.encode(errors="replace")
    if len(raw) < _LONG_ENOUGH_TO_COMPRESS:
        return None
    ratio = len(raw) / len(zlib.compress(raw))
    return (" ".join(text.split()[:3]), round(ratio)) if ratio > COMPRESSED else None
