"""Fingerprints by which the same sound is known again: at another level, rate or coding, and with other edges.

Haitsma, Kalker 2002, "A Highly Robust Audio Fingerprinting System" (ISMIR): 32 bits a frame, each the sign of a
difference between neighbouring bands and frames. Their frames are 0.37 s long and 12 ms apart; these have 0.26 s
and 32 ms, which is enough where whole clips are compared and not seconds of them.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from tts_train.findings.measure import Examined, Measure
from tts_train.sound import Floats64

Codes: TypeAlias = "NDArray[np.uint32]"
SAMPLE_RATE = 8_000
SPAN, HOP = 2048, 256
BITS = 32
_LOW_HZ, _HIGH_HZ = 300.0, 3_400.0
"""The band that every telephone and coding keeps."""
WEAK = 3
"""Bits of a frame that a slight change flips first; an index looks for them both ways."""
RANGE_DB = 25.0
"""Quieter frames hold noise, whose bits say nothing."""


class Fingerprint(Measure):
    """The clip's codes."""

    name = "fingerprint"

    def measure(self, examined: Examined) -> Mapping[str, Any]:
        """Return ``codes``, ``weak`` and ``loud``, each packed to a string."""
        codes, weak, loud = fingerprint(examined.take.sound.at(SAMPLE_RATE))
        return {"codes": packed(codes), "weak": packed(weak), "loud": packed(np.packbits(loud))}


def fingerprint(samples: NDArray[np.float32]) -> tuple[Codes, Codes, NDArray[np.bool_]]:
    """Return of each frame its code, the mask of its weak bits, and whether it is loud enough to be looked for."""
    if len(samples) < SPAN + 3 * HOP:
        samples = np.pad(samples, (0, SPAN + 3 * HOP - len(samples)))
    windowed = sliding_window_view(samples, SPAN)[::HOP] * np.hanning(SPAN).astype(np.float32)
    power = np.square(np.abs(np.fft.rfft(windowed, axis=1)))
    bands: Floats64 = np.log(power @ _bands() + 1e-12)
    between = np.diff(bands, axis=1)
    # Two frames apart: neighbours share seven eighths of their samples and hardly differ.
    change = between[2:] - between[:-2]
    level = 10 * np.log10(power.sum(axis=1)[1:-1] + 1e-12)
    weakest = np.argsort(np.abs(change), axis=1)[:, :WEAK]
    weak = np.bitwise_or.reduce(np.uint32(1) << weakest.astype(np.uint32), axis=1)
    codes = ((change > 0) * (np.uint32(1) << np.arange(BITS, dtype=np.uint32))).sum(axis=1, dtype=np.uint32)
    return codes, weak, level > level.max() - RANGE_DB


def _bands() -> Floats64:
    hertz = np.fft.rfftfreq(SPAN, 1 / SAMPLE_RATE)
    edges = np.geomspace(_LOW_HZ, _HIGH_HZ, BITS + 2)
    return np.stack([(hertz >= low) & (hertz < high) for low, high in pairwise(edges)], axis=1).astype(np.float64)


def packed(values: NDArray[Any]) -> str:
    """Write an array as a string, for JSON."""
    return base64.b64encode(values.tobytes()).decode("ascii")


def unpacked(text: str, kind: type[np.generic]) -> NDArray[Any]:
    """Read what :func:`packed` wrote."""
    return np.frombuffer(base64.b64decode(text), dtype=kind)
