"""Rows of the sample voice, measured as ``check --deep`` measures them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from tts_train.contract.metric import Take
from tts_train.corpus.read import open_corpus
from tts_train.corpus.rows.utterance import Utterance
from tts_train.demo.journey import VOICE
from tts_train.findings.measure import Examined, Measure, Measured
from tts_train.sound import Sound, read_sound


@cache
def sample_rows(count: int) -> tuple[Utterance, ...]:
    """The first rows of the sample voice."""
    return tuple(open_corpus(VOICE).rows())[:count]


def sound_of(place: int) -> Sound:
    """The sound of one of them."""
    return read_sound(sample_rows(40)[place].audio)


@dataclass(frozen=True)
class Said:
    """A sound with a text that may be another's."""

    sound: Sound
    text: str
    language: str | None = "en"


def measured(said: Sequence[Said], measures: Sequence[Measure], around: int = 4) -> list[Measured]:
    """Measure rows, each with the texts around it."""
    return [
        Measured(
            origin=f"x.list:{place + 1}",
            text=one.text,
            speaker=None,
            language=one.language,
            seconds=one.sound.seconds,
            figures=_figures(one, measures, said[max(0, place - around) : place], said[place + 1 : place + 1 + around]),
        )
        for place, one in enumerate(said)
    ]


def _figures(one: Said, measures: Sequence[Measure], before: Sequence[Said], behind: Sequence[Said]) -> dict[str, Any]:
    examined = Examined(
        take=Take(sound=one.sound, text=one.text, language=one.language),
        speaker=None,
        raw=one.sound.samples[:, None],
        raw_rate=one.sound.sample_rate,
        near=tuple(other.text for other in (*before, *behind)),
    )
    return {name: value for measure in measures for name, value in measure.measure(examined).items()}
