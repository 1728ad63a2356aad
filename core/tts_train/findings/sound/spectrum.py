"""A missing upper band, and music: what only a spectrum tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from tts_train.findings.measure import Examined, FindingKind, Judge, Measure, Measured, Told
from tts_train.findings.sound import frames
from tts_train.sound import Floats, Floats64

_DEPTH_DB = 50.0
"""A band that never comes this near to the loudest one holds no voice: sibilants lie 20 to 40 dB below vowels."""
_CONTRAST_DB = 8.0
"""A band that is never this much louder than in the pauses holds noise; ten bins of noise vary by half of it."""
_CLEAN_DB = 25.0
"""In more noise than this, sibilants drown in it, and the contrast says nothing."""
_SMOOTH_HZ = 300.0
_WANTED_HZ = 12_000.0
"""Bands beyond this are not asked for: most backends work at 24 kHz, and a voice has little above."""

_LOW_HZ, _HIGH_HZ = 100.0, 5_000.0
_PEAK_DB = 3.0
_PEAK_RANGE_DB = 50.0
_STEADY = 6
"""Frames of 32 ms that a tone stays in one bin of 16 Hz: the pitch of speech moves on within 0.2 s."""


class Spectrum(Measure):
    """How much of the band is used, and how steady tones are."""

    name = "spectrum"

    def measure(self, examined: Examined) -> Mapping[str, Any]:
        """Return ``band_hz``, ``band`` (per cent of what the rate allows), and ``steady`` (per cent of peaks)."""
        sound = examined.take.sound
        highest = _highest(sound.samples, sound.sample_rate)
        whole = min(sound.sample_rate / 2, _WANTED_HZ)
        steady = _steady(sound.samples, sound.sample_rate)
        return {
            "band_hz": round(highest),
            "band": round(100 * min(highest / whole, 1.0), 1),
            "steady": round(100 * steady, 2),
        }


def _highest(samples: Floats, rate: int) -> float:
    """Return the highest frequency that holds the voice, in Hz."""
    power, hertz = frames.spectra(samples, rate, span_s=0.032, hop_s=0.016)
    width = max(1, round(_SMOOTH_HZ / (hertz[1] - hertz[0])))
    # Over bins first: a single bin of noise varies by more than what is looked for.
    total = np.concatenate([np.zeros((len(power), 1)), np.cumsum(power, axis=1)], axis=1)
    bands = 10 * np.log10(np.maximum((total[:, width:] - total[:, :-width]) / width, 1e-14))
    # The loudest twentieth of the frames in each band: fricatives, which alone reach the highest, are as rare.
    high = np.percentile(bands, 95, axis=0)
    holds = high >= high.max() - _DEPTH_DB
    levels = frames.decibels(samples, rate)
    if frames.loud(levels) - frames.quiet(levels) >= _CLEAN_DB:
        holds &= high >= np.percentile(bands, 10, axis=0) + _CONTRAST_DB
    top = np.flatnonzero(holds)
    return float(hertz[top[-1] + width - 1]) if len(top) else 0.0


def _steady(samples: Floats, rate: int) -> float:
    """Return the share of spectral peaks that stay at one frequency for 0.2 s and more, as tones of music do."""
    power, hertz = frames.spectra(samples, rate, span_s=0.064, hop_s=0.032)
    levels = 10 * np.log10(np.maximum(power[:, (hertz > _LOW_HZ) & (hertz < _HIGH_HZ)], 1e-12))
    peaks = _peaks(levels)
    count = int(np.count_nonzero(peaks))
    return float(_in_long_runs(peaks)) / count if count else 0.0


def _peaks(levels: Floats64) -> NDArray[np.bool_]:
    middle = levels[:, 2:-2]
    found = np.zeros(levels.shape, dtype=bool)
    found[:, 2:-2] = (middle >= levels[:, 1:-3]) & (middle >= levels[:, 3:-1])
    # Two bins away, since the window spreads a tone over its neighbours.
    found[:, 2:-2] &= (middle > levels[:, :-4] + _PEAK_DB) & (middle > levels[:, 4:] + _PEAK_DB)
    found &= levels > levels.max() - _PEAK_RANGE_DB
    return found


def _in_long_runs(peaks: NDArray[np.bool_]) -> int:
    """Count the peaks that lie in runs of six frames and more in one bin."""
    # A row of nothing before and behind each bin, so that no run reaches into the next.
    padded = np.zeros((peaks.shape[1], peaks.shape[0] + 2), dtype=np.int8)
    padded[:, 1:-1] = peaks.T
    edges = np.diff(padded.ravel())
    runs = np.flatnonzero(edges == -1) - np.flatnonzero(edges == 1)
    return int(runs[runs >= _STEADY].sum())


class SpectrumJudge(Judge):
    """Tells music, and files that promise a wider band than they hold."""

    measures = (Spectrum,)
    kinds: ClassVar[tuple[FindingKind, ...]] = (
        FindingKind(
            name="music",
            summary="There are steady tones: music, a hum or a beep.",
            advice="Take the clip out, or use the recording without the music.",
            threshold=3.0,
            unit="% of peaks are steady",
            digits=1,
            source="Speech in five languages stays below 2.4 %, five pieces of music lie above 9 %.",
        ),
        FindingKind(
            name="band_limited",
            summary="The file's rate promises more than it holds: nothing is in the upper band.",
            advice="Look for the original recording; a voice learns to sound dull from these.",
            threshold=70.0,
            unit="% of the band",
            below=True,
            digits=0,
            source="Clean prompts at 8, 16 and 24 kHz fill 96 % and more; what was telephone speech fills a half.",
        ),
    )

    def figures(self, rows: Sequence[Measured]) -> Mapping[str, Mapping[str, Told]]:
        """Return the figures of both kinds."""
        music = {row.origin: Told(figure=row.figures["steady"]) for row in rows if "steady" in row.figures}
        band = {
            row.origin: Told(
                figure=row.figures["band"], detail=f"nothing above {row.figures['band_hz'] / 1000:.1f} kHz"
            )
            for row in rows
            if "band" in row.figures
        }
        return {"music": music, "band_limited": band}
