"""Clipping, an offset, loudness and channels: what the samples say without a spectrum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from tts_train.findings.measure import Examined, FindingKind, Judge, Measure, Measured, Told
from tts_train.findings.sound import frames

# A peak is flat where neighbours differ by less than one step of 16 bits, as the reading of rows has it.
_FLAT = 2.0**-15
_NEAR_PEAK = 0.98
_LEAST_PEAK = 0.1
_LEAST_RUN = 3
_MAX_LAG_S = 0.02


class SampleLevels(Measure):
    """Shares and levels of the samples as decoded."""

    name = "levels"

    def measure(self, examined: Examined) -> Mapping[str, Any]:
        """Return ``clipped`` and ``offset`` in per cent, ``loudness`` in dBFS, and ``likeness`` of two channels."""
        raw = examined.raw
        levels = frames.decibels(examined.take.sound.samples, examined.raw_rate)
        power = np.mean(10 ** (levels[frames.voiced(levels)] / 10))
        found = {
            "clipped": 100 * max(_clipped(raw[:, channel]) for channel in range(raw.shape[1])),
            "offset": 100 * float(np.abs(raw.mean(axis=0, dtype=np.float64)).max()),
            "loudness": float(10 * np.log10(power)),
        }
        if raw.shape[1] == 2 and "one_sided" not in examined.warnings:
            found["likeness"] = _likeness(raw, examined.raw_rate)
        return {name: round(value, 4) for name, value in found.items()}


def _clipped(samples: NDArray[np.float32]) -> float:
    """Share of samples in runs of three or more that lie flat at the highest or lowest value."""
    flat = np.zeros(len(samples), dtype=bool)
    # Each side by itself: with an offset only one of them is cut.
    for side in (samples, -samples):
        peak = float(side.max(initial=0.0))
        if peak >= _LEAST_PEAK:
            flat |= _runs((side >= _NEAR_PEAK * peak), np.abs(np.diff(side)) < _FLAT)
    return float(np.count_nonzero(flat)) / max(1, len(samples))


def _runs(high: NDArray[np.bool_], same: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which samples lie in a run of equal ones at the peak; two alike are what a slow sine has at its top."""
    joined = high[1:] & high[:-1] & same
    edges = np.diff(np.concatenate([[False], joined, [False]]).astype(np.int8))
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    found = np.zeros(len(high), dtype=bool)
    for start, end in zip(starts, ends, strict=True):
        # A run of n joints has n + 1 samples.
        if end - start + 1 >= _LEAST_RUN:
            found[start : end + 1] = True
    return found


def _likeness(raw: NDArray[np.float32], rate: int) -> float:
    """How much two channels are one voice, 0 to 1: of their waves with a small lag, or of their loudness over time."""
    left, right = raw[:, 0], raw[:, 1]
    # Room for the lag, so that the end of one channel is not held against the start of the other.
    size = 1 << int(np.ceil(np.log2(len(left) + _MAX_LAG_S * rate + 1)))
    product = np.fft.irfft(np.fft.rfft(left, size) * np.conj(np.fft.rfft(right, size)), size)
    reach = round(_MAX_LAG_S * rate)
    # Two microphones hear a voice at two times, and one may be wired the other way round.
    best = float(np.abs(np.concatenate([product[: reach + 1], product[-reach:]])).max())
    waves = best / max(float(np.linalg.norm(left)) * float(np.linalg.norm(right)), 1e-9)
    one, other = frames.decibels(left, rate), frames.decibels(right, rate)
    spread = float(one.std() * other.std())
    envelopes = float(((one - one.mean()) * (other - other.mean())).mean()) / spread if spread > 1e-6 else 0.0
    return max(waves, envelopes, 0.0)


class LevelJudge(Judge):
    """Tells clipping, an offset, odd loudness and two different channels."""

    measures = (SampleLevels,)
    kinds: ClassVar[tuple[FindingKind, ...]] = (
        FindingKind(
            name="clipping",
            summary="The peaks are cut off.",
            advice="Record it again at a lower level, or take the clip out: no tool restores what was cut.",
            threshold=0.05,
            unit="% of samples",
            source="Clean recordings have no flat peaks; at 0.05 % some are heard as a crackle.",
            reasons=("clipped",),
        ),
        FindingKind(
            name="dc_offset",
            summary="The wave lies off centre.",
            advice="Nothing needs to be done for training, which takes the offset out; mend the recording chain.",
            threshold=1.0,
            unit="% of full scale",
            source="From 1 % (-40 dB) on, prepare takes it out, too.",
            harmless=True,
        ),
        FindingKind(
            name="level",
            summary="The voice is much louder or quieter than in the other clips.",
            advice="Bring the clips to one loudness, or take these out.",
            threshold=7.0,
            unit="dB from the median",
            digits=1,
            source="Clips of one session lie within 6 dB of their median, in five languages.",
        ),
        FindingKind(
            name="channels_differ",
            summary="The two channels are not the same voice.",
            advice="Export the voice's channel as mono: their mean would mix two sounds.",
            threshold=0.5,
            unit="likeness",
            below=True,
            source="One voice in two microphones reaches 0.9, two voices stay below 0.4.",
        ),
    )

    def figures(self, rows: Sequence[Measured]) -> Mapping[str, Mapping[str, Told]]:
        """Return the figures of the four kinds."""
        found = {
            kind: _of(rows, figure)
            for kind, figure in (("clipping", "clipped"), ("dc_offset", "offset"), ("channels_differ", "likeness"))
        }
        loudness = {row.origin: row.figures["loudness"] for row in rows if "loudness" in row.figures}
        middle = float(np.median(list(loudness.values()))) if loudness else 0.0
        found["level"] = {
            origin: Told(figure=abs(value - middle), detail=f"{value:.1f} dBFS, the median is {middle:.1f}")
            for origin, value in loudness.items()
        }
        return found


def _of(rows: Sequence[Measured], figure: str) -> dict[str, Told]:
    return {row.origin: Told(figure=row.figures[figure]) for row in rows if figure in row.figures}
