"""Small recordings for the corpus tests: a voice-like sound, written in any format."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import soundfile

RATE = 24_000
TEXT = "A short sentence, as it is read."


def voice(seconds: float = 1.5, *, rate: int = RATE, seed: int = 0, level: float = 0.3) -> np.ndarray:
    """Harmonics under a slow envelope, with a little noise: (time,), no two seeds alike."""
    generator = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    pitch = generator.uniform(90, 240)
    harmonics = sum(np.sin(2 * np.pi * pitch * n * time + generator.uniform(0, 6)) / n for n in range(1, 12))
    envelope = 0.6 + 0.4 * np.sin(2 * np.pi * 3 * time)
    sound = harmonics * envelope
    return (level * sound / np.abs(sound).max() + generator.normal(0, 0.002, len(time))).astype(np.float32)


def encoded(
    samples: np.ndarray | None = None, *, rate: int = RATE, format: str = "WAV", subtype: str | None = None
) -> bytes:
    """The bytes of an audio file."""
    file = io.BytesIO()
    soundfile.write(file, voice() if samples is None else samples, rate, format=format, subtype=subtype)
    return file.getvalue()


def write_clips(folder: Path, names: list[str], **options: object) -> list[Path]:
    """Write a short recording of its own under each name."""
    paths = [folder / name for name in names]
    for seed, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(voice(seed=seed, **options)))
    return paths
