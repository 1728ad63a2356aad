"""Writes sound files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tts_train.errors import DiskError

if TYPE_CHECKING:
    from torch import Tensor


def write_wav(path: Path, sound: Tensor, *, sample_rate: int) -> None:
    """Write 1-D float sound as 16-bit mono; what is beyond full scale is cut there, never wrapped around.

    Raises:
        DiskError: if it cannot be written.
    """
    import soundfile

    samples = (sound.clamp(-1, 1) * 32767).round().short().numpy()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, samples, sample_rate, subtype="PCM_16", format="WAV")
    except (OSError, soundfile.LibsndfileError) as error:
        raise DiskError(f"--out {path} cannot be written: {error}.") from error
