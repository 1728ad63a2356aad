"""Hangul syllables taken apart into letters, and the letters of upstream's table."""

from __future__ import annotations

from dataclasses import dataclass

_FIRST, _LAST = 0xAC00, 0xD7A3
_ONSETS = "ㄱㄲㄴㄷㄸㄹㅁㅂㅃㅅㅆㅇㅈㅉㅊㅋㅌㅍㅎ"
_VOWELS = "ㅏㅐㅑㅒㅓㅔㅕㅖㅗㅘㅙㅚㅛㅜㅝㅞㅟㅠㅡㅢㅣ"
_CODAS = ("", *"ㄱㄲㄳㄴㄵㄶㄷㄹㄺㄻㄼㄽㄾㄿㅀㅁㅂㅄㅅㅆㅇㅈㅊㅋㅌㅍㅎ")
# The table has eight vowels; the others are written as two of them.
_VOWEL_PARTS = str.maketrans(
    {
        "ㅘ": "ㅗㅏ", "ㅙ": "ㅗㅐ", "ㅚ": "ㅗㅣ", "ㅝ": "ㅜㅓ", "ㅞ": "ㅜㅔ", "ㅟ": "ㅜㅣ", "ㅢ": "ㅡㅣ",
        "ㅑ": "ㅣㅏ", "ㅒ": "ㅣㅐ", "ㅕ": "ㅣㅓ", "ㅖ": "ㅣㅔ", "ㅛ": "ㅣㅗ", "ㅠ": "ㅣㅜ",
    }
)  # fmt: skip


@dataclass
class Syllable:
    """One syllable block; the pronunciation rules change it in place."""

    onset: str
    vowel: str
    coda: str
    grammar: str = ""
    """`V` at the end of a verb stem, `E` at the end of a verb ending, else empty."""

    @property
    def letters(self) -> str:
        """The letters of upstream's table, vowels written as their parts."""
        return f"{self.onset}{divided(self.vowel)}{self.coda}"


def is_syllable(character: str) -> bool:
    """Whether the character is a composed Hangul syllable."""
    return _FIRST <= ord(character) <= _LAST


def taken_apart(character: str) -> Syllable:
    """Split a composed syllable into onset, vowel and coda (compatibility letters)."""
    index = ord(character) - _FIRST
    onset, rest = divmod(index, len(_VOWELS) * len(_CODAS))
    vowel, coda = divmod(rest, len(_CODAS))
    return Syllable(_ONSETS[onset], _VOWELS[vowel], _CODAS[coda])


def divided(letters: str) -> str:
    """Write compound vowels as the simple ones of the table."""
    return letters.translate(_VOWEL_PARTS)
