"""Write what a model said: the sound, its mel picture and the facts about it, next to each other."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile as sf

from tts_train.mel import Floats
from tts_train.report.mel import mel_picture, mono

if TYPE_CHECKING:
    from tts_train.report.mel import Waveform

logger = logging.getLogger(__name__)

_FULL_SCALE = 32767.0


def write_sample(
    folder: Path, name: str, waveform: Waveform, sample_rate: int, *, text: str, facts: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Write ``name.wav`` (16-bit mono), ``name.png`` (mel picture) and ``name.json``; return what the JSON holds.

    ``waveform`` is in -1 to 1, ``[time]`` or ``[channels, time]``. Samples beyond that are limited to it and counted as
    ``clipped``; a warning says so. ``facts`` (scores, speaker, seed, ...) are stored beside what is measured here.

    Raises:
        DataError: if the waveform is empty or not finite.
    """
    samples = mono(waveform)
    measured = {"text": text, "sample_rate": sample_rate, **measure(samples, sample_rate)}
    if measured["clipped"]:
        logger.warning("%s: %d samples were beyond full scale and were limited.", name, measured["clipped"])
    folder.mkdir(parents=True, exist_ok=True)
    limited = np.round(np.clip(samples, -1.0, 1.0) * _FULL_SCALE).astype(np.int16)
    sf.write(folder / f"{name}.wav", limited, sample_rate, subtype="PCM_16")
    (folder / f"{name}.png").write_bytes(mel_picture(samples, sample_rate))
    report = {**(facts or {}), **measured}
    (folder / f"{name}.json").write_text(json.dumps(report, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    return report


def measure(samples: Floats, sample_rate: int) -> dict[str, float | int]:
    """Return ``seconds``, ``peak`` (1 is full scale), ``rms_db`` (dBFS, not below -120) and ``clipped`` (a count)."""
    rms = float(np.sqrt(np.mean(samples**2)))
    return {
        "seconds": round(len(samples) / sample_rate, 3),
        "peak": round(float(np.abs(samples).max()), 4),
        "rms_db": round(20.0 * float(np.log10(max(rms, 1e-6))), 1),
        "clipped": int(np.count_nonzero(np.abs(samples) > 1.0)),
    }
