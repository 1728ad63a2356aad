"""The first pass over a recording: where speech is likely, how loud each moment is, and how its channels become one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr
from numpy.typing import NDArray

from tts_train.corpus.audio.condition import DC, ChannelSums
from tts_train.corpus.audio.stream import open_stream
from tts_train.curation.speech.detectors import HOP, RATE, Detector

QUIETEST = -100.0
"""dB; what digital silence counts as."""


@dataclass(frozen=True, kw_only=True)
class HeardSound:
    """What the first pass keeps of a recording: a few hundred numbers a second."""

    frames: int
    """Samples of one channel."""
    rate: int
    """Samples a second."""
    bits: int
    warnings: tuple[str, ...]
    sums: ChannelSums
    """Decides how the channels become one."""
    peak: float
    """Loudest sample, of full scale."""
    levels: NDArray[np.float32]
    """(time,) in dB of full scale, a figure for each :data:`HOP` samples at :data:`RATE`: 5 ms."""
    highs: NDArray[np.float32]
    """(time,) in dB, of the differences of neighbouring samples: an s is louder in them, and hum is gone."""
    speech: NDArray[np.float32]
    """(time,) how likely speech is, 0 to 1, at the same moments."""

    def to_samples(self, at: float) -> int:
        """Return the sample of the recording at a moment that is counted in levels."""
        return min(self.frames, max(0, round(at * HOP * self.rate / RATE)))


def hear(path: Path, detector: Detector, *, told: Callable[[float], None] | None = None) -> HeardSound:
    """Listen to a whole recording once, in a stream.

    Args:
        path: the recording.
        detector: of speech; it has heard nothing before.
        told: called with the seconds that each block took.

    Raises:
        AudioRejected: if it cannot be used.
    """
    sums, levels, frames, peak = ChannelSums(), _Levels(), 0, 0.0
    with open_stream(path) as stream:
        # 16 kHz: what the detector was trained at, and enough to tell loud from quiet.
        to_16k = soxr.ResampleStream(stream.rate, RATE, 1, dtype="float32", quality="MQ")
        for block in stream.blocks():
            sums.add(block)
            frames += len(block)
            peak = max(peak, float(np.abs(block).max(initial=0.0)))
            # By the channels so far; the clips themselves are mixed by those of the whole recording.
            sound = levels.add(to_16k.resample_chunk(sums.mix(block)))
            detector.add(sound)
            if told:
                told(len(block) / stream.rate)
        # The resampler holds back some milliseconds until it is told that this was all.
        detector.add(levels.add(to_16k.resample_chunk(np.zeros(0, np.float32), last=True)))
        found, highs = levels.all()
        return HeardSound(
            frames=frames,
            rate=stream.rate,
            bits=stream.bits,
            warnings=(*stream.warnings, *sums.warnings()),
            sums=sums,
            peak=peak,
            levels=found,
            highs=highs,
            speech=detector.speech(found),
        )


class _Levels:
    """Takes an offset out of the sound, and keeps how loud each 5 ms of it and of its differences are."""

    def __init__(self) -> None:
        self._rest = np.zeros(0, np.float32)
        self._found: list[NDArray[np.float32]] = []
        self._sum, self._count, self._last = 0.0, 0, np.zeros(1, np.float32)

    def add(self, sound: NDArray[np.float32]) -> NDArray[np.float32]:
        self._sum += float(sound.sum(dtype=np.float64))
        self._count += len(sound)
        # Of all so far: the mean of one block would take the low notes of a voice for an offset.
        offset = self._sum / max(1, self._count)
        if abs(offset) > DC:
            sound = sound - np.float32(offset)
        joined = np.concatenate([self._rest, sound])
        whole = len(joined) // HOP * HOP
        self._keep(joined[:whole].reshape(-1, HOP))
        self._rest = joined[whole:]
        return sound

    def all(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        if len(self._rest):
            self._keep(self._rest[None])
        both = np.concatenate(self._found, axis=1) if self._found else np.zeros((2, 0), np.float32)
        return both[0], both[1]

    def _keep(self, frames: NDArray[np.float32]) -> None:
        if not frames.size:
            return
        flat = np.concatenate([self._last, frames.reshape(-1)])
        self._last = flat[-1:]
        self._found.append(np.stack([_decibels(frames), _decibels(np.diff(flat).reshape(frames.shape))]))


def _decibels(frames: NDArray[np.float32]) -> NDArray[np.float32]:
    power = np.square(frames, dtype=np.float32).mean(axis=1)
    return np.asarray(10 * np.log10(np.maximum(power, 10 ** (QUIETEST / 10))), np.float32)
