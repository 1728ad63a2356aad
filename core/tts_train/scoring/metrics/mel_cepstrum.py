"""Mel-cepstral distortion: how far the spectra of a take are from those of its recording."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import numpy as np

from tts_train.contract.metric import Figure, Metric, Take
from tts_train.scoring.signal.warping import Doubles, Indices, distances, warp
from tts_train.scoring.signal.world import PACKAGE, Analysis, analyse
from tts_train.sound import Sound

DECIBELS = 10 * np.sqrt(2) / np.log(10)
"""Turns a distance of mel-cepstra into dB (Kubichek 1993)."""
MIN_FRAMES = 4
"""Sounds below 20 ms of speech are not compared."""


class MelCepstralDistortion(Metric):
    """Mean distance in dB of mel-cepstra 1 to 24 along the dynamic time warp; identical sounds have 0.

    Both sounds at 16 kHz without the silence before and behind; WORLD envelope every 5 ms, alpha 0.42, the 0th
    coefficient (energy) left out; each pair of frames on the exact warping path counts once.
    """

    name = "mcd"
    figures = (
        Figure(name="mcd", unit="dB", better="lower", summary="distance of the spectra to the recording's, 24 mfc"),
    )
    wants = frozenset({"reference"})
    packages = (PACKAGE,)

    def measure(self, take: Take) -> Mapping[str, float]:
        """Return the distortion; nothing where a sound is too short."""
        assert take.reference is not None
        compared = compare(take.sound, take.reference)
        return {} if compared is None else {"mcd": compared[2]}


@lru_cache(maxsize=4)
def compare(one: Sound, other: Sound) -> tuple[Analysis, Analysis, float, Indices, Indices] | None:
    """Return both analyses, their distortion in dB, and the pairs of frames; None where a sound is too short."""
    first, second = analyse(one), analyse(other)
    if min(len(first.pitch), len(second.pitch)) < MIN_FRAMES:
        return None
    value, left, right = distortion(first.cepstra, second.cepstra)
    return first, second, value, left, right


def distortion(one: Doubles, other: Doubles) -> tuple[float, Indices, Indices]:
    """Return the distortion in dB of mel-cepstra (frames, 25) and the pairs of frames that were compared."""
    cost = distances(one[:, 1:], other[:, 1:])
    left, right = warp(cost)
    return float(DECIBELS * cost[left, right].mean()), left, right
