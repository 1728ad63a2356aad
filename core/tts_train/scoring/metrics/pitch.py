"""How well pitch and voicing follow the recording's, on the frames that the time warp brings together."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tts_train.contract.metric import Figure, Metric, Take
from tts_train.scoring.metrics.mel_cepstrum import compare
from tts_train.scoring.signal.world import PACKAGE

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
