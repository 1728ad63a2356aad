"""Abbreviations, titles and Roman numerals."""

from __future__ import annotations

import re

from tts_train_gpt_sovits.text.english.spoken.numbers import cardinal, ordinal
from tts_train_gpt_sovits.text.english.spoken.rules import Rule, after, before, follows, rule

WORDS = {
    "mr": "mister", "mrs": "missus", "ms": "miz", "prof": "professor", "jr": "junior", "sr": "senior", "mt": "mount",
    "vs": "versus", "etc": "et cetera", "approx": "approximately", "dept": "department", "gen": "general",
    "col": "colonel",
    "capt": "captain", "lt": "lieutenant", "rev": "reverend", "hon": "honorable", "sgt": "sergeant", "gov": "governor",
    "sen": "senator", "rep": "representative", "ave": "avenue", "blvd": "boulevard", "rd": "road", "hwy": "highway",
    "inc": "incorporated", "ltd": "limited", "corp": "corporation", "est": "established", "govt": "government",
    "dr": "doctor", "st": "saint",
}  # fmt: skip
_BEFORE_NUMBERS = {
    "No": "number", "no": "number", "Nos": "numbers", "nos": "numbers", "p": "page", "pp": "pages", "vol": "volume",
    "Vol": "volume", "fig": "figure",
    "Fig": "figure", "ch": "chapter", "Ch": "chapter", "ext": "extension", "apt": "apartment", "Apt": "apartment",
    "sec": "section", "Sec": "section", "eq": "equation", "Eq": "equation", "ca": "circa", "pg": "page",
    "ver": "version",
}  # fmt: skip
_STREETS = {"st": "street", "dr": "drive"}
_NO_NAMES = r"\b(?:at|in|the|of|to|from|near|and|by|on|with|for|dear|ask|see|is|was|as|but|or|when|then|that|after) "
_RULERS_TEXT = """
Albert Alexander Alfonso Benedict Catherine Charles Christian Clement Constantine Darius Edward Elizabeth Ferdinand
Francis Frederick George Gregory Gustav Henry Innocent Ivan James John Paul Juan Carlos Leo Leopold Louis Mary
Napoleon Nicholas Otto Peter Philip Pius Ptolemy Rama Ramses Ramesses Richard Rudolf Sixtus Thutmose Umberto Urban
Victor Emmanuel Wilhelm William Xerxes
"""
_RULERS = frozenset(_RULERS_TEXT.split())
_NUMBERED_TEXT = """
Act Appendix Article Book Chapter Class Division Episode Figure Grade Group Level Lesson Mark Part Phase Round Scene
Schedule Section Series Stage Step Table Tier Title Type Unit Vol Volume War Bowl
"""
_NUMBERED = frozenset(_NUMBERED_TEXT.split())
_ROMAN = r"(?=[IVXLC])(?:C{0,3})(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3})\b"
_VALUES = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100, "D": 500, "M": 1000}


def _abbreviation(match: re.Match[str]) -> str | None:
    word = match[1]
    plain = word.lower()
    full = WORDS.get(plain)
    if not full or word.isupper():
        return None
    ends = not after(match).strip()
    follows_name = (
        follows(match, r"[a-z] ") and re.search(r"\b[A-Z][a-z]+ $", before(match)) and not follows(match, _NO_NAMES)
    )
    names_next = bool(re.match(r"\s+[A-Z]", after(match)))
    numbered = bool(re.search(r"\d(?:st|nd|rd|th) $", before(match))) and not names_next
    if plain in _STREETS and (numbered or (follows_name and (plain == "st" or not names_next))):
        full = _STREETS[plain]
    return full + ("." if ends else "")


def _before_number(match: re.Match[str]) -> str:
    return _BEFORE_NUMBERS[match[1]]


def _roman(match: re.Match[str]) -> str | None:
    """Read a numeral after a ruler's name as a place, after Chapter and its like as a number; others where certain."""
    name = re.search(r"\b([A-Z][a-z]+)\.? $", before(match))
    certain = len(match[0]) > 2 and set(match[0]) <= set("IVX") and match[0] != "XXX"
    if not match[0] or not (name or certain):
        return None
    digits = str(roman_value(match[0]))
    if re.match(r" centur(?:y|ies)\b", after(match)):
        return ordinal(digits)
    if not name:
        return cardinal(digits)
    ends = not re.match(r" ?[a-z]", after(match)) or re.match(r" (?:of|and|was|is|to|in)\b", after(match))
    if name[1] in _NUMBERED and (match[0] != "I" or ends or name[1] == "War"):
        return cardinal(digits)
    if name[1] in _RULERS and len(match[0]) > 1 - (match[0] in "VX") and match[0] not in "LC":
        return f"the {ordinal(digits)}" if match[0] != "I" else None
    return cardinal(digits) if len(match[0]) > 1 and set(match[0]) <= set("IVX") else None


def roman_value(numeral: str) -> int:
    """Give the number that a Roman numeral in capitals stands for."""
    values = [_VALUES[letter] for letter in numeral]
    return sum(-v if v < max(values[i:]) else v for i, v in enumerate(values))


ABBREVIATIONS: tuple[Rule, ...] = (
    rule(r"e\.\s?g\.", lambda _: "for example", re.IGNORECASE),
    rule(r"i\.\s?e\.", lambda _: "that is", re.IGNORECASE),
    rule(r"Ph\.\s?D\.?", lambda _: "P H D"),
    rule(rf"({'|'.join(_BEFORE_NUMBERS)})\.\s*(?=\d)", _before_number),
    rule(r"([A-Za-z]+)\.(?=\s+\S|,|\s*$)", _abbreviation),
    rule(r"c\. ?(?=\d{3,4}\b)", lambda _: "circa"),
    rule(r"WW(I{1,2}|[12])\b", lambda m: f"World War {'one' if m[1] in {'I', '1'} else 'two'}"),
    rule(_ROMAN, _roman),
)
