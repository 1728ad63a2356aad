"""Mandarin tone changes: which words are spoken as one, and how 不, 一, neutral and third tones change in them.

The rules and word lists are those of PaddleSpeech's front end, which upstream uses.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tts_train_gpt_sovits.text.reading import read_text

_LISTS = {name: frozenset(words.split()) for name, words in json.loads(read_text("chinese_words.json")).items()}
_PARTICLES = frozenset("吧呢哈啊呐噻嘛吖嗨呐哦哒额滴哩哟喽啰耶喔诶的地得")
_COUNTING = frozenset("几有两半多各整每做是")
_NUMERALS = frozenset("零一二三四五六七八九十百千万亿〇")


@dataclass(frozen=True)
class Word:
    """A word with its part of speech (jieba's tags), syllables and one tone digit for each."""

    text: str
    tag: str
    syllables: tuple[str, ...]
    tones: str

    def joined(self, other: Word, tag: str) -> Word:
        """Make one word of this one and the next."""
        return Word(self.text + other.text, tag, self.syllables + other.syllables, self.tones + other.tones)


Split = Callable[[str], Sequence[str]]
"""Cuts a word into every shorter word of the dictionary found in it."""


def join_words(words: Sequence[Word]) -> list[Word]:
    """Join what is spoken in one breath, so that tones can change inside it."""
    # In upstream's order, which is PaddleSpeech's: what one step has joined, the next sees as one word.
    joined = _join(words, lambda last, _: last.text == "不", keep_last_tag=False)
    joined = _join_asking(joined)
    joined = _join(joined, lambda last, _: last.text == "一")
    joined = _join(joined, lambda last, word: word.text == last.text)
    joined = _join_thirds(joined, lambda a, b: {*a.tones, *b.tones} == {"3"})
    joined = _join_thirds(joined, lambda a, b: a.tones[-1] == "3" == b.tones[0])
    return _join(joined, lambda _, word: word.text == "儿")


def change_tones(word: Word, split: Split) -> Word:
    """Apply the tone changes inside one joined word."""
    tones = _neutral(word, _yi(word.text, _bu(word.text, word.tones)), split)
    return replace(word, tones=_third(word.text, tones, split))


def colour_final(word: Word) -> Word:
    """Give a final 儿 the tone of the syllable it colours (erhua), unless it is a syllable of its own (女儿)."""
    text, tones = word.text, word.tones
    if text[-1] != "儿" or word.syllables[-1] != "er":
        return word
    # 儿 is never said with a first tone; upstream mends it, too (text/chinese2.py).
    tones = tones[:-1] + "2" if tones[-1] == "1" else tones
    own_syllable = text in _LISTS["never_erhua"] or word.tag in {"a", "j", "nr"}
    if (own_syllable and text not in _LISTS["erhua"]) or text[-2:] in _LISTS["never_erhua"] or len(text) == 1:
        return replace(word, tones=tones)
    # One sound with the syllable before it, and so that one's tone; the phones stay two, as the counts per character
    # want it.
    return replace(word, tones=tones[:-1] + tones[-2]) if tones[-1] in "25" else word


def _join(words: Sequence[Word], together: Callable[[Word, Word], bool], *, keep_last_tag: bool = True) -> list[Word]:
    joined: list[Word] = []
    for word in words:
        if joined and together(joined[-1], word):
            joined[-1] = joined[-1].joined(word, joined[-1].tag if keep_last_tag else word.tag)
        else:
            joined.append(word)
    return joined


def _join_asking(words: Sequence[Word]) -> list[Word]:
    """Make 看 一 看 one word."""
    joined: list[Word] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        asks = joined and rest and word.text == "一" and joined[-1].text == rest[0].text
        if asks and joined[-1].tag == rest[0].tag == "v":
            joined[-1] = joined[-1].joined(word, "v").joined(rest.pop(0), "v")
        else:
            joined.append(word)
    return joined


def _join_thirds(words: Sequence[Word], together: Callable[[Word, Word], bool]) -> list[Word]:
    """Join neighbours of at most three syllables; a word joined to its left takes nothing more on its right."""
    joined: list[Word] = []
    taken = False
    for i, word in enumerate(words):
        last = words[i - 1]
        twice = len(last.text) == 2 and last.text[0] == last.text[1]
        # Doubled words (奶奶) have a neutral tone of their own and take part in no chain of third tones.
        fits = bool(i) and not twice and len(last.text) + len(word.text) <= 3
        if fits and not taken and together(last, word):
            joined[-1] = joined[-1].joined(word, joined[-1].tag)
            taken = True
        else:
            joined.append(word)
            taken = False
    return joined


def _bu(text: str, tones: str) -> str:
    # Between a verb and its result 不 is neutral.
    if len(text) == 3 and text[1] == "不":  # 看不懂
        return tones[0] + "5" + tones[2]
    return "".join(
        "2" if character == "不" and tones[i + 1 : i + 2] == "4" else tones[i] for i, character in enumerate(text)
    )


def _yi(text: str, tones: str) -> str:
    # In a number 一 keeps its first tone.
    if "一" not in text or set(text) <= _NUMERALS:
        return tones
    if len(text) == 3 and text[1] == "一" and text[0] == text[2]:  # 看一看
        return tones[0] + "5" + tones[2]
    # So does an ordinal.
    if text.startswith("第一"):
        return tones[0] + "1" + tones[2:]
    changed = list(tones)
    for i, character in enumerate(text[:-1]):
        if character == "一":
            changed[i] = "2" if changed[i + 1] == "4" else "4"
    return "".join(changed)


def _neutral(word: Word, tones: str, split: Split) -> str:
    text, tag, changed = word.text, word.tag, list(tones)
    for i in range(1, len(text)):  # 奶奶, 试试
        if text[i] == text[i - 1] and tag[:1] in {"n", "v", "a"} and text not in _LISTS["never_neutral"]:
            changed[i] = "5"
    measure = text.find("个")
    if _ends_neutral(text, tag):
        changed[-1] = "5"
    elif (measure > 0 and (text[measure - 1] in _COUNTING or text[measure - 1] in _NUMERALS)) or text == "个":
        changed[measure] = "5"
    head, _tail = _halves(text, split)
    if head in _LISTS["neutral"] or head[-2:] in _LISTS["neutral"]:
        changed[len(head) - 1] = "5"
    if text[-2:] in _LISTS["neutral"]:
        changed[-1] = "5"
    return "".join(changed)


def _ends_neutral(text: str, tag: str) -> bool:
    last, before = text[-1], text[-2:-1]
    return (
        last in _PARTICLES
        or (text in {"了", "着", "过"} and tag in {"ul", "uz", "ug"})
        or (bool(before) and last in "们子" and tag in {"r", "n"} and text not in _LISTS["never_neutral"])
        or (bool(before) and last in "上下里" and tag in {"s", "l", "f"})
        or (bool(before) and last in "来去" and before in "上下进出回过起开")
    )


def _third(text: str, tones: str, split: Split) -> str:
    if len(text) == 2:
        return _pair(tones)
    if len(text) == 4:
        return _pair(tones[:2]) + _pair(tones[2:])
    if len(text) != 3:
        return tones
    head, tail = _halves(text, split)
    if tones == "333":  # 蒙古/包 changes both, 纸/老虎 the middle one
        return {2: "223", 1: "323"}.get(len(head), tones)
    first, second = _pair(tones[: len(head)]), _pair(tones[len(head) :])
    if second and tail and set(second) != {"3"} and second[0] == "3" == first[-1]:  # 好/喜欢
        first = first[:-1] + "2"
    return first + second


def _pair(tones: str) -> str:
    return "23" if tones == "33" else tones


def _halves(text: str, split: Split) -> tuple[str, str]:
    """Cut a word where its shortest part begins or ends."""
    # jieba gives all shorter words; the shortest tells where the compound was put together.
    part = min(split(text), key=len, default=text)
    if text.startswith(part):
        return part, text[len(part) :]
    return text[: -len(part)], part
