"""The mel scale and its triangular bands, for pictures, features and losses; no torch, which reports do without."""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Scale: TypeAlias = Literal["htk", "slaney"]
"""``htk``: 2595 log10(1 + f / 700); ``slaney``: linear to 1,000 Hz, logarithmic above (Auditory Toolbox, 1998)."""

_LINEAR_HZ = 200.0 / 3.0  # Hz of a mel of Slaney's below the knee
_KNEE_HZ = 1000.0
_KNEE_MEL = _KNEE_HZ / _LINEAR_HZ
_LOG_STEP = np.log(6.4) / 27.0


def mel_edges(sample_rate: int, n_mels: int, scale: Scale) -> Floats:
    """Return the ``[n_mels + 2]`` edges of bands from 0 Hz to half the sample rate, in Hz; inner ones are centres.

    Args:
        sample_rate: Samples a second.
        n_mels: Number of bands, which overlap by half.
        scale: Where the bands are even.
    """
    top = np.float64(sample_rate / 2)
    if scale == "htk":
        mels = np.linspace(0.0, 2595.0 * np.log10(1.0 + top / 700.0), n_mels + 2)
        return np.asarray(700.0 * (10.0 ** (mels / 2595.0) - 1.0))
    highest = top / _LINEAR_HZ if top < _KNEE_HZ else _KNEE_MEL + np.log(top / _KNEE_HZ) / _LOG_STEP
    mels = np.linspace(0.0, highest, n_mels + 2)
    above = _KNEE_HZ * np.exp(np.maximum(mels - _KNEE_MEL, 0.0) * _LOG_STEP)
    return np.where(mels < _KNEE_MEL, mels * _LINEAR_HZ, above)


def mel_triangles(edges: Floats, frequencies: Floats, least_hz: float = 0.0) -> Floats:
    """Return triangles ``[n_mels, bins]`` with a peak of 1 at each band's centre.

    Args:
        edges: From `mel_edges`, in Hz.
        frequencies: ``[bins]`` of the spectrum, in Hz.
        least_hz: Width to which a narrower side of a band is widened, so that no band is between two bins.
    """
    centre = edges[1:-1, None]
    below = np.maximum(centre - edges[:-2, None], least_hz)
    above = np.maximum(edges[2:, None] - centre, least_hz)
    rising, falling = 1.0 - (centre - frequencies) / below, 1.0 - (frequencies - centre) / above
    return np.maximum(0.0, np.minimum(rising, falling))
