"""Tell rows whose text is not what is said: another text, that of a row beside it, words too few or too many."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

from tts_train.findings.measure import FindingKind, Judge, Measured, Told
from tts_train.findings.text.fit import TextFit

LEAST_FIT = -3.0
"""Nats a frame: see :class:`AgreementJudge`."""
# A sound that fits worse by 4 nats for a tenth of a second: less than one letter of difference between two texts.
LEAST_LEAD = 40.0
"""Nats over a clip."""

_TUNED = "Tuned on one half of human prompts in five languages, see docs/corpus.md: "


class AgreementJudge(Judge):
    """Holds each text against its sound, and against the texts around it."""

    measures = (TextFit,)
    kinds: ClassVar[tuple[FindingKind, ...]] = (
        FindingKind(
            name="swapped_text",
            summary="The text of a row beside it fits the sound better than its own.",
            advice="Exchange the texts where each fits the other's sound; otherwise look for texts that slipped a row.",
            threshold=LEAST_LEAD,
            unit="nats",
            digits=0,
            source=f"{_TUNED}right texts lead, exchanged ones are behind by 100 and more.",
        ),
        FindingKind(
            name="text_mismatch",
            summary="The text does not fit the sound.",
            advice="Listen, and write what is said, or take the clip out.",
            threshold=LEAST_FIT,
            unit="nats a frame",
            below=True,
            source=f"{_TUNED}right texts have -1.5 (English) to -2.2, other texts of the same set -4 to -6.",
        ),
        FindingKind(
            name="missing_words",
            summary="Something is said that the text does not have.",
            advice="Listen, and add the words to the text.",
            threshold=0.3,
            unit="s",
            source=f"{_TUNED}a word is some 0.3 s.",
        ),
        FindingKind(
            name="extra_words",
            summary="The text has a word that is not said, or is said otherwise.",
            advice="Listen, and take the word out or write it as it is said.",
            threshold=-6.5,
            unit="nats a frame",
            below=True,
            source=f"{_TUNED}the worst word of a right text has -3, a word that is not there -8.",
        ),
    )

    def figures(self, rows: Sequence[Measured]) -> Mapping[str, Mapping[str, Told]]:
        """Return the figures of the four kinds; single words are looked for only where the text as a whole fits."""
        # Where the whole is another text, every word of it would be told once more.
        fitting = [row for row in rows if fits(row)]
        return {
            "swapped_text": dict(_swapped(rows)),
            "text_mismatch": {row.origin: Told(figure=row.figures["fit"]) for row in rows if "fit" in row.figures},
            "missing_words": {
                row.origin: Told(figure=row.figures["unsaid"], detail=f"at {row.figures['unsaid_at']:.1f} s")
                for row in fitting
                if "unsaid" in row.figures
            },
            "extra_words": {
                row.origin: Told(figure=row.figures["word_fit"], detail=f"'{row.figures['word']}'")
                for row in fitting
                if "word" in row.figures
            },
        }


def fits(row: Measured) -> bool:
    """Tell whether a row's text is by and large what is said."""
    fit, lead = float(row.figures.get("fit", LEAST_FIT)), float(row.figures.get("rival_lead", 0.0))
    return fit > LEAST_FIT and lead < LEAST_LEAD


def _swapped(rows: Sequence[Measured]) -> Iterator[tuple[str, Told]]:
    for place, row in enumerate(rows):
        if "rival" not in row.figures:
            continue
        lead, rival = row.figures["rival_lead"], row.figures["rival"]
        # Rows that were dropped lie between: nobody says how many, so it is looked for a little farther.
        near = rows[max(0, place - 2 * TextFit.around) : place + 2 * TextFit.around + 1]
        other = next((each for each in near if each.text == rival and each is not row), None)
        yield row.origin, Told(figure=lead, detail=_detail(row, other) if lead >= LEAST_LEAD else "")


def _detail(row: Measured, other: Measured | None) -> str:
    if other is None:
        return f"that of a row beside it: '{row.figures['rival']}'"
    # Both ways: a text that slipped by a row has a better one beside it, but does not belong there itself.
    if other.figures.get("rival") == row.text and other.figures["rival_lead"] >= LEAST_LEAD:
        return f"exchanged with {other.origin}, whose sound fits this text"
    if row.figures["rival_fit"] <= LEAST_FIT:
        return f"{other.origin} fits better, but not well: neither says what is heard"
    return f"that of {other.origin}"
