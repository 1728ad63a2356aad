"""Small corpora of the sample voice, with faults put in."""

from __future__ import annotations

import io
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np
import soundfile as sf
import soxr

from tts_train.demo.journey import VOICE

RATE = 24_000


@lru_cache(maxsize=1)
def voice() -> dict[str, np.ndarray]:
    """Return the sample voice's clips by name, (time,) float32 at 24 kHz."""
    return {file.stem: sf.read(file, dtype="float32")[0] for file in sorted((VOICE / "wavs").iterdir())}


@lru_cache(maxsize=1)
def texts() -> dict[str, str]:
    """Return what is said in them."""
    lines = (VOICE / "metadata.csv").read_text(encoding="utf-8").splitlines()
    return dict(line.split("|")[:2] for line in lines)


def write_corpus(folder: Path, clips: Mapping[str, np.ndarray], said: Mapping[str, str] | None = None) -> Path:
    """Write an LJSpeech folder; a clip that is not one of the voice's needs its text in ``said``."""
    (folder / "wavs").mkdir(parents=True)
    lines = []
    for name, samples in clips.items():
        sf.write(folder / "wavs" / f"{name}.wav", samples, RATE, subtype="PCM_16")
        lines.append(f"{name}|{(said or {}).get(name) or texts()[name]}")
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def some(count: int) -> dict[str, np.ndarray]:
    """Return the first clips of the voice."""
    return dict(list(voice().items())[:count])


def clipped(clip: np.ndarray) -> np.ndarray:
    """Return the clip with its highest peaks cut off at a half: 1 to 3 % of the samples."""
    peak = np.quantile(np.abs(clip), 0.985)
    return np.clip(clip, -peak, peak) * (0.9 / peak)


def with_noise(clip: np.ndarray, decibels: float) -> np.ndarray:
    """Return the clip with white noise so many dB below it."""
    noise = np.random.default_rng(0).standard_normal(len(clip)).astype(np.float32)
    return 0.5 * (clip + noise * np.sqrt(np.mean(clip**2)) * 10 ** (-decibels / 20))


def in_a_hall(clip: np.ndarray, seconds: float) -> np.ndarray:
    """Return the clip with an echo that falls by 60 dB in ``seconds``."""
    count = int(seconds * RATE)
    echo = np.random.default_rng(0).standard_normal(count) * 10 ** (-3 * np.arange(count) / count)
    echo /= np.linalg.norm(echo)
    echo[0] += 1
    size = len(clip) + count
    heard = np.fft.irfft(np.fft.rfft(clip, size) * np.fft.rfft(echo, size), size)[: len(clip) + RATE // 5]
    return (0.5 * heard / np.abs(heard).max()).astype(np.float32)


def with_chords(clip: np.ndarray) -> np.ndarray:
    """Return the clip over chords that change twice a second, as loud as it is."""
    time = np.arange(len(clip)) / RATE
    roots = 220 * 2 ** (np.floor(2 * time) % 5 / 12)
    chord = sum(np.sin(2 * np.pi * np.cumsum(roots * part) / RATE) for part in (1, 1.25, 1.5, 2, 2.5, 3, 4))
    return 0.5 * (clip + (chord * np.sqrt(np.mean(clip**2) / np.mean(chord**2))).astype(np.float32))


def at_8_khz(clip: np.ndarray) -> np.ndarray:
    """Return the clip without anything above 4 kHz."""
    return soxr.resample(soxr.resample(clip, RATE, 8_000), 8_000, RATE)


def by_mp3(clip: np.ndarray) -> np.ndarray:
    """Return the clip after a coding that loses much."""
    file = io.BytesIO()
    sf.write(file, clip, RATE, format="MP3", bitrate_mode="CONSTANT", compression_level=0.9)
    file.seek(0)
    return sf.read(file, dtype="float32")[0]


def halves(clip: np.ndarray, pause: float) -> np.ndarray:
    """Return the clip with a pause in the middle."""
    middle = len(clip) // 2
    return np.concatenate([clip[:middle], np.zeros(int(pause * RATE), np.float32), clip[middle:]])
