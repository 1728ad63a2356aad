"""What a recogniser hears, held against the text: in any language that it knows, and the language of the sound, too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from tts_train.contract.metric import Recogniser
from tts_train.corpus.language import base_language
from tts_train.findings.measure import Examined, FindingKind, Judge, Measure, Measured, NotMeasured, Told
from tts_train.scoring.metrics.words import errors

_HOW = "no recogniser was named: add --recogniser whisper, or any that corpus transcribe has"


class RecognisedText(Measure):
    """The text that a recogniser hears, and how far the row's is from it.

    Args:
        recogniser: able to work; None: nothing is measured, and the report says so.
    """

    name = "recognised"
    packages = ("jiwer",)
    reads_text = True

    def __init__(self, recogniser: Recogniser | None = None) -> None:
        self.recogniser = recogniser
        # Once, not for each clip: a recogniser reads its weights for this, which may be gigabytes.
        self._settings = {} if recogniser is None else {"name": recogniser.name, **recogniser.settings()}

    def missing(self) -> str | None:
        """Say that a recogniser must be named, or what must be installed."""
        return _HOW if self.recogniser is None else super().missing()

    def settings(self) -> Mapping[str, Any]:
        """Return which recogniser it is, with its weights."""
        return self._settings

    def measure(self, examined: Examined) -> Mapping[str, Any]:
        """Return ``heard``, its distance ``heard_cer`` in percent of the text, and ``heard_language``.

        Raises:
            NotMeasured: if the recogniser does not know the row's language.
        """
        assert self.recogniser is not None
        language = base_language(examined.take.language)
        if why := self.recogniser.lacks(language):
            raise NotMeasured(why)
        heard = self.recogniser.recognise(examined.take.sound, language)
        found: dict[str, Any] = {"heard": heard.text}
        if distance := errors(examined.take.text, heard.text):
            found["heard_cer"] = round(distance["cer"], 1)
        # One that was given the language does not tell it.
        if language is None and heard.language and heard.language_confidence:
            found |= {"heard_language": heard.language, "heard_sure": round(heard.language_confidence, 3)}
        return found


class RecognisedJudge(Judge):
    """Tells rows whose text a recogniser does not hear, and rows spoken in another language than most."""

    measures = (RecognisedText,)
    kinds: ClassVar[tuple[FindingKind, ...]] = (
        FindingKind(
            name="heard_otherwise",
            summary="A recogniser hears another text.",
            advice="Listen: write what is said. Names and numbers it often writes otherwise.",
            threshold=60.0,
            unit="% of the letters",
            digits=0,
            source="PocketSphinx has up to 35 % on clear English prompts; of other texts of these, 95 % differ by 64 % "
            "and more. Lower it for a better recogniser: --thresholds heard_otherwise=30.",
        ),
        FindingKind(
            name="heard_language",
            summary="Another language is spoken than in most rows.",
            advice="Name the row's language, or take it out.",
            threshold=70.0,
            unit="% sure",
            digits=0,
            source="Chosen, not measured. Only rows that name no language are heard for it.",
        ),
    )

    def figures(self, rows: Sequence[Measured]) -> Mapping[str, Mapping[str, Told]]:
        """Return the distance of each text, and how sure it is that each row is in another language."""
        heard = [row for row in rows if "heard_language" in row.figures]
        spoken = [row.figures["heard_language"] for row in heard]
        most = max(sorted(set(spoken)), key=spoken.count, default="")
        return {
            "heard_otherwise": {
                row.origin: Told(figure=row.figures["heard_cer"], detail=f"'{row.figures['heard']}'")
                for row in rows
                if "heard_cer" in row.figures
            },
            "heard_language": {
                row.origin: Told(
                    figure=0.0 if row.figures["heard_language"] == most else 100 * row.figures["heard_sure"],
                    detail=f"{row.figures['heard_language']}, most rows are {most}",
                )
                for row in heard
            },
        }
