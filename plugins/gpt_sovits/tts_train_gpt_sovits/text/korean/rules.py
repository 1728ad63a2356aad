"""The standard pronunciation of Korean: syllables taken apart, and what happens where one meets the next.

After the rules of the National Institute of Korean Language (articles 5 to 27), in the form that g2pK gives them.
"""

from __future__ import annotations

from collections.abc import Sequence
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


_TENSE = {"ㄱ": "ㄲ", "ㄷ": "ㄸ", "ㅂ": "ㅃ", "ㅅ": "ㅆ", "ㅈ": "ㅉ"}
_ASPIRATED = {"ㄱ": "ㅋ", "ㄷ": "ㅌ", "ㅂ": "ㅍ", "ㅈ": "ㅊ"}
_NASAL = {"ㄱ": "ㅇ", "ㄷ": "ㄴ", "ㅂ": "ㅁ"}
# Article 13 and 14: what stays and what moves to a following vowel.
_CLUSTERS = {
    "ㄳ": "ㄱㅅ", "ㄵ": "ㄴㅈ", "ㄶ": "ㄴㅎ", "ㄺ": "ㄹㄱ", "ㄻ": "ㄹㅁ", "ㄼ": "ㄹㅂ", "ㄽ": "ㄹㅅ", "ㄾ": "ㄹㅌ",
    "ㄿ": "ㄹㅍ", "ㅀ": "ㄹㅎ", "ㅄ": "ㅂㅅ",
}  # fmt: skip
# Articles 8 to 11: the seven codas that are spoken.
_SPOKEN_CODA = {
    "ㄲ": "ㄱ", "ㅋ": "ㄱ", "ㄳ": "ㄱ", "ㄺ": "ㄱ", "ㅅ": "ㄷ", "ㅆ": "ㄷ", "ㅈ": "ㄷ", "ㅊ": "ㄷ", "ㅌ": "ㄷ",
    "ㅎ": "ㄷ", "ㅍ": "ㅂ", "ㅄ": "ㅂ", "ㄿ": "ㅂ", "ㄼ": "ㄹ", "ㄽ": "ㄹ", "ㄾ": "ㄹ", "ㅀ": "ㄹ", "ㄵ": "ㄴ",
    "ㄶ": "ㄴ", "ㄻ": "ㅁ",
}  # fmt: skip
_PALATAL = {"ㄷ": "ㅈ", "ㅌ": "ㅊ", "ㄾ": "ㅊ"}
_STEMS_THAT_TENSE = frozenset("ㄴㅁㄵㄻㄼㄾㄺ")


def pronounce(syllables: Sequence[Syllable | None]) -> None:
    """Change syllables in place to what is spoken. None stands for a space, two in a row for anything that stops sound.

    Sounds assimilate over one space; a coda moves to a following vowel only inside a word.
    """
    for block in syllables:
        if block is not None:
            _simplify_vowel(block)  # as written: 문의 keeps its ㅢ
    for i, syllable in enumerate(syllables):
        if syllable is None:
            continue
        following = syllables[i + 1] if i + 1 < len(syllables) else None
        if following is not None:
            _meet(syllable, following, gap=False)
        elif i + 2 < len(syllables) and (beyond := syllables[i + 2]) is not None:
            _meet(syllable, beyond, gap=True)
        else:
            syllable.coda = _SPOKEN_CODA.get(syllable.coda, syllable.coda)


def _simplify_vowel(syllable: Syllable) -> None:
    """Article 5: 져 is spoken 저, 희 is spoken 히."""
    if syllable.vowel == "ㅕ" and syllable.onset in "ㅈㅉㅊ":
        syllable.vowel = "ㅓ"
    elif syllable.vowel == "ㅢ" and syllable.onset != "ㅇ":
        syllable.vowel = "ㅣ"


def _meet(left: Syllable, right: Syllable, *, gap: bool) -> None:
    if right.onset == "ㅇ":
        if gap:
            left.coda = _SPOKEN_CODA.get(left.coda, left.coda)
        else:
            _link(left, right)
        return
    if _palatalised_before_h(left, right, gap=gap) or _with_h(left, right):
        return
    _tense_after_grammar(left, right, gap=gap)
    _assimilate(left, right)


def _link(left: Syllable, right: Syllable) -> None:
    """Articles 12.4, 13, 14 and 17: the coda moves to the vowel, ㅎ falls away, ㄷ and ㅌ turn palatal before i."""
    coda = left.coda
    if coda in {"", "ㅇ"}:
        return
    left.coda, moves = _parts(coda)
    if moves == "ㅎ":  # the rest of ㄶ and ㅀ moves in its place
        left.coda, moves = "", left.coda or "ㅇ"
    elif coda in _PALATAL and right.vowel in {"ㅣ", "ㅕ"}:
        moves = _PALATAL[coda]
    elif left.coda and moves == "ㅅ":
        moves = "ㅆ"
    right.onset = moves


def _palatalised_before_h(left: Syllable, right: Syllable, *, gap: bool) -> bool:
    """Article 17: 굳히다 is spoken 구치다."""
    if gap or left.coda != "ㄷ" or right.onset != "ㅎ" or right.vowel != "ㅣ":
        return False
    left.coda, right.onset = "", "ㅊ"
    return True


def _with_h(left: Syllable, right: Syllable) -> bool:
    """Article 12: ㅎ and a plain stop make an aspirated one, from either side."""
    stays, last = _parts(left.coda)
    if last == "ㅎ" and right.onset in {*_ASPIRATED, "ㅅ", "ㄴ", "ㅎ"}:
        left.coda = stays
        if right.onset == "ㄴ":
            if left.coda == "ㄹ":
                right.onset = "ㄹ"
            else:
                left.coda = "ㄴ"
        else:
            right.onset = "ㅆ" if right.onset == "ㅅ" else _ASPIRATED.get(right.onset, right.onset)
        return True
    if right.onset == "ㅎ" and (
        left.coda in {"ㄺ", "ㄼ", "ㄵ"} or _SPOKEN_CODA.get(left.coda, left.coda) in _ASPIRATED
    ):
        stays, last = (stays, last) if left.coda in {"ㄺ", "ㄼ", "ㄵ"} else ("", left.coda)
        plain = last if last == "ㅈ" else _SPOKEN_CODA.get(last, last)
        left.coda, right.onset = stays, _ASPIRATED[plain]
        return True
    return False


def _tense_after_grammar(left: Syllable, right: Syllable, *, gap: bool) -> None:
    """Articles 11, 24, 25 and 27: verb stems in a sonorant and adnominal -ㄹ make the next consonant tense."""
    if left.grammar == "V" and not gap and left.coda in _STEMS_THAT_TENSE and right.onset != "ㅂ":
        if left.coda == "ㄺ" and right.onset == "ㄱ":
            left.coda = "ㄹ"
        right.onset = _TENSE.get(right.onset, right.onset)
    elif left.grammar == "E" and gap and left.coda == "ㄹ":
        right.onset = _TENSE.get(right.onset, right.onset)


def _assimilate(left: Syllable, right: Syllable) -> None:
    """Articles 9 to 11, 18 to 20 and 23: spoken codas, tense, nasal and liquid sounds."""
    cluster, coda = left.coda, _SPOKEN_CODA.get(left.coda, left.coda)
    if left.vowel == "ㅏ" and left.onset == "ㅂ" and cluster == "ㄼ":  # 밟-, article 10's exception
        coda = "ㅂ"
    if coda in _NASAL or cluster in {"ㄼ", "ㄽ"}:
        right.onset = _TENSE.get(right.onset, right.onset)
    if coda in _NASAL and right.onset in "ㄴㅁㄹ":
        coda = _NASAL[coda]
        right.onset = "ㄴ" if right.onset == "ㄹ" else right.onset
    elif coda in {"ㅁ", "ㅇ"} and right.onset == "ㄹ":
        right.onset = "ㄴ"
    elif coda == "ㄴ" and right.onset == "ㄹ":
        coda = "ㄹ"
    elif coda == "ㄹ" and right.onset == "ㄴ" and not _object_particle(left):
        right.onset = "ㄹ"
    left.coda = coda


def _parts(coda: str) -> tuple[str, str]:
    """Split a coda into what stays and what may move to, or meet, the next syllable."""
    cluster = _CLUSTERS.get(coda)
    return (cluster[0], cluster[1]) if cluster else ("", coda)


def _object_particle(syllable: Syllable) -> bool:
    """을 and 를 leave a following ㄴ alone, as upstream has it."""
    return syllable.vowel == "ㅡ" and syllable.coda == "ㄹ" and syllable.onset in {"ㅇ", "ㄹ"}
