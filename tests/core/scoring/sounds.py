"""The sample voice and what can be done to it, for the tests of metrics."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soxr

import tts_train.demo
from tts_train.contract.metric import Metric, Take
from tts_train.sound import Sound, read_sound

VOICE = Path(tts_train.demo.__file__).parent / "voice"
TEXTS = dict(line.split("|") for line in (VOICE / "metadata.csv").read_text(encoding="utf-8").splitlines())


def write_corpus(folder: Path, count: int) -> Path:
    """Write a corpus of the first clips of the sample voice: many tests need speech, and few of them forty clips."""
    (folder / "wavs").mkdir(parents=True)
    names = sorted(TEXTS)[:count]
    for name in names:
        (folder / "wavs" / f"{name}.flac").write_bytes((VOICE / "wavs" / f"{name}.flac").read_bytes())
    lines = [f"{name}|{TEXTS[name]}\n" for name in names]
    (folder / "metadata.csv").write_text("".join(lines), encoding="utf-8")
    return folder


def clip(number: int) -> Sound:
    return read_sound(VOICE / "wavs" / f"sample-{number:02d}.flac")


def text(number: int) -> str:
    return TEXTS[f"sample-{number:02d}"]


def noisy(sound: Sound, decibels: float, *, seed: int = 0) -> Sound:
    """Add white noise at a ratio of signal to noise."""
    noise = np.random.default_rng(seed).standard_normal(len(sound.samples)).astype(np.float32)
    power = np.sqrt(np.square(sound.samples).mean()) / 10 ** (decibels / 20)
    return Sound(sound.samples + noise * power, sound.sample_rate)


def higher(sound: Sound, ratio: float) -> Sound:
    """Raise pitch and formants, as a tape that runs faster: another, smaller speaker."""
    samples = soxr.resample(sound.samples, sound.sample_rate, round(sound.sample_rate / ratio))
    return Sound(samples.astype(np.float32), sound.sample_rate)


def mean(metric: Metric, figure: str, takes: list[Take]) -> float:
    return float(np.mean([metric.measure(take)[figure] for take in takes]))
