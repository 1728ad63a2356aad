"""Pictures of sound: the log-mel spectrogram of a waveform as a small PNG without axes."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from tts_train.errors import DataError

if TYPE_CHECKING:
    import torch

    Waveform: TypeAlias = "torch.Tensor | npt.NDArray[Any]"

Floats = npt.NDArray[np.float64]

N_MELS = 96
RANGE_DB = 75.0
"""What is this far below the loudest point, or further, is drawn as silence."""
SILENCE = 1e-5
"""A picture's loudest point counts as at least this power (-50 dBFS; a full-scale sine has 1): dither stays dark."""
PIXELS_PER_BAND = 2
MAX_FRAMES = 900
_HOP_SECONDS = 0.008
_LAB_TO_LMS = np.array(
    [
        [1.0, 0.3963377774, 0.2158037573],
        [1.0, -0.1055613458, -0.0638541728],
        [1.0, -0.0894841775, -1.2914855480],
    ]
)
_LMS_TO_RGB = np.array(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
)


def mono(waveform: Waveform) -> Floats:
    """Return a waveform of any leading shape as one channel ``[time]``, in the range it had (usually -1 to 1).

    Raises:
        DataError: if it holds no samples or values that are not finite.
    """
    values = waveform.detach().float().cpu().numpy() if hasattr(waveform, "detach") else np.asarray(waveform)
    samples: Floats = np.asarray(values, dtype=np.float64)
    samples = samples.reshape(-1, samples.shape[-1]).mean(axis=0) if samples.ndim > 1 else samples
    if samples.size == 0:
        raise DataError("The waveform is empty, so there is nothing to draw or to write.")
    if not np.isfinite(samples).all():
        raise DataError("The waveform holds values that are not finite; the model that made it has diverged.")
    return samples


def mel_frequencies(sample_rate: int, n_mels: int = N_MELS) -> Floats:
    """Return the centre of each band in Hz, ascending, ``[n_mels]``; the picture's lowest row is the first."""
    return _edges(sample_rate, n_mels)[1:-1]


def log_mel(waveform: Waveform, sample_rate: int, *, n_mels: int = N_MELS) -> Floats:
    """Return mel power in dB against its loudest point: ``[n_mels, frames]``, between ``-RANGE_DB`` and 0.

    Bands are triangles on the mel scale ``2595 log10(1 + f / 700)`` up to half the sample rate. Frames are about
    8 ms apart, further in sounds so long that the picture would be wider than ``MAX_FRAMES``.
    """
    samples = mono(waveform)
    hop = max(round(_HOP_SECONDS * sample_rate), -(-len(samples) // MAX_FRAMES))
    size = max(2 ** round(np.log2(0.043 * sample_rate)), hop)
    padded = np.pad(samples, (size // 2, size // 2 + hop))
    windows = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop]
    taper = np.hanning(size)
    power = np.abs(np.fft.rfft(windows * (2.0 * taper / taper.sum()), axis=1)) ** 2
    mel = _triangles(sample_rate, size, n_mels) @ power.T
    reference = max(float(mel.max()), SILENCE)
    decibels: Floats = 10.0 * np.log10(np.maximum(mel / reference, 10.0 ** (-RANGE_DB / 10.0)))
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


def _edges(sample_rate: int, n_mels: int) -> Floats:
    top = 2595.0 * np.log10(1.0 + sample_rate / 2 / 700.0)
    edges: Floats = 700.0 * (10.0 ** (np.linspace(0.0, top, n_mels + 2) / 2595.0) - 1.0)
    return edges


def _triangles(sample_rate: int, size: int, n_mels: int) -> Floats:
    """Weights ``[n_mels, size // 2 + 1]``; a band narrower than a bin is widened, so that none is empty."""
    bins = np.fft.rfftfreq(size, 1.0 / sample_rate)
    edges = _edges(sample_rate, n_mels)
    centre = edges[1:-1, None]
    below = np.maximum(centre - edges[:-2, None], bins[1])
    above = np.maximum(edges[2:, None] - centre, bins[1])
    weights: Floats = np.maximum(0.0, np.minimum(1.0 - (centre - bins) / below, 1.0 - (bins - centre) / above))
    return weights


def _colour_map() -> npt.NDArray[np.uint8]:
    """256 colours from near black through violet and rose to pale gold, ``[256, 3]``.

    Lightness rises linearly in Oklab (Ottosson 2020), so equal steps in dB look equally large, also in grey.
    """
    t = np.linspace(0.0, 1.0, 256)
    lightness = 0.14 + 0.82 * t
    hue = np.radians(np.interp(t, [0.0, 0.25, 0.5, 0.75, 1.0], [280.0, 300.0, 362.0, 410.0, 460.0]))
    chroma = np.interp(t, [0.0, 0.2, 0.45, 0.65, 0.85, 1.0], [0.02, 0.13, 0.18, 0.165, 0.125, 0.07])
    lab = np.stack([lightness, chroma * np.cos(hue), chroma * np.sin(hue)])
    linear = np.clip(_LMS_TO_RGB @ (_LAB_TO_LMS @ lab) ** 3, 0.0, 1.0)
    gamma = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    colours: npt.NDArray[np.uint8] = np.round(gamma.T * 255.0).astype(np.uint8)
    return colours


COLOURS = _colour_map()
"""The picture's palette, ``[256, 3]``: silence first, loudest last."""
