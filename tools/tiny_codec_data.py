"""What the small codec is trained on: speech of the sample voice's maker, with the pitch that it was made from."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).parent))
from tiny_codec_sentences import sentences

Floats = npt.NDArray[np.float32]

SAMPLE_RATE, PITCH_HOP = 24_000, 300
PEAK = 0.5
UNVOICED = 40.0
"""The maker's pitch is below this, in Hz, where there is no voice."""
SPEEDS = (1.0, 1.0, 0.85, 1.15)


@dataclass(frozen=True)
class Clip:
    """One sentence: samples in [-1, 1] and, sample by sample, the pitch in Hz and the pulses' phase in cycles."""

    wave: Floats
    pitch: Floats
    cycles: npt.NDArray[np.float64]


class Speech:
    """All sentences, as ``make`` wrote them."""

    def __init__(self, file: Path) -> None:
        arrays = np.load(file)
        self._wave, self._pitch = arrays["wave"], arrays["f0"]
        self._ends = np.concatenate(([0], np.cumsum(arrays["lengths"])))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def clip(self, index: int) -> Clip:
        """Return a sentence."""
        start, stop = int(self._ends[index]), int(self._ends[index + 1])
        pitch = self._pitch[start // PITCH_HOP : stop // PITCH_HOP]
        centres = (np.arange(len(pitch)) + 0.5) * PITCH_HOP - 0.5
        smooth = np.interp(np.arange(stop - start), centres, pitch)
        wave = self._wave[start:stop].astype(np.float32) / 32767
        cycles = np.cumsum(np.maximum(smooth, UNVOICED)) / SAMPLE_RATE
        return Clip(wave, smooth.astype(np.float32), cycles)


def make(file: Path, count: int) -> None:
    """Let hibari speak ``count`` sentences, and keep the pitch that its vocoder was given."""
    from hibari import Hibari, dsp

    heard: list[Floats] = []
    pulses = dsp.pulses

    def listening(pitch: Floats) -> Floats:
        heard.append(np.array(pitch, dtype=np.float32))
        train: Floats = pulses(pitch)
        return train

    dsp.pulses = listening
    voice, waves, pitches = Hibari(), [], []
    chance = np.random.default_rng(0)
    for number, text in enumerate(sentences(count)):
        heard.clear()
        wave = np.asarray(voice(text, seed=number, speed=float(chance.choice(SPEEDS))), dtype=np.float32)
        waves.append((wave * (PEAK / np.abs(wave).max()) * 32767).astype(np.int16))
        pitches.append(np.concatenate(heard))
        assert len(wave) == len(pitches[-1]) * PITCH_HOP
    lengths = np.array([len(wave) for wave in waves])
    np.savez(file, wave=np.concatenate(waves), lengths=lengths, f0=np.concatenate(pitches))
    print(f"{count} sentences, {lengths.sum() / SAMPLE_RATE / 60:.1f} min")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--sentences", type=int, default=1500)
    given = parser.parse_args()
    make(given.file, given.sentences)
