"""The words of a text with their sounds: by PocketSphinx's dictionary in English, by rules of spelling elsewhere."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from pathlib import Path

from tts_train.contract.metric import package_folder
from tts_train.findings.measure import INSTALL
from tts_train.findings.text.alignment import ANY, Sounds
from tts_train.findings.text.spelling import NUMBERS, TABLES, spelt

KNOWN = frozenset(TABLES)
"""Languages whose texts can be held against a sound."""

_TAG = re.compile(r"<[^<>]*>")
_WORD = re.compile(r"\d+|[^\W\d_]+(?:['’][^\W\d_]+)*")
# A digit takes a third of a second, which is four sounds; how a long number is read cannot be told.
_SOUNDS_A_DIGIT = 4


def words_in(text: str) -> list[str]:
    """Return the words and numbers of a text in lower case; tags such as ``<laugh>`` are none."""
    plain = unicodedata.normalize("NFC", _TAG.sub(" ", text).lower().replace("’", "'"))
    return _WORD.findall(plain)


def spoken(text: str, language: str) -> list[tuple[str, Sounds]]:
    """Return the words of a text with their sounds; words of which nothing is heard are left out.

    Args:
        text: as the row has it.
        language: one of :data:`KNOWN`.
    """
    found = ((word, sounds_of(word, language)) for word in words_in(text))
    return [(word, sounds) for word, sounds in found if sounds]


@lru_cache(maxsize=100_000)
def sounds_of(word: str, language: str) -> Sounds:
    """Return the sounds of a word or number in lower case."""
    if word.isdecimal():
        # By its length first: of thousands of digits Python makes no number.
        if len(word) > 2 or int(word) >= len(NUMBERS[language]):
            return (ANY,) * (_SOUNDS_A_DIGIT * len(word))
        word = NUMBERS[language][int(word)]
    if language == "en":
        return _dictionary().get(word) or spelt(word, language)
    # In French and Italian what stands before the apostrophe is said by itself, without the rules of a word's end.
    return tuple(sound for part in word.split("'") for sound in spelt(part, language))


@lru_cache(maxsize=1)
def _dictionary() -> dict[str, Sounds]:
    file = package_folder("pocketsphinx", INSTALL) / Path("model", "en-us", "cmudict-en-us.dict")
    entries = (line.split() for line in file.read_text(encoding="utf-8").splitlines())
    # Other ways to say a word have a number in brackets. The first is the most common, and enough to tell texts apart.
    return {word: tuple(sounds) for word, *sounds in entries if not word.endswith(")")}
