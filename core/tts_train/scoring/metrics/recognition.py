"""Word and character errors, heard by a Whisper model of the user's (faster-whisper), counted by jiwer."""

from __future__ import annotations

import importlib.util
import unicodedata
from collections.abc import Mapping

from tts_train.contract.metric import Figure, Metric, Take, optional
from tts_train.weights.hub import WHISPER_INSTALL, load_whisper

SAMPLE_RATE = 16_000


class Recognition(Metric):
    """Errors of a transcript against the text, both without case and punctuation.

    Args:
        weights: folder or hub name of a faster-whisper model, such as ``large-v3``.
    """

    name = "recognition"
    figures = (
        Figure(name="wer", unit="%", better="lower", summary="word errors of a recogniser, over the words", digits=1),
        Figure(name="cer", unit="%", better="lower", summary="character errors of a recogniser", digits=1),
    )
    wants = frozenset({"text"})
    packages = ("faster_whisper", "jiwer")
    install = WHISPER_INSTALL

    def __init__(self, weights: str | None) -> None:
        self.weights = weights

    def missing(self) -> str | None:
        """Say that a model must be given, or what must be installed."""
        if self.weights is None:
            there = importlib.util.find_spec("faster_whisper") is not None
            return "give --weights.recognition MODEL (a faster-whisper model)" + (
                "" if there else f" and {WHISPER_INSTALL}"
            )
        return super().missing()

    def measure(self, take: Take) -> Mapping[str, float]:
        """Transcribe the take and count."""
        assert self.weights is not None
        model = load_whisper(self.weights, option="--weights.recognition")
        segments, _ = model.transcribe(take.sound.at(SAMPLE_RATE), language=take.language, beam_size=5)
        return errors(take.text, " ".join(segment.text for segment in segments))


def errors(text: str, heard: str) -> dict[str, float]:
    """Return word and character errors in percent; nothing if the text has neither letters nor digits."""
    jiwer = optional("jiwer")
    due, found = plain(text), plain(heard)
    if not due:
        return {}
    return {"wer": 100.0 * float(jiwer.wer(due, found)), "cer": 100.0 * float(jiwer.cer(due, found))}


def plain(text: str) -> str:
    """Return a text in lower case, without punctuation and symbols, one space between words."""
    folded = unicodedata.normalize("NFKC", text).casefold().replace("’", "'")
    kept = (letter if letter == "'" or unicodedata.category(letter)[0] in "LMN" else " " for letter in folded)
    return " ".join("".join(kept).split())
