"""How far a take is from its recording: its spectra (mel-cepstral distortion), its pitch and its voicing.

Frames are compared that the time warp brings together.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import numpy as np

from tts_train.contract.metric import Figure, Metric, Take
from tts_train.scoring.metrics.world import PACKAGE, Analysis, Doubles, Indices, analyse, distances, warp
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


# Distortion and pitch ask for the same pair one after the other, and its warp is computed once.
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


CENTS = 1200.0
"""In an octave."""


class Pitch(Metric):
    """Error of F0 where both have a voice, and the share of frames where only one has.

    F0 by WORLD (DIO and StoneMask, 71 to 800 Hz, every 5 ms); frames are paired by the warp of the mel-cepstra.
    """

    name = "pitch"
    figures = (
        Figure(name="f0_rmse", unit="cents", better="lower", summary="root mean square error of the pitch", digits=0),
        Figure(
            name="voicing_error", unit="%", better="lower", summary="frames that are voiced in one of the two", digits=1
        ),
    )
    wants = frozenset({"reference"})
    packages = (PACKAGE,)

    def measure(self, take: Take) -> Mapping[str, float]:
        """Return both figures; no error of pitch where no frame is voiced in both."""
        assert take.reference is not None
        compared = compare(take.sound, take.reference)
        if compared is None:
            return {}
        one, other, _, left, right = compared
        first, second = one.pitch[left], other.pitch[right]
        voiced = (first > 0) & (second > 0)
        figures = {"voicing_error": 100.0 * float(((first > 0) != (second > 0)).mean())}
        if voiced.any():
            cents = CENTS * np.log2(first[voiced] / second[voiced])
            figures["f0_rmse"] = float(np.sqrt(np.square(cents).mean()))
        return figures
