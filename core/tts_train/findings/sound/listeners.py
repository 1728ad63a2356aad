"""The opinion of listeners about a clip, as a network foretells it: DNSMOS, of one window of nine seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from tts_train.contract.metric import Take
from tts_train.findings.measure import Examined, FindingKind, Judge, Measure, Measured, Told
from tts_train.scoring.metrics.opinion import SAMPLE_RATE, WINDOW, Dnsmos
from tts_train.sound import Sound


class Opinion(Measure):
    """DNSMOS; see :mod:`tts_train.scoring.metrics.opinion`."""

    name = "opinion"
    packages = Dnsmos.packages

    def measure(self, examined: Examined) -> Mapping[str, Any]:
        """Return ``dnsmos`` and ``dnsmos_background``, 1 to 5."""
        samples = examined.take.sound.at(SAMPLE_RATE)
        # The middle alone: a second window costs as much again and seldom says anything else.
        start = max(0, (len(samples) - WINDOW) // 2)
        heard = Take(sound=Sound(np.ascontiguousarray(samples[start : start + WINDOW]), SAMPLE_RATE), text="")
        scores = Dnsmos().measure(heard)
        return {name: round(scores[name], 3) for name in ("dnsmos", "dnsmos_background")}


class OpinionJudge(Judge):
    """Tells clips that listeners would rate badly."""

    measures = (Opinion,)
    kinds: ClassVar[tuple[FindingKind, ...]] = (
        FindingKind(
            name="poor_quality",
            summary="Listeners would rate the recording badly (DNSMOS).",
            advice="Listen to the worst ones; noise, distortion and bad coding all lower it.",
            threshold=2.3,
            unit="of 5",
            below=True,
            source="Clean prompts reach 2.7 and more, with noise 5 dB below the voice they fall below 2.3.",
        ),
    )

    def figures(self, rows: Sequence[Measured]) -> Mapping[str, Mapping[str, Told]]:
        """Return the scores."""
        found = {
            row.origin: Told(
                figure=row.figures["dnsmos"], detail=f"background {row.figures['dnsmos_background']:.1f} of 5"
            )
            for row in rows
            if "dnsmos" in row.figures
        }
        return {"poor_quality": found}
