"""Metrics of the wave alone: samples cut at full scale, how long a take is, and the silence before and behind it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from tts_train.contract.metric import Figure, Metric, Take
from tts_train.sound import Floats, Sound

FRAME_S = 0.01
BELOW_PEAK_DB = 40.0
"""A frame is silent if its level is this far below that of the sound's loud frames (their 95th percentile)."""
FLOOR_DB = -70.0
"""A frame below this level, of full scale, is silent whatever the rest is."""


def speech_span(sound: Sound) -> tuple[float, float]:
    """Return where speech begins and ends, in seconds; (0, 0) if there is none.

    Frames of 10 ms; steady noise less than 40 dB below the voice counts as speech, so a noisy sound has no silence.
    """
    heard = np.flatnonzero(_heard(sound))
    if not len(heard):
        return 0.0, 0.0
    return float(heard[0] * FRAME_S), min(float((heard[-1] + 1) * FRAME_S), sound.seconds)


def silent_stretches(sound: Sound) -> list[float]:
    """Return the length in seconds of each stretch of silence, those at both ends included."""
    # Heard before and behind, so that a stretch at either end has two edges as well.
    edges = np.flatnonzero(np.diff(np.concatenate([[True], _heard(sound), [True]]).astype(np.int8)))
    return [float(frames * FRAME_S) for frames in edges[1::2] - edges[::2]]


def _heard(sound: Sound) -> NDArray[np.bool_]:
    """(frames,) whether each frame of 10 ms has speech."""
    levels = _levels(sound)
    # Against loud frames rather than the loudest, which may be a click.
    heard: NDArray[np.bool_] = levels > max(float(np.percentile(levels, 95)) - BELOW_PEAK_DB, FLOOR_DB)
    return heard


def trimmed(sound: Sound, sample_rate: int) -> Floats:
    """Return the samples between beginning and end of speech at a rate; all of them if there is no speech."""
    begin, end = speech_span(sound)
    samples = sound.at(sample_rate)
    return samples[round(begin * sample_rate) : round(end * sample_rate)] if end > begin else samples


def _levels(sound: Sound) -> Floats:
    """(frames,) level of each frame in dB of full scale."""
    size = max(1, round(FRAME_S * sound.sample_rate))
    count = max(1, -(-len(sound.samples) // size))
    padded = np.zeros(count * size, np.float32)
    padded[: len(sound.samples)] = sound.samples
    power = np.square(padded.reshape(count, size)).mean(axis=1)
    levels: Floats = 10 * np.log10(np.maximum(power, 1e-12))
    return levels


FULL_SCALE = 32766 / 32768
"""The loudest two steps of 16 bits count as full scale: writers cut at one or the other."""
RUN = 3
"""Samples in a row at full scale that make a cut; a single one is a peak that just fits."""


class Clipping(Metric):
    """Samples at or beyond full scale, three or more in a row, over all samples."""

    name = "clipping"
    figures = (
        Figure(name="clipped", unit="%", better="lower", summary="samples that were cut at full scale", digits=3),
    )

    def measure(self, take: Take) -> Mapping[str, float]:
        """Return the share in percent."""
        loud = np.abs(take.sound.samples) >= FULL_SCALE
        # Not loud before and behind, so that a run at either end has two edges as well.
        edges = np.flatnonzero(np.diff(np.concatenate([[False], loud, [False]]).astype(np.int8)))
        lengths = edges[1::2] - edges[::2]
        return {"clipped": 100.0 * float(lengths[lengths >= RUN].sum()) / len(loud)}


class Duration(Metric):
    """Length of the speech over that of the recording's speech, silence before and behind left out of both."""

    name = "duration"
    figures = (
        Figure(
            name="duration_ratio",
            unit="",
            better="one",
            summary="length of the speech over that of the recording",
        ),
    )
    wants = frozenset({"reference"})

    def measure(self, take: Take) -> Mapping[str, float]:
        """Return the ratio; nothing if there is no speech in the recording."""
        assert take.reference is not None
        (begin, end), (reference_begin, reference_end) = speech_span(take.sound), speech_span(take.reference)
        due = reference_end - reference_begin
        return {"duration_ratio": (end - begin) / due} if due else {}


class Silence(Metric):
    """Seconds of silence at both ends; a take without speech is silent as long as it is."""

    name = "silence"
    figures = (
        Figure(name="leading_silence", unit="s", better="neither", summary="silence before the speech"),
        Figure(name="trailing_silence", unit="s", better="neither", summary="silence behind the speech"),
    )

    def measure(self, take: Take) -> Mapping[str, float]:
        """Return the silence before and behind."""
        begin, end = speech_span(take.sound)
        if end <= begin:
            return {"leading_silence": take.sound.seconds, "trailing_silence": 0.0}
        return {"leading_silence": begin, "trailing_silence": take.sound.seconds - end}
