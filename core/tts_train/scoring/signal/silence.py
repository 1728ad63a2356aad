"""Where speech begins and ends in a sound, by its energy."""

from __future__ import annotations

import numpy as np

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
    levels = _levels(sound)
    heard = np.flatnonzero(levels > max(float(np.percentile(levels, 95)) - BELOW_PEAK_DB, FLOOR_DB))
    if not len(heard):
        return 0.0, 0.0
    return float(heard[0] * FRAME_S), min(float((heard[-1] + 1) * FRAME_S), sound.seconds)


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
