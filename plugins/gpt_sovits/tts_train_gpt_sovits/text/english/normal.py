"""Normalises English text to words, apostrophes and `. , ? ! -`."""

from __future__ import annotations

import re
from collections.abc import Container

from tts_train_gpt_sovits.text.english.amounts import MEASURES, MONEY, SHARES
from tts_train_gpt_sovits.text.english.codes import ABBREVIATIONS, CODES, TELEPHONES, addresses
from tts_train_gpt_sovits.text.english.dates import DATES, TIMES
from tts_train_gpt_sovits.text.english.numbers import Rule, inflect
from tts_train_gpt_sovits.text.english.signs import SIGNS, fold, silence

_SAID_AS_WORDS = frozenset(
    {"COVID", "GIF", "PIN", "RAM", "ROM", "SIM", "VIN", "ZIP"}
)  # short, or not in the dictionary
# Only here may a rule begin: most of a text is plain words, which no rule has to look at.
_START = re.compile(r"(?<![A-Za-z])[A-Za-z]| ?[^\sA-Za-z.,?!]|(?<![A-Za-z\d])\.(?=\d)|!(?==)")


class EnglishNormaliser:
    """Spells out what is not a word. Numbers are spoken by inflect.

    Args:
        words: the dictionary; capitals of four letters or more that it has are read as a word (NASA), others as
            letters (BBC).
    """

    def __init__(self, words: Container[str]) -> None:
        inflect()  # what is missing is told before the first number
        self._words = words
        self._rules: tuple[Rule, ...] = (
            *addresses(words), *DATES, *TELEPHONES, *TIMES, *MONEY, *MEASURES, *SHARES, *ABBREVIATIONS, *CODES, *SIGNS
        )  # fmt: skip

    def normalise(self, text: str) -> str:
        """Give letters, spaces, apostrophes and the marks `. , ? ! -`.

        Raises:
            TextRejected: `unreadable_text` for a sign that has no reading.
        """
        words = re.findall(r"[A-Za-z]{2,}", text)
        # In a line of capitals these say nothing of how a word is read.
        shouted = len(words) > 2 and all(word.isupper() for word in words)
        text = silence(self._spoken(fold(text)))
        text = re.sub(r"\b(?:[A-Z]\.){2,}", lambda m: m[0].replace(".", ""), text)
        text = re.sub(r"\ba m\b", "A M", text.lower()) if shouted else self._capitals(text)
        text = re.sub(r"(?<=[A-Za-z])-(?=[A-Za-z])", " ", text)
        text = re.sub(r"\s+", " ", text.replace("\n", ", "))
        text = re.sub(r"\s+(?=[.,?!]|'s\b)", "", text)
        return re.sub(r"([.,?!\-])[ .,?!\-]*[.,?!\-]", r"\1", text).strip()

    def _spoken(self, text: str) -> str:
        """Put words for numbers and signs: at each place the first rule that has some, which nothing reads again."""
        done: list[str] = []
        place = 0
        while found := _START.search(text, place):
            done.append(text[place : found.start()])
            place, words = self._first(text, found.start())
            done.append(words)
        return "".join(done) + text[place:]

    def _first(self, text: str, start: int) -> tuple[int, str]:
        for pattern, say in self._rules:
            match = pattern.match(text, start)
            # What a rule has said is never read again, so that no rule can spoil another's words.
            if match and match.end() > start and (words := say(match)) is not None:
                return match.end(), f" {words} "
        return start + 1, text[start]

    def _capitals(self, text: str) -> str:
        return re.sub(r"[A-Za-z]*[A-Z][A-Za-z]*", self._word_with_capitals, text)

    def _word_with_capitals(self, match: re.Match[str]) -> str:
        word = match[0]
        if word in _SAID_AS_WORDS:
            return word.lower()
        if word.lower() in self._words and (not word.isupper() or len(word) >= 4):
            return word
        word = re.sub(r"^([A-Z]{2,})s$", lambda m: f"{m[1]}'s", word)  # CDs
        word = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", word)
        return re.sub(r"\b[A-Z]{2,}\b", lambda m: " ".join(m[0]), word)
