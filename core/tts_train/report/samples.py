"""Write what a model said: the sound, its mel picture (a small PNG without axes) and the facts about it."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import soundfile as sf
from PIL import Image

from tts_train.errors import DataError
from tts_train.sound import Floats64, mel_triangles

if TYPE_CHECKING:
    import torch

    Waveform: TypeAlias = "torch.Tensor | npt.NDArray[Any]"

logger = logging.getLogger(__name__)

N_MELS = 96
RANGE_DB = 75.0
"""What is this far below the loudest point, or further, is drawn as silence."""
SILENCE = 1e-5
"""A picture's loudest point counts as at least this power (-50 dBFS; a full-scale sine has 1): dither stays dark."""
PIXELS_PER_BAND = 2
MAX_FRAMES = 900
_HOP_SECONDS = 0.008


def mono(waveform: Waveform) -> Floats64:
    """Return a waveform of any leading shape as one channel ``[time]``, in the range it had (usually -1 to 1).

    Raises:
        DataError: if it holds no samples or values that are not finite.
    """
    # Known by its method, so that nothing here imports torch; float(), since numpy has no bfloat16.
    values = waveform.detach().float().cpu().numpy() if hasattr(waveform, "detach") else np.asarray(waveform)
    samples: Floats64 = np.asarray(values, dtype=np.float64)
    samples = samples.reshape(-1, samples.shape[-1]).mean(axis=0) if samples.ndim > 1 else samples
    if samples.size == 0:
        raise DataError("The waveform is empty, so there is nothing to draw or to write.")
    if not np.isfinite(samples).all():
        raise DataError("The waveform holds values that are not finite; the model that made it has diverged.")
    return samples


def log_mel(waveform: Waveform, sample_rate: int, *, n_mels: int = N_MELS) -> Floats64:
    """Return mel power in dB against its loudest point: ``[n_mels, frames]``, between ``-RANGE_DB`` and 0.

    Bands are triangles on HTK's mel scale up to half the sample rate, none narrower than a bin. Frames are about
    8 ms apart, further in sounds so long that the picture would be wider than ``MAX_FRAMES``.
    """
    samples = mono(waveform)
    # Wide enough for MAX_FRAMES, or every 8 ms.
    hop = max(round(_HOP_SECONDS * sample_rate), -(-len(samples) // MAX_FRAMES))
    # About 43 ms resolve the harmonics of low voices; never less than the hop, or sound would be left out.
    size = max(2 ** round(np.log2(0.043 * sample_rate)), hop)
    # Half a window before, so that frames are centred; a hop more behind, so that the last samples have a frame.
    padded = np.pad(samples, (size // 2, size // 2 + hop))
    windows = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop]
    taper = np.hanning(size)
    # Divided by the window's sum, so that a full-scale sine has power 1 whatever the window.
    power = np.abs(np.fft.rfft(windows * (2.0 * taper / taper.sum()), axis=1)) ** 2
    frequencies = np.fft.rfftfreq(size, 1.0 / sample_rate).astype(np.float64)
    bands = mel_triangles(sample_rate, n_mels, "htk", frequencies, least_hz=frequencies[1])
    mel = bands @ power.T
    reference = max(float(mel.max()), SILENCE)
    decibels: Floats64 = 10.0 * np.log10(np.maximum(mel / reference, 10.0 ** (-RANGE_DB / 10.0)))
    return decibels


def mel_picture(waveform: Waveform, sample_rate: int, *, n_mels: int = N_MELS) -> bytes:
    """Draw :func:`log_mel` as a palette PNG: time to the right, low frequencies at the bottom.

    Two pixels a band and two a frame; a clip of 2.5 s is 630 by 192 pixels and about 30 kB.
    """
    decibels = log_mel(waveform, sample_rate, n_mels=n_mels)
    # 128 of the 256 colours: no eye sees the difference and the file is a quarter smaller.
    levels = 2 * np.round((decibels / RANGE_DB + 1.0) * 127.0).astype(np.uint8)
    scaled = levels[::-1].repeat(PIXELS_PER_BAND, axis=0).repeat(PIXELS_PER_BAND, axis=1)
    picture = Image.fromarray(scaled)
    picture.putpalette(COLOURS.tobytes())
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


# The map "magma" of matplotlib: its lightness rises evenly, so equal steps in dB look equally large, also in grey.
COLOURS = np.frombuffer(
    bytes.fromhex(
        "00000401000501010601010802010902020b02020d03030f03031204041405041606051806051a07061c08071e0907200a08220b0924"
        "0c09260d0a290e0b2b100b2d110c2f120d31130d34140e36150e38160f3b180f3d19103f1a10421c10441d11471e114920114b21114e"
        "22115024125325125527125829115a2a115c2c115f2d11612f116331116533106734106936106b38106c390f6e3b0f703d0f713f0f72"
        "400f74420f75440f764510774710784910784a10794c117a4e117b4f127b51127c52137c54137d56147d57157e59157e5a167e5c167f"
        "5d177f5f187f601880621980641a80651a80671b80681c816a1c816b1d816d1d816e1e81701f81721f81732081752181762181782281"
        "7922827b23827c23827e24828025828125818326818426818627818827818928818b29818c29818e2a81902a81912b81932b80942c80"
        "962c80982d80992d809b2e7f9c2e7f9e2f7fa02f7fa1307ea3307ea5317ea6317da8327daa337dab337cad347cae347bb0357bb2357b"
        "b3367ab5367ab73779b83779ba3878bc3978bd3977bf3a77c03a76c23b75c43c75c53c74c73d73c83e73ca3e72cc3f71cd4071cf4070"
        "d0416fd2426fd3436ed5446dd6456cd8456cd9466bdb476adc4869de4968df4a68e04c67e24d66e34e65e44f64e55064e75263e85362"
        "e95462ea5661eb5760ec5860ed5a5fee5b5eef5d5ef05f5ef1605df2625df2645cf3655cf4675cf4695cf56b5cf66c5cf66e5cf7705c"
        "f7725cf8745cf8765cf9785df9795df97b5dfa7d5efa7f5efa815ffb835ffb8560fb8761fc8961fc8a62fc8c63fc8e64fc9065fd9266"
        "fd9467fd9668fd9869fd9a6afd9b6bfe9d6cfe9f6dfea16efea36ffea571fea772fea973feaa74feac76feae77feb078feb27afeb47b"
        "feb67cfeb77efeb97ffebb81febd82febf84fec185fec287fec488fec68afec88cfeca8dfecc8ffecd90fecf92fed194fed395fed597"
        "fed799fed89afdda9cfddc9efddea0fde0a1fde2a3fde3a5fde5a7fde7a9fde9aafdebacfcecaefceeb0fcf0b2fcf2b4fcf4b6fcf6b8"
        "fcf7b9fcf9bbfcfbbdfcfdbf"
    ),
    np.uint8,
).reshape(256, 3)
"""The picture's palette, ``[256, 3]``: silence first, loudest last."""


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
    # 16-bit words wrap around, which would be heard as a crack.
    limited = np.round(np.clip(samples, -1.0, 1.0) * _FULL_SCALE).astype(np.int16)
    sf.write(folder / f"{name}.wav", limited, sample_rate, subtype="PCM_16")
    (folder / f"{name}.png").write_bytes(mel_picture(samples, sample_rate))
    report = {**(facts or {}), **measured}
    (folder / f"{name}.json").write_text(json.dumps(report, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    return report


def measure(samples: Floats64, sample_rate: int) -> dict[str, float | int]:
    """Return ``seconds``, ``peak`` (1 is full scale), ``rms_db`` (dBFS, not below -120) and ``clipped`` (a count)."""
    rms = float(np.sqrt(np.mean(samples**2)))
    return {
        "seconds": round(len(samples) / sample_rate, 3),
        "peak": round(float(np.abs(samples).max()), 4),
        "rms_db": round(20.0 * float(np.log10(max(rms, 1e-6))), 1),
        "clipped": int(np.count_nonzero(np.abs(samples) > 1.0)),
    }
