"""Reads Mandarin: Han characters to pinyin of words, changed by sandhi, to phones (initial, final with its tone)."""

from __future__ import annotations

import logging
import re
from types import ModuleType
from typing import Any

from tts_train_gpt_sovits.text.chinese.normal import LONG_PAUSE, normalise_mandarin
from tts_train_gpt_sovits.text.chinese.sandhi import Word, change_tones, colour_final, join_words
from tts_train_gpt_sovits.text.reading import TextReading, TextRejected, library

_ZERO_INITIALS = {"a": "AA", "e": "EE", "o": "OO"}
_TWO_LETTER_INITIALS = ("zh", "ch", "sh")
_RETROFLEX = ("zh", "ch", "sh", "r")
_SIBILANT = ("z", "c", "s")
# After these u is written for ü, which the table calls v.
_FRONTED = ("j", "q", "x", "y")
_FRONT_VOWEL = {"u": "v", "ue": "ve", "uan": "van", "un": "vn"}


def syllable_phones(syllable: str, tone: str) -> tuple[str, str]:
    """Split a pinyin syllable (`zhuang`, `lv`, `er`) into (initial, final + tone).

    Syllables without a consonant get a placeholder initial (AA, EE, OO); the three vowels written `i` are told apart
    (`i`, `ir` after zh ch sh r, `i0` after z c s); yan and ye have finals of their own, `En` and `E`.
    """
    if syllable[0] in _ZERO_INITIALS:
        return _ZERO_INITIALS[syllable[0]], syllable + tone
    initial = syllable[:2] if syllable.startswith(_TWO_LETTER_INITIALS) else syllable[:1]
    return initial, _final(initial, syllable[len(initial) :]) + tone


def _final(initial: str, final: str) -> str:
    # Three sounds are written i: those of zhi, zi and qi.
    if final == "i" and initial in _RETROFLEX:
        return "ir"
    if final == "i" and initial in _SIBILANT:
        return "i0"
    if initial == "y" and final in {"an", "e"}:
        return "En" if final == "an" else "E"
    if initial in _FRONTED or (initial in {"l", "n"} and final == "ue"):
        # The table writes ü as v.
        return _FRONT_VOWEL.get(final, final)
    return final


LIBRARIES = ("pypinyin", "jieba", "cn2an", "opencc")
_SYLLABLE = re.compile(r"([a-zê]+)([1-5])")
# Characters whose reading as a word of its own follows from the part of speech (jieba's tag).
_BY_TAG = {
    ("的", "uj"): "de5", ("地", "uv"): "de5", ("得", "ud"): "de5", ("着", "uz"): "zhe5", ("了", "ul"): "le5",
    ("过", "ug"): "guo5", ("只", "q"): "zhi1", ("长", "v"): "zhang3", ("还", "v"): "huan2", ("为", "p"): "wei4",
}  # fmt: skip


class ChineseReader:
    """Reads Mandarin of one version.

    Readings come from pypinyin's dictionary of phrases, word by word as jieba cuts them. Upstream asks a network
    (g2pW) instead, whose weights have to be downloaded; a polyphone that stands alone may differ from upstream's.

    Args:
        erhua: whether a final 儿 takes the tone before it (v2 and later; v1 reads it as its own syllable).
    """

    def __init__(self, *, erhua: bool = True) -> None:
        self._erhua = erhua
        jieba, pypinyin = _load("jieba"), _load("pypinyin")
        jieba.setLogLevel(logging.WARNING)
        self._cutter = _cutter(jieba)
        # Upstream uses jieba_fast, a compiled copy of it with the same dictionary.
        self._tagger = _load("jieba.posseg").POSTokenizer(self._cutter)
        self._simplify = _load("opencc").OpenCC("t2s").convert
        self._pinyin, self._style = pypinyin.lazy_pinyin, pypinyin.Style.TONE3

    def read(self, text: str) -> TextReading:
        """Read `text`; two phones a character, one a mark."""
        norm_text = normalise_mandarin(self._simplify(text))
        phones: list[str] = []
        word2ph: list[int] = []
        for run in re.findall(r"[!?…,.\-^]|[^!?…,.\-^]+", norm_text):
            found = [("SP3" if run == LONG_PAUSE else run,)] if len(run) == 1 and not run.isalpha() else self._han(run)
            phones += [phone for group in found for phone in group]
            word2ph += [len(group) for group in found]
        return TextReading(norm_text.replace(LONG_PAUSE, ","), tuple(phones), tuple(word2ph))

    def _han(self, run: str) -> list[tuple[str, ...]]:
        words = [self._word(pair.word, pair.flag) for pair in self._tagger.lcut(run)]
        groups: list[tuple[str, ...]] = []
        for word in join_words(words):
            changed = change_tones(word, self._cutter.lcut_for_search)
            changed = colour_final(changed) if self._erhua else changed
            groups += map(syllable_phones, changed.syllables, changed.tones)
        return groups

    def _word(self, text: str, tag: str) -> Word:
        known = _BY_TAG.get((text, tag))
        syllables = [known] if known else self._pinyin(text, style=self._style, neutral_tone_with_five=True)
        matches = [_SYLLABLE.fullmatch(syllable) for syllable in syllables]
        if len(matches) != len(text) or None in matches:
            raise TextRejected("unreadable_text", f"{text!r}: a character without a Mandarin reading in the dictionary")
        parts = [match.groups() for match in matches if match]
        return Word(text, tag, tuple(base.replace("ê", "e") for base, _ in parts), "".join(tone for _, tone in parts))


def _load(module: str) -> ModuleType:
    return library(module, purpose="Reading Chinese", extra="zh")


def _cutter(jieba: ModuleType) -> Any:  # noqa: ANN401 - jieba has no types
    """Make jieba's tokenizer in memory: left alone, it would load a cache that any user may have put into /tmp."""
    cutter = jieba.Tokenizer()
    cutter.FREQ, cutter.total = cutter.gen_pfdict(cutter.get_dict_file())
    cutter.initialized = True
    return cutter
