"""What one or two recognisers hear in a clip, in plain types, so that finished work is kept by content."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tts_train.contract.metric import HeardText, Recogniser
from tts_train.corpus import Limits, RowRejected, read_audio
from tts_train.corpus.language import language_code
from tts_train.curation.job import Facts, rejection
from tts_train.curation.row import ClipRow
from tts_train.errors import TTSTrainError
from tts_train.parallel.chunks import AGAIN
from tts_train.parallel.workers import limit_threads
from tts_train.scoring.metrics.words import errors
from tts_train.sound import Sound

VERSION = 1
"""Raised when the same recognisers give other results here, so that kept ones are not used."""
LACKS = "no_language"
"""Name of the fact that says why a row's language cannot be recognised."""
SECOND_TEXT = "second_text"
LANGUAGE_HEARD = "language_heard"
"""Name of the fact that says which language a recogniser put into a row."""
_RATE = 16_000
_LIMITS = Limits(min_seconds=0.1, max_seconds=300.0)
"""A clip may be longer than training takes; a chunk of up to 32 of them is in memory at once, 600 MB at most."""


@dataclass(frozen=True, kw_only=True)
class ClipHearing:
    """How clips are heard; it is sent to the processes that hear them."""

    first: Recogniser
    second: Recogniser | None = None
    language: str | None = None
    """Of rows that name none; None: it is told by the sound."""
    processes: int = 0
    """That hear at once on this machine, and share its cores; results do not depend on it."""

    def settings(self) -> dict[str, Any]:
        """Return what the results depend on besides the clips."""
        return {
            "version": VERSION,
            "first": _described(self.first),
            "second": None if self.second is None else _described(self.second),
            "language": self.language,
        }

    def language_of(self, row: ClipRow) -> str | None:
        """Return the language in which a row is heard, as recognisers name it."""
        named = named_language(row) or self.language
        # A name that nobody knows is passed on, so that the refusal names it.
        return None if named is None else (language_code(named) or named)

    def hear(self, clips: Sequence[Path], rows: Sequence[ClipRow]) -> list[Facts]:
        """Return of each clip text, confidence, language, and what the second one hears; or why nothing was heard."""
        if self.processes and "OMP_NUM_THREADS" not in os.environ:
            # Before a model is loaded, which takes four threads otherwise, in every process.
            limit_threads(max(1, (os.cpu_count() or 1) // self.processes))
        found: dict[str, Facts] = {}
        asked: list[_Asked] = []
        for clip, row in zip(clips, rows, strict=True):
            language = self.language_of(row)
            if why := self.first.lacks(language):
                found[row.audio] = {LACKS: why}
                continue
            try:
                audio = read_audio(clip, sample_rate=_RATE, limits=_LIMITS)
            except RowRejected as rejected:
                found[row.audio] = rejection(rejected)
            else:
                asked.append(_Asked(row.audio, Sound(audio.samples, audio.sample_rate), language))
        found |= self._heard(asked)
        return [found[row.audio] for row in rows]

    def _heard(self, asked: Sequence[_Asked]) -> dict[str, Facts]:
        first = _answers(self.first, asked)
        found = {
            one.audio: {
                "text": _one_line(heard.text),
                "confidence": heard.confidence,
                "language": heard.language,
                "language_confidence": heard.language_confidence,
            }
            for one, heard in first.items()
        }
        if self.second is None:
            return found
        known = [one for one, heard in first.items() if not self.second.lacks(one.language or heard.language)]
        # By itself: were it told what the first one heard, agreement in language would say nothing.
        for one, heard in _answers(self.second, known).items():
            found[one.audio] |= _compared(first[one], heard)
        return found


# eq=False: a clip is told from others by being one object; samples are not compared.
@dataclass(frozen=True, eq=False)
class _Asked:
    audio: str
    sound: Sound
    language: str | None


def _answers(recogniser: Recogniser, asked: Sequence[_Asked]) -> dict[_Asked, HeardText]:
    """Ask a recogniser; what it raises names it and the clips.

    Raises:
        TTSTrainError: for what is not meant for the user, such as a card without memory left.
    """
    if not asked:
        return {}
    try:
        heard = recogniser.recognise_many([one.sound for one in asked], [one.language for one in asked])
    except TTSTrainError:
        raise
    except Exception as error:
        where = asked[0].audio if len(asked) == 1 else f"one of {', '.join(one.audio for one in asked)}"
        raise TTSTrainError(
            f"Recogniser {recogniser.name} failed at {where}: {type(error).__name__}: {error}. {AGAIN}"
        ) from error
    return dict(zip(asked, heard, strict=True))


def named_language(row: ClipRow) -> str | None:
    """Return the language that somebody gave a row; one that was heard may be heard anew."""
    # Compared: a person may have corrected the language since.
    return None if row.facts.get(LANGUAGE_HEARD) == row.language else row.language


def _compared(first: HeardText, second: HeardText) -> Facts:
    """Return the second text, how far it agrees, and the confidence that follows from both."""
    counted = errors(first.text, second.text)
    found: Facts = {SECOND_TEXT: _one_line(second.text)}
    if not counted:
        return found
    # More characters may be wrong than there are: a second one that makes up sentences.
    agreement = max(0.0, 1.0 - counted["cer"] / 100.0)
    return {**found, "agreement": agreement, "confidence": combined(first.confidence, agreement)}


def combined(confidence: float, agreement: float) -> float:
    """Return how sure a text is, from the first recogniser's confidence and the second one's agreement, all 0 to 1.

    It is wrong where both are, as if the two were independent. Of 65 prompts of a human voice this told sphinx's wrong
    texts (over 10 % of the characters) from the others best, with whisper as the second one: area under the curve 0.96,
    by the geometric mean of both 0.89, by sphinx alone 0.82. The other way round, at 3 dB of noise, it cost least: 0.82
    for 0.84 by whisper alone; the geometric mean fell to 0.62.
    """
    return 1.0 - (1.0 - confidence) * (1.0 - agreement)


def _described(recogniser: Recogniser) -> list[Any]:
    settings: Mapping[str, Any] = recogniser.settings()
    return [recogniser.name, dict(settings)]


def _one_line(text: str) -> str:
    return " ".join(text.split())
