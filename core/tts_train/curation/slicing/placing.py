"""From groups of speech to stretches of samples with a margin, and what every other sample of the recording is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tts_train.curation.slicing.grouping import TOO_LONG, TOO_SHORT, Lengths, SpeechGroup
from tts_train.curation.speech.edges import SECOND, Edges, SpeechStretch
from tts_train.curation.speech.hearing import HeardSound
from tts_train.curation.speech.levels import runs, smooth

SILENCE, NOT_SPEECH, NO_SUBTITLE = "silence", "not_speech", "no_subtitle"

# Louder than the noise by so many dB, for half a second, is something: music, applause, a door.
_LOUD_OVER_NOISE, _LOUD_LEAST = 12.0, SECOND // 2
# Nobody records silence at -30 dB of full scale: where all is music, its own level must not pass for noise.
_LOUD = -30.0


@dataclass(frozen=True, kw_only=True)
class CutPiece:
    """A stretch of a recording that becomes a clip; positions in samples."""

    start: int
    end: int
    lead: float = 0.0
    """Seconds of quiet before the first word."""
    tail: float = 0.0
    """Seconds of quiet behind the last word."""
    text: str = ""
    speaker: str | None = None


def place(groups: Sequence[SpeechGroup], heard: HeardSound, lengths: Lengths) -> list[CutPiece]:
    """Return the groups that become rows, each with its margin; neighbours share a pause that is short by halves."""
    pieces: list[CutPiece] = []
    whole = len(heard.levels)
    for number, one in enumerate(groups):
        if one.fate:
            continue
        before = (groups[number - 1].end + one.start) // 2 if number else 0
        after = (one.end + groups[number + 1].start) // 2 if number + 1 < len(groups) else whole
        # The longest speech that is allowed has no room for margins.
        margin = min(lengths.margin, (lengths.most - (one.end - one.start) / SECOND) / 2) * SECOND
        first, last = max(before, one.start - int(margin)), min(after, one.end + int(margin))
        pieces.append(
            CutPiece(
                start=heard.to_samples(first),
                end=heard.to_samples(last),
                lead=(one.start - first) / SECOND,
                tail=(last - one.end) / SECOND,
                text=one.text,
                speaker=one.speaker,
            )
        )
    return pieces


def account_samples(
    heard: HeardSound, edges: Edges, pieces: Sequence[CutPiece], lost: Sequence[SpeechGroup], *, unclaimed: str
) -> dict[str, int]:
    """Return how many samples are in no piece, by fate; with those of the pieces they are all of the recording.

    Args:
        heard: the recording.
        edges: its speech.
        pieces: in order, without overlap.
        lost: groups that became no piece.
        unclaimed: fate of speech in none of them.
    """
    found: dict[str, int] = {}
    free = list(_gaps([(one.start, one.end) for one in pieces], (0, heard.frames)))
    # Each takes from what those before it left, so that no sample is counted twice.
    for fate, wanted in (
        *((fate, _stretches(heard, [one for one in lost if one.fate == fate])) for fate in (TOO_SHORT, TOO_LONG)),
        (unclaimed, _stretches(heard, edges.spoken)),
        (NOT_SPEECH, _loud(heard, edges)),
    ):
        left = _without(free, wanted)
        found[fate] = found.get(fate, 0) + _total(free) - _total(left)
        free = left
    found[SILENCE] = _total(free)
    return {fate: samples for fate, samples in found.items() if samples}


def _stretches(heard: HeardSound, found: Sequence[SpeechGroup | SpeechStretch]) -> list[tuple[int, int]]:
    return [(heard.to_samples(one.start), heard.to_samples(one.end)) for one in found]


def _loud(heard: HeardSound, edges: Edges) -> list[tuple[int, int]]:
    levels = smooth(heard.levels, SECOND // 10)
    loud = (levels > edges.floor + _LOUD_OVER_NOISE) | (levels > _LOUD)
    for one in edges.spoken:
        # The sound of a word does not make the pause behind it loud.
        loud[max(0, one.start - SECOND // 10) : one.end + SECOND // 10] = False
    found = runs(loud, join=SECOND // 10, least=_LOUD_LEAST)
    return [(heard.to_samples(start), heard.to_samples(end)) for start, end in found]


def _gaps(taken: Sequence[tuple[int, int]], whole: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Yield what of ``whole`` is left between stretches in order."""
    at, last = whole
    for start, end in taken:
        if start > at:
            yield at, min(start, last)
        at = max(at, end)
        if at >= last:
            return
    yield at, last


def _without(free: Sequence[tuple[int, int]], wanted: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return what is left of ``free`` when ``wanted`` is taken out of it."""
    left: list[tuple[int, int]] = []
    taken, first = sorted(wanted), 0
    for start, end in free:
        # Both are in order: what ends before this stretch is of no interest to the next ones.
        while first < len(taken) and taken[first][1] <= start:
            first += 1
        last = first
        while last < len(taken) and taken[last][0] < end:
            last += 1
        left += [gap for gap in _gaps(taken[first:last], (start, end)) if gap[1] > gap[0]]
    return left


def _total(stretches: Sequence[tuple[int, int]]) -> int:
    return sum(end - start for start, end in stretches)
