"""Reads English: CMUdict first, homographs by part of speech, unknown words by a network."""

from __future__ import annotations

import re
from functools import cache

from tts_train_gpt_sovits.text.english.letters import LetterNetwork
from tts_train_gpt_sovits.text.english.normal import EnglishNormaliser
from tts_train_gpt_sovits.text.english.tagger import Tagger
from tts_train_gpt_sovits.text.package_data import read_text
from tts_train_gpt_sovits.text.reading import TextReading

LIBRARIES = ("inflect",)
_TOKEN = re.compile(r"[A-Za-z]+(?:'[A-Za-z]+)*|[.,?!'\-]")
_VOICELESS = frozenset(["P", "T", "K", "F", "TH", "HH"])
_HISSING = frozenset(["S", "Z", "SH", "ZH", "CH", "JH"])
_SHORTEST = 4
_SPELLED = 3


class EnglishReader:
    """Reads English as upstream does, without NLTK.

    CMUdict (first pronunciation), g2p_en's list of homographs with NLTK's perceptron tagger, g2p_en's network for
    words that the dictionary lacks (up to three letters are spelled). Upstream also cuts unknown words into known ones
    and has a list of names; neither is used here.
    """

    def __init__(self) -> None:
        self._words = dictionary()
        self._homographs = dict(
            (word, (first, second, tag))
            for word, first, second, tag in (
                line.split("|") for line in read_text("english_homographs.txt").splitlines()
            )
        )
        self._normaliser = EnglishNormaliser(self._words)
        self._tagger = Tagger()
        self._network = LetterNetwork()

    def read(self, text: str) -> TextReading:
        """Read `text`; fewer than four phones get a comma in front, as in upstream's training and inference."""
        norm_text = self._normaliser.normalise(text)
        tokens = _TOKEN.findall(norm_text)
        phones = [
            p for token, tag in zip(tokens, self._tagger.tag(tokens), strict=True) for p in self._token(token, tag)
        ]
        if phones and len(phones) < _SHORTEST:
            phones.insert(0, ",")
        return TextReading(norm_text, tuple(phones))

    def _token(self, token: str, tag: str) -> list[str]:
        word = token.lower()
        if not token[0].isalpha():
            return ["-" if token == "'" else token]
        if len(word) == 1:
            return self._letter(token)
        if word in self._homographs:
            first, second, wanted = self._homographs[word]
            # The list has one tag longer than others, VBP of read, which VB stands for too.
            return (first if tag.startswith(wanted) or wanted.startswith(tag) else second).split()
        return self._word(word)

    def _letter(self, letter: str) -> list[str]:
        return ["EY1"] if letter == "A" else self._words[letter.lower()].split()

    def _word(self, word: str) -> list[str]:
        if word in self._words:
            return self._words[word].split()
        if word.endswith("'s"):
            return self._possessive(self._word(word[:-2]) if len(word) > 3 else self._letter(word[0].upper()))
        letters = word.replace("'", "")
        if len(letters) <= _SPELLED:
            return [phone for letter in letters for phone in self._letter(letter.upper())]
        return self._network.guess(letters)

    def _possessive(self, phones: list[str]) -> list[str]:
        if phones[-1] in _VOICELESS:
            return [*phones, "S"]
        return [*phones, "AH0", "Z"] if phones[-1] in _HISSING else [*phones, "Z"]


@cache
def dictionary() -> dict[str, str]:
    """CMUdict: each lower-case word with the phones of its first pronunciation, separated by spaces."""
    lines = (line.partition(" ") for line in read_text("english_words.txt.xz").splitlines())
    return {word: phones for word, _, phones in lines}
