"""The sample voice as one long recording, to try the way from a recording to a voice on."""

from __future__ import annotations

from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from tts_train.demo.journey import VOICE
from tts_train.disk.sound_files import write_sound
from tts_train.sound import Floats

PAUSES = (0.5, 0.9, 0.7, 1.2)
"""Seconds between sentences, in turn, as a reader makes them."""


def write_recording(out: Path) -> dict[str, Any]:
    """Write the sample voice's sentences one after the other into one file.

    Args:
        out: .wav, .flac, .mp3, .ogg or .opus, as its ending says.

    Returns:
        Its path, sentences and seconds.

    Raises:
        ConfigError: if the ending is another one.
        DiskError: if it cannot be written.
    """
    import torch

    parts: list[Floats] = []
    files = sorted((VOICE / "wavs").glob("*.flac"))
    rate = soundfile.info(files[0]).samplerate
    for file, pause in zip(files, cycle(PAUSES), strict=False):
        sound, _ = soundfile.read(file, dtype="float32")
        parts += [sound, np.zeros(round(pause * rate), dtype=np.float32)]
    samples = np.concatenate(parts)
    write_sound(out, torch.from_numpy(samples), sample_rate=rate)
    return {"recording": str(out), "sentences": len(files), "seconds": round(len(samples) / rate, 2)}
