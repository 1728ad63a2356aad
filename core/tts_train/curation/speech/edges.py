"""Where words begin and end, to a few milliseconds: the detector says about where, the loudness says exactly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tts_train.curation.speech.hearing import HeardSound
from tts_train.curation.speech.levels import noise_floor, runs, smooth

SECOND = 200
"""Levels in a second."""

# As silero-vad's own settings: speech begins at 0.5 and ends where it falls by 0.15; breaks under 0.1 s are none.
_BEGIN, _END, _BREAK = 0.5, 0.35, SECOND // 10
# Surely no speech, where the noise is measured.
_PAUSE = 0.15
# The detector is up to 0.3 s late or early, and a word may end with a breath that it does not hear.
_REACH = SECOND * 3 // 10
# 40 dB below the loudest moment of a stretch nothing of a word is heard any more.
_RANGE = 40.0
# dB above what 95 of 100 moments of the noise stay below, each of 50 ms: so steady noise may be little quieter than an
# f or an s (of white noise they vary by 0.2 dB), and a restless room sets a higher mark by itself.
_OVER_NOISE = 1.5
_STEADY = 95.0
_WIDTH = 10
# Of an s, whose energy is above 4 kHz, differences of samples at 16 kHz are so many dB louder than the samples.
_HIGH = 5.0
# Closures of stops such as p, t and k are silent for up to 0.1 s: shorter gaps are no place to cut.
GAP = SECOND // 10
# 15 ms: clicks are shorter.
_LEAST = 3


@dataclass(frozen=True, slots=True)
class SpeechStretch:
    """Speech without a pause in it; positions are counted in levels."""

    start: int
    end: int


@dataclass(frozen=True, kw_only=True)
class Edges:
    """What is speech in a recording, and how quiet the rest is."""

    spoken: list[SpeechStretch]
    """In order; at least :data:`GAP` lie between two."""
    floor: NDArray[np.float32]
    """(time,) level of the noise, in dB."""


def find_edges(heard: HeardSound) -> Edges:
    """Return the stretches of speech of a recording, with the gaps between words that are long enough to cut at."""
    pauses = heard.speech < _PAUSE
    floor = noise_floor(heard.levels, pauses)
    levels = np.stack([smooth(heard.levels, 3), smooth(heard.levels, _WIDTH), smooth(heard.highs, _WIDTH)])
    floors = np.stack([noise_floor(each, pauses, share=_STEADY) for each in levels[1:]])
    rough = list(_rough(heard.speech))
    spoken: list[SpeechStretch] = []
    for number, (start, end) in enumerate(rough):
        # Half of the way to the neighbour: a moment belongs to one stretch.
        before = (rough[number - 1][1] + start) // 2 if number else 0
        after = (end + rough[number + 1][0]) // 2 if number + 1 < len(rough) else len(floor)
        low, high = max(before, start - _REACH), min(after, end + _REACH)
        spoken += _refined(levels, floors, (low, high), (start, end))
    return Edges(spoken=_joined(spoken), floor=floor)


def _rough(speech: NDArray[np.float32]) -> Iterator[tuple[int, int]]:
    """Yield where speech is, with hysteresis: from above the one threshold to below the other."""
    for start, end in runs(speech > _END, join=_BREAK):
        if float(speech[start:end].max()) >= _BEGIN:
            yield start, end


def _refined(
    levels: NDArray[np.float32], floors: NDArray[np.float32], around: tuple[int, int], rough: tuple[int, int]
) -> Iterator[SpeechStretch]:
    """Yield what stands out of the noise in a stretch, and what is joined to it on either side."""
    low, high = around
    exact, wide, highs = levels[:, low:high]
    floor, high_floor = floors[:, low:high]
    least = float(exact.max(initial=-200.0)) - _RANGE
    # Over the noise by the wider window, which tells more of it, and by the narrow one, which says when.
    heard = (wide > floor + _OVER_NOISE) & (exact > least)
    heard |= (highs > high_floor + _OVER_NOISE) & (highs > least + _HIGH)
    found = [(low + start, low + end) for start, end in runs(heard, join=GAP - 1, least=_LEAST)]
    inside = [(start, end) for start, end in found if end > rough[0] and start < rough[1]]
    # Speech below the noise: the detector hears more than levels say, and is believed.
    yield from (SpeechStretch(start, end) for start, end in inside or [rough])


def _joined(spoken: list[SpeechStretch]) -> list[SpeechStretch]:
    found: list[SpeechStretch] = []
    for each in spoken:
        if found and each.start - found[-1].end < GAP:
            found[-1] = SpeechStretch(found[-1].start, max(each.end, found[-1].end))
        else:
            found.append(each)
    return found
