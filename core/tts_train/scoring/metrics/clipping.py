"""The share of samples that were cut at full scale."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tts_train.contract.metric import Figure, Metric, Take

FULL_SCALE = 32766 / 32768
"""The loudest two steps of 16 bits count as full scale: writers cut at one or the other."""
RUN = 3
"""Samples in a row at full scale that make a cut; a single one is a peak that just fits."""


class Clipping(Metric):
    """Samples at or beyond full scale, three or more in a row, over all samples."""

    name = "clipping"
    figures = (
        Figure(name="clipped", unit="%", better="lower", summary="samples that were cut at full scale", digits=3),
    )

    def measure(self, take: Take) -> Mapping[str, float]:
        """Return the share in percent."""
        loud = np.abs(take.sound.samples) >= FULL_SCALE
        edges = np.flatnonzero(np.diff(np.concatenate([[False], loud, [False]]).astype(np.int8)))
        lengths = edges[1::2] - edges[::2]
        return {"clipped": 100.0 * float(lengths[lengths >= RUN].sum()) / len(loud)}
