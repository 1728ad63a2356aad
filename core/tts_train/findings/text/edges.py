"""Tell clips that begin or end in mid-word: loud at the very edge, or without the first or last sounds of a text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from tts_train.findings.measure import Examined, FindingKind, Judge, Measure, Measured, NotMeasured, Told
from tts_train.findings.text.agreement import fits
from tts_train.sound import Floats

_FRAME_S = 0.01
_LEAST_FRAMES = 20
# Speech is what lies within this many dB of its loud parts; breaths and the ends of fades lie below.
_SPEECH_DB, _LOUD = 20.0, 0.95
# Talking is done where it is louder than this, weak consonants included.
_TALK_DB = 30.0
_SILENT_DB = -120.0

LOUD_EDGE = -20.0
"""dB of the speech. A plosive begins with a closure, and the last sound of a word dies away in more than one frame."""
# Sounds of the text that are not there are worth as much as a loud edge: from -5 nats on, 4 dB a nat.
_UNHEARD, _DB_A_NAT = -5.0, 4.0
# First sounds that are well heard excuse a loud start, which is only trimmed closely: so are whole sets of prompts. At
# the end they excuse nothing, since the last vowel that is left is well heard, too.
_HEARD, _HEARD_DB = -2.5, 20.0
# A right text leads the best of eight others by 2.5 to 5 nats a frame; one that is wrong itself by none.
_LEAD_A_SECOND = 100.0


class EdgeLevels(Measure):
    """How loud a clip is in its first and last hundredth of a second, and how long it speaks."""

    name = "edges"

    def measure(self, examined: Examined) -> Mapping[str, Any]:
        """Return ``start_level`` and ``end_level`` in dB of the speech, and ``talking`` in seconds.

        Raises:
            NotMeasured: for a clip of less than a fifth of a second.
        """
        sound = examined.take.sound
        levels = _levels(sound.samples, sound.sample_rate)
        if len(levels) < _LEAST_FRAMES:
            raise NotMeasured("the clip is too short to have a beginning and an end")
        loud = float(np.quantile(levels, _LOUD))
        speech = float(np.median(levels[levels >= loud - _SPEECH_DB]))
        talks = np.flatnonzero(levels >= loud - _TALK_DB)
        return {
            "start_level": round(float(levels[0]) - speech, 2),
            "end_level": round(float(levels[-1]) - speech, 2),
            "talking": round(float(talks[-1] - talks[0] + 1) * _FRAME_S, 2),
        }


def _levels(samples: Floats, sample_rate: int) -> Floats:
    """Return the level of every frame in dBFS, (frames,); the last frame ends where the sound ends."""
    size = max(1, round(sample_rate * _FRAME_S))
    count = len(samples) // size
    # Frames from the start would leave up to a frame of the end out, where a cut is heard.
    frames = np.concatenate([samples[:size][None], samples[len(samples) - (count - 1) * size :].reshape(-1, size)])
    power = np.mean(np.square(frames, dtype=np.float64), axis=1)
    return np.asarray(10 * np.log10(np.maximum(power, 10 ** (_SILENT_DB / 10))), dtype=np.float32)


class CutJudge(Judge):
    """Tells clips that are cut at an edge; sounds of the text count where :class:`TextFit` could be measured."""

    measures = (EdgeLevels,)
    kinds: ClassVar[tuple[FindingKind, ...]] = tuple(
        FindingKind(
            name=name,
            summary=summary,
            advice="Cut the clip again from its recording with a margin of 0.1 s, or take it out.",
            threshold=LOUD_EDGE,
            unit="dB",
            digits=0,
            source="Human prompts have -30 dB and less at their edges, cut in a word they have -10 to 5. An edge whose "
            "sounds are missing counts 4 dB a nat from -5 on, a start whose sounds are well heard 20 dB less; see "
            "docs/corpus.md.",
        )
        for name, summary in (
            ("cut_start", "The clip begins in the middle of a word."),
            ("cut_end", "The clip ends in the middle of a word."),
        )
    )

    def figures(self, rows: Sequence[Measured]) -> Mapping[str, Mapping[str, Told]]:
        """Return the figures of both ends."""
        return {"cut_start": dict(_edge(rows, "start")), "cut_end": dict(_edge(rows, "end"))}


def _says_its_text(row: Measured) -> bool:
    """Tell whether a text belongs to its clip, also where the sounds that a cut took spoil the fit of a short one."""
    lead = -float(row.figures.get("rival_lead", 0.0))
    return fits(row) or lead > _LEAD_A_SECOND * row.figures["talking"]


def _edge(rows: Sequence[Measured], end: str) -> Iterator[tuple[str, Told]]:
    for row in rows:
        if f"{end}_level" not in row.figures:
            continue
        level, fit = row.figures[f"{end}_level"], row.figures.get(f"{end}_fit")
        # Where the text as a whole is another one, nothing is said by what is missing of it.
        if fit is None or not _says_its_text(row):
            yield row.origin, Told(figure=level, detail="loud at the edge")
            continue
        if end == "start" and fit > _HEARD:
            level -= _HEARD_DB
        if (unheard := LOUD_EDGE + _DB_A_NAT * (_UNHEARD - fit)) > level:
            yield (
                row.origin,
                Told(figure=unheard, detail=f"the {'first' if end == 'start' else 'last'} sounds are missing"),
            )
        else:
            yield row.origin, Told(figure=level, detail="loud at the edge")
