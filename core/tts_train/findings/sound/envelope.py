"""Noise, echo and pauses, from how the loudness of a clip goes up and down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from tts_train.findings.measure import Examined, FindingKind, Judge, Measure, Measured, Told
from tts_train.findings.sound import frames
from tts_train.sound import Floats64

_FALL = 15
"""Frames of 10 ms over which the fall of the voice is looked at."""
_FALL_FROM_DB = 15.0
"""Only falls from frames this far below the loudest, or less: those of whole syllables."""
_STEEPEST = 98
"""Percentile of the falls: a dry voice stops at once somewhere in a sentence, one in a hall nowhere."""
_FAR_FROM_NOISE_DB = 31.0
"""A fall of 16 dB from 15 dB below the loudest frames ends above the noise, if that is so far below them."""
_UNSTEADY_DB = 4.0
"""Between the 3rd and the 12th percentile of the levels: noise, in which a fall ends, varies by less, and what an echo
leaves between the words by more (200 prompts with noise and with echo)."""
_PAUSE_S = 0.05
"""A louder stretch shorter than this is a click, and does not end a pause."""


class Envelope(Measure):
    """How loud the voice is above the noise, how fast it falls, and where nothing is said."""

    name = "envelope"
    version = 2

    def measure(self, examined: Examined) -> Mapping[str, Any]:
        """Return ``snr`` in dB, ``echo`` in seconds for 60 dB, ``head``, ``tail`` and the longest ``pause`` in seconds.

        ``snr`` is the level of loud frames (95th percentile) over that of the quietest tenth. For noise of one loudness
        it is some 4 dB more than the ratio of the powers.
        """
        sound = examined.take.sound
        levels = frames.decibels(sound.samples, sound.sample_rate)
        snr = frames.loud(levels) - frames.quiet(levels)
        found = {"snr": snr, **_pauses(levels)}
        fall = _fall(levels)
        if fall is not None and (snr >= _FAR_FROM_NOISE_DB or _unsteady(levels)):
            # As a reverberation time is told: how long 60 dB would take at this pace.
            found["echo"] = 60 * _FALL * frames.HOP_S / max(fall, 1.0)
        return {name: round(value, 3) for name, value in found.items()}


def _fall(levels: Floats64) -> float | None:
    """Return how many dB the voice falls within 150 ms where it falls fastest; None for a sound too short to tell."""
    # Three frames: the two or three periods of a deep voice in one frame make the level flutter.
    smooth = np.convolve(levels, np.ones(3) / 3, "valid")
    if len(smooth) <= _FALL:
        return None
    falls = smooth[:-_FALL] - smooth[_FALL:]
    from_loud = falls[smooth[:-_FALL] >= frames.loud(levels) - _FALL_FROM_DB]
    return float(np.percentile(from_loud, _STEEPEST)) if len(from_loud) else None


def _unsteady(levels: Floats64) -> bool:
    """Tell whether what is heard between the words is no noise of one loudness."""
    # Digital silence is steadier than any noise, and says nothing about it.
    heard = levels[levels > frames.FLOOR_DB + 1]
    return len(heard) > 0 and bool(np.subtract(*np.percentile(heard, (12, 3))) >= _UNSTEADY_DB)


def _pauses(levels: Floats64) -> dict[str, float]:
    """Return the seconds before, behind and, at most, between what is said."""
    edges = np.diff(np.concatenate([[0], frames.voiced(levels).astype(np.int8), [0]]))
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    spoken = ends - starts >= round(_PAUSE_S / frames.HOP_S)
    if not spoken.any():
        return {}
    starts, ends = starts[spoken], ends[spoken]
    between = starts[1:] - ends[:-1]
    found = {"head": starts[0], "tail": len(levels) - ends[-1], "pause": between.max(initial=0)}
    return {name: float(count) * frames.HOP_S for name, count in found.items()}


class EnvelopeJudge(Judge):
    """Tells noise, echo and long silences."""

    measures = (Envelope,)
    kinds: ClassVar[tuple[FindingKind, ...]] = (
        FindingKind(
            name="noisy",
            summary="The voice is hardly louder than what is heard between the words.",
            advice="Take the clip out or record it again; a denoiser leaves traces that a voice learns.",
            threshold=15.0,
            unit="dB of voice over noise",
            below=True,
            digits=1,
            source="Noise 5 dB below the voice gives 9 to 15, and no clean prompt of five languages is below 15.",
        ),
        FindingKind(
            name="reverberant",
            summary="The voice dies away slowly, as in a large or bare room.",
            advice="Take the clip out, or record near the microphone in a room with soft things in it.",
            threshold=0.56,
            unit="s to fall by 60 dB",
            source="Dry prompts of five languages stay below 0.56 in 99 of 100, halls of 0.8 to 1.5 s are above in 96.",
        ),
        FindingKind(
            name="silence_inside",
            summary="There is a long pause inside.",
            advice="Cut the clip there, or shorten the pause: a voice learns to stop in mid-sentence.",
            threshold=1.0,
            unit="s",
            source="Pauses at full stops take up to 0.8 s in read speech.",
        ),
        FindingKind(
            name="silence_around",
            summary="There is a long silence before or behind what is said.",
            advice="Trim it to about 0.1 s (tts-train corpus slice does): a voice learns it with the text.",
            threshold=0.8,
            unit="s",
            source="Backends trim or learn up to half a second; more is never wanted.",
        ),
    )

    def figures(self, rows: Sequence[Measured]) -> Mapping[str, Mapping[str, Told]]:
        """Return the figures of the four kinds."""
        named = {"noisy": "snr", "reverberant": "echo", "silence_inside": "pause"}
        found = {
            kind: {row.origin: Told(figure=row.figures[name]) for row in rows if name in row.figures}
            for kind, name in named.items()
        }
        found["silence_around"] = {
            row.origin: Told(
                figure=max(row.figures["head"], row.figures["tail"]),
                detail=f"{row.figures['head']:.2f} s before, {row.figures['tail']:.2f} s behind",
            )
            for row in rows
            if "head" in row.figures
        }
        return found
