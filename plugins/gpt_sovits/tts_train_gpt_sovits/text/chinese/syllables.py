"""Pinyin syllables as upstream's phones: an initial and a final with its tone."""

from __future__ import annotations

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
    if final == "i" and initial in _RETROFLEX:
        return "ir"
    if final == "i" and initial in _SIBILANT:
        return "i0"
    if initial == "y" and final in {"an", "e"}:
        return "En" if final == "an" else "E"
    if initial in _FRONTED or (initial in {"l", "n"} and final == "ue"):
        return _FRONT_VOWEL.get(final, final)
    return final
