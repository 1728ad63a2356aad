"""Does a take say its text? By forced alignment without any download, or by the errors that a Whisper model hears.

PocketSphinx (BSD) carries its acoustic model and dictionary, for English. The aligner gives up where sound and text
part, and what share of the words it has then placed separates right from wrong text well: see docs/evaluation.md. Word
and character errors are those of a Whisper model of the user's (faster-whisper), counted by jiwer.
"""

from __future__ import annotations

import importlib.util
import re
import unicodedata
from collections.abc import Mapping

from tts_train.contract.metric import Figure, Metric, Take, optional
from tts_train.scoring.recognisers.models import WHISPER_INSTALL, WHISPER_RATE, hear, load_whisper
from tts_train.scoring.recognisers.sphinx import SPHINX_RATE, feed, is_filler, sphinx
from tts_train.sound import Floats

_WORD = re.compile(r"[a-z]+(?:'[a-z]+)*")


class WordsFound(Metric):
    """Share of a text's words that a forced alignment places in the sound; words out of the dictionary do not count."""

    name = "alignment"
    figures = (
        Figure(name="words_found", unit="%", better="higher", summary="words that forced alignment finds", digits=0),
    )
    wants = frozenset({"text"})
    languages = frozenset({"en"})
    packages = ("pocketsphinx",)

    def measure(self, take: Take) -> Mapping[str, float]:
        """Return the share in percent; nothing if the dictionary has none of the words."""
        words = [word for word in words_of(take.text) if sphinx("align").lookup_word(word)]
        if not words:
            return {}
        found = aligned(take.sound.at(SPHINX_RATE), words)
        return {"words_found": 100.0 * min(1.0, found / len(words))}


def words_of(text: str) -> list[str]:
    """Return the English words of a text in lower case; numbers in digits are none."""
    return _WORD.findall(text.lower().replace("’", "'"))


def aligned(samples: Floats, words: list[str]) -> int:
    """Return how many of the words, all of them in the dictionary, are placed in samples at 16 kHz."""
    decoder = sphinx("align")
    decoder.set_align_text(" ".join(words))
    feed(decoder, samples)
    if decoder.hyp() is None:
        return 0
    return sum(not is_filler(segment.word) for segment in decoder.seg())


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
        return errors(take.text, hear(model, take.sound.at(WHISPER_RATE), language=take.language).text)


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
    # M, too: vowel signs of Indic scripts are marks, not letters.
    kept = (letter if letter == "'" or unicodedata.category(letter)[0] in "LMN" else " " for letter in folded)
    return " ".join("".join(kept).split())
