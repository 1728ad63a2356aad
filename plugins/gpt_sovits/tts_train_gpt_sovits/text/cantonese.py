"""Reads Cantonese: Jyutping syllables as upstream's `Y`-prefixed phones."""

from __future__ import annotations

import re

from tts_train_gpt_sovits.text.chinese.normal import normalise_cantonese
from tts_train_gpt_sovits.text.reading import PUNCTUATION, TextReading, TextRejected, library

LIBRARIES = ("ToJyutping", "cn2an")
_SYLLABLE = re.compile(r"([a-z]+)([1-6])")
_CONSONANTS = ("kw", "gw", "ng", "p", "b", "t", "d", "k", "g", "f", "h", "l", "m", "n", "s", "w", "c", "z", "j")
# How upstream cuts syllables that begin with a vowel: the first of these that fits stands as the initial.
_VOWELS = ("aa", "ai", "au", "ap", "at", "ak", "a", "e", "ong", "on", "ou", "oi", "ok", "o", "uk", "ung")


class CantoneseReader:
    """Reads Cantonese by ToJyutping; two phones a character, one a mark."""

    def __init__(self) -> None:
        self._jyutping = library("ToJyutping", purpose="Reading Cantonese", extra="yue").get_jyutping_list

    def read(self, text: str) -> TextReading:
        """Read `text`; raises TextRejected `unreadable_text` for a character without a reading."""
        norm_text = normalise_cantonese(text)
        groups = [self._group(character, jyutping) for character, jyutping in self._jyutping(norm_text)]
        phones = tuple(phone for group in groups for phone in group)
        return TextReading(norm_text, phones, tuple(map(len, groups)))

    def _group(self, character: str, jyutping: str | None) -> tuple[str, ...]:
        if character in PUNCTUATION:
            return (character,)
        syllables = (jyutping or "").split()
        if len(character) != 1 or not syllables or not all(map(_SYLLABLE.fullmatch, syllables)):
            raise TextRejected("unreadable_text", f"{character!r}: no Cantonese reading in the dictionary")
        return tuple(phone for syllable in syllables for phone in syllable_phones(syllable))


def syllable_phones(jyutping: str) -> tuple[str, str]:
    """Split `gwong2` into `Ygw` and `Yong2`.

    A syllable without a consonant gets its own first part as initial, and a syllable that is nothing but an initial
    repeats the end of it as final: `m4` is `Ym Ym4`, `oi3` is `Yoi Yi3` (upstream's table).
    """
    body, tone = jyutping[:-1], jyutping[-1]
    # Consonants of two letters come first: kw before k.
    initial = next((part for part in (*_CONSONANTS, *_VOWELS) if body.startswith(part)), body[:1])
    final = body[len(initial) :] or initial[-1]
    return f"Y{initial}", f"Y{final}{tone}"
