"""What becomes of a row that was heard, and the report over all rows: each is counted once."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

from tts_train.contract.metric import Recogniser
from tts_train.curation.job import Facts
from tts_train.curation.recognition.hearing import LACKS, LANGUAGE_HEARD, SECOND_TEXT, named_language
from tts_train.curation.row import ClipRow

BY = "recogniser "
"""How ``text_by`` of a row begins whose text a recogniser wrote."""
MODEL, HYPOTHESES, AGREEMENT = "text_model", "hypotheses", "agreement"
LANGUAGE_CONFIDENCE, NOTHING_HEARD, NOT_HEARD = "language_confidence", "nothing_heard", "not_heard"
EARLIER_TEXT = "earlier_text"
"""Names of facts; each pass takes those of an earlier pass away."""
_FACTS = (
    *(MODEL, HYPOTHESES, AGREEMENT, EARLIER_TEXT),
    *(LANGUAGE_HEARD, LANGUAGE_CONFIDENCE, NOTHING_HEARD, NOT_HEARD),
)
_BANDS = 5
_SILENT = "silent"


@dataclass(kw_only=True)
class Outcome:
    """Makes new rows of what was heard, and counts."""

    by: Recogniser
    second: Recogniser | None = None
    rows: int = 0
    nothing_heard: int = 0
    kept: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    languages: Counter[str] = field(default_factory=Counter)
    confidences: list[float] = field(default_factory=list)

    def keep(self, row: ClipRow) -> ClipRow:
        """Count a row that has a text, and return it as it is."""
        self.rows += 1
        self.kept[row.text_by or "nobody named"] += 1
        return row

    def row(self, row: ClipRow, heard: Facts) -> ClipRow:
        """Return a row with what was heard in it.

        Args:
            row: as it stood.
            heard: what :meth:`tts_train.curation.recognition.hearing.ClipHearing.hear` returned, or ``error``.
        """
        self.rows += 1
        facts = {name: value for name, value in row.facts.items() if name not in _FACTS}
        why = heard.get("error") or heard.get(LACKS)
        # A clip of silence cannot be read as a recording for training; here it is an answer.
        if why and why != _SILENT:
            self.failed[str(why)] += 1
            detail = heard.get("detail")
            # The text stays, where there is one: it was written while the clip could be read.
            return replace(row, facts={**facts, NOT_HEARD: f"{why}: {detail}" if detail else str(why)})
        facts |= self._told(row, heard)
        if not heard.get("text"):
            self.nothing_heard += 1
            return replace(row, text="", text_by=None, confidence=None, facts={**facts, NOTHING_HEARD: self.by.name})
        language = named_language(row) or heard["language"]
        self.languages[language or "not told"] += 1
        confidence = round(float(heard["confidence"]), 4)
        self.confidences.append(confidence)
        return replace(
            row,
            text=heard["text"],
            text_by=f"{BY}{self.by.name}",
            confidence=confidence,
            language=language,
            facts=facts,
        )

    def _told(self, row: ClipRow, heard: Facts) -> Facts:
        text = heard.get("text", "")
        found: Facts = {} if self.by.model is None else {MODEL: self.by.model}
        # A text that is replaced is kept for one pass, so that nothing is lost by trying a model.
        if row.text.strip() and row.text != text:
            found[EARLIER_TEXT] = row.text
        # Beside the row's language, so that a later pass knows whether somebody gave it.
        if text and named_language(row) is None and heard["language"] is not None:
            found[LANGUAGE_HEARD] = heard["language"]
        if text and heard.get("language_confidence") is not None:
            found[LANGUAGE_CONFIDENCE] = round(float(heard["language_confidence"]), 4)
        if self.second is not None and SECOND_TEXT in heard:
            both = ((self.by, text), (self.second, heard[SECOND_TEXT]))
            found[HYPOTHESES] = [{"by": each.name, "text": its} for each, its in both]
        if AGREEMENT in heard:
            found[AGREEMENT] = round(float(heard[AGREEMENT]), 4)
        return found

    def figures(self) -> dict[str, Any]:
        """Return the report: ``rows`` is the sum of transcribed, kept, nothing_heard and not_heard."""
        written = len(self.confidences)
        return {
            "rows": self.rows,
            "transcribed": written,
            "kept": dict(self.kept.most_common()),
            "nothing_heard": self.nothing_heard,
            "not_heard": dict(self.failed.most_common()),
            "mean_confidence": round(sum(self.confidences) / written, 4) if written else None,
            "confidence": _histogram(self.confidences),
            "languages": dict(self.languages.most_common()),
        }


def _histogram(confidences: list[float]) -> dict[str, int]:
    # A confidence of 1 belongs to the last band.
    counts = Counter(min(int(one * _BANDS), _BANDS - 1) for one in confidences)
    return {f"{band / _BANDS:g} to {(band + 1) / _BANDS:g}": counts[band] for band in range(_BANDS)}
