"""Reads Korean: pronounced Hangul as jamo of upstream's table."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from types import ModuleType

from tts_train_gpt_sovits.text.korean.normal import normalise
from tts_train_gpt_sovits.text.korean.rules import Syllable, divided, is_syllable, pronounce, taken_apart
from tts_train_gpt_sovits.text.languages import Script, script_of
from tts_train_gpt_sovits.text.reading import PUNCTUATION, TextReading, library, read_text

LIBRARIES = ("mecab-python3", "python-mecab-ko-dic")
SPACE = "空"
STOP = "停"


class KoreanReader:
    """Reads Korean by the standard rules, with MeCab to tell verb stems and endings from nouns.

    Words that follow no rule (깻잎, 발전) come from g2pK's list, which upstream uses.
    """

    def __init__(self) -> None:
        mecab, dictionary = _load("MeCab"), _load("mecab_ko_dic")
        # Without the null device MeCab looks for a configuration of the system's, and fails where there is none.
        self._tagger = mecab.Tagger(f'-r "{os.devnull}" -d "{dictionary.dictionary_path}"')
        pairs = (line.split(" ") for line in read_text("korean_words.txt").splitlines())
        self._irregular = {written: spoken for written, spoken in pairs}
        self._irregular_word = re.compile("|".join(sorted(self._irregular, key=len, reverse=True)))

    def read(self, text: str) -> TextReading:
        """Read `text`; spaces are the phone 空, unknown marks 停, and a syllable at the end gets a full stop."""
        norm_text = normalise(text)
        # Longest first in the pattern, so that a compound wins over its parts.
        spoken = self._irregular_word.sub(lambda match: self._irregular[match[0]], norm_text)
        syllables = [taken_apart(character) if is_syllable(character) else character for character in spoken]
        self._mark_grammar(spoken, syllables)
        pronounce(list(_with_stops(syllables)))
        phones = [phone for item in syllables for phone in _phones(item)]
        if phones and script_of(phones[-1]) is Script.HANGUL:
            phones.append(".")
        return TextReading(norm_text, tuple(phones))

    def _mark_grammar(self, text: str, syllables: list[Syllable | str]) -> None:
        lines = [line.split("\t") for line in self._tagger.parse(text).splitlines() if "\t" in line]
        tagged = [(surface, features.split(",", 1)[0]) for surface, features in lines]
        places = [i for i, character in enumerate(text) if not character.isspace()]
        # MeCab may normalise what it reads; without places for its tags the rules go by sounds alone.
        if "".join(surface for surface, _ in tagged) != "".join(text.split()):
            return
        end = 0
        for surface, tag in tagged:
            end += len(surface)
            # Of a word of several morphemes the last one meets what follows.
            item, kind = syllables[places[end - 1]], tag.split("+")[-1][0]
            if isinstance(item, Syllable) and kind in {"V", "E"}:
                item.grammar = kind


def _load(module: str) -> ModuleType:
    return library(module, purpose="Reading Korean", extra="ko")


def _with_stops(items: list[Syllable | str]) -> Iterator[Syllable | None]:
    """Show the rules only syllables and single spaces; a mark stops every change, so it counts as two."""
    for item in items:
        if isinstance(item, Syllable):
            yield item
        else:
            yield None
            if item != " ":
                yield None


def _phones(item: Syllable | str) -> Iterator[str]:
    if isinstance(item, Syllable):
        yield from item.letters
    elif item == " ":
        yield SPACE
    elif script_of(item) is Script.HANGUL:
        yield from divided(item)
    else:
        yield item if item in PUNCTUATION else STOP
