"""Puts cues on the speech that is there: edges go to pauses, and neighbours that are one sentence are joined."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tts_train.curation.slicing.grouping import TOO_SHORT, Lengths, SpeechGroup, fate_of, judged
from tts_train.curation.slicing.subtitles import Cue
from tts_train.curation.speech.edges import SECOND, Edges, SpeechStretch
from tts_train.curation.speech.hearing import HeardSound
from tts_train.curation.speech.levels import smooth

# Where two cues meet in speech without a pause, the cut is at the quietest moment within this of what they say.
_DIP = SECOND * 15 // 100
# Speech belongs to a cue that has a third of it, so that neighbours' edges may be off by half a second.
_SHARE = 1 / 3
# Longer pauses end a sentence, whatever its last sign is.
_LONGEST_PAUSE = 1.0
_ENDS = tuple(".!?…。！？।؟")
_CLOSING = "\"'”’»)]"


@dataclass(frozen=True, kw_only=True)
class CueGroups:
    """Utterances by cues, in order, without overlap."""

    groups: list[SpeechGroup]
    odd: dict[str, list[int]]
    """Numbers of cues by what was done with them."""


def group_by_cues(cues: Sequence[Cue], edges: Edges, heard: HeardSound, lengths: Lengths) -> CueGroups:
    """Return the utterances that subtitles say.

    Args:
        cues: in order of time.
        edges: speech of the recording.
        heard: how loud each moment is.
        lengths: what an utterance may be.
    """
    odd: defaultdict[str, list[int]] = defaultdict(list)
    apart = _apart(cues, odd)
    owned: defaultdict[int, list[SpeechStretch]] = defaultdict(list)
    for owner, speech in _owners(apart, _split(edges.spoken, apart, heard)):
        owned[owner].append(speech)
    placed: list[tuple[Cue, SpeechGroup]] = []
    for number, cue in enumerate(apart):
        # Its words, however far its own times are off.
        mine = owned[number]
        if mine:
            # From the first word to the last: quiet at the edges of a cue is not kept.
            one = SpeechGroup(start=mine[0].start, end=mine[-1].end, text=cue.text, speaker=cue.speaker)
            placed.append((cue, one))
        else:
            odd["no_speech"].append(cue.number)
    joined = _joined(placed, lengths, odd)
    for cue, one in joined:
        if one.fate:
            odd[one.fate].append(cue.number)
    return CueGroups(groups=[one for _, one in joined], odd=dict(odd))


def _apart(cues: Sequence[Cue], odd: defaultdict[str, list[int]]) -> list[Cue]:
    """Return cues that do not overlap: shared time is halved, and cues for the same time become one."""
    found: list[Cue] = []
    for cue in cues:
        last = found[-1] if found else None
        if last is None or cue.start >= last.end:
            found.append(cue)
            continue
        shared = min(last.end, cue.end) - cue.start
        if shared * 2 <= min(last.end - last.start, cue.end - cue.start):
            odd["overlap"].append(cue.number)
            middle = cue.start + shared / 2
            found[-1] = last._replace(end=middle)
            found.append(cue._replace(start=middle))
        elif cue.speaker == last.speaker:
            odd["same_time"].append(cue.number)
            found[-1] = last._replace(end=max(last.end, cue.end), text=f"{last.text} {cue.text}")
        else:
            # Two voices at once teach neither.
            odd["two_at_once"].append(cue.number)
    return found


def _split(spoken: Sequence[SpeechStretch], cues: Sequence[Cue], heard: HeardSound) -> list[SpeechStretch]:
    """Cut speech that goes on where one cue gives way to the next, at the quietest moment there."""
    found: list[SpeechStretch] = []
    levels = smooth(heard.levels, 6)
    edges = sorted({round(time * SECOND) for cue in cues for time in (cue.start, cue.end)})
    for one in spoken:
        start = one.start
        # Less than the reach from an edge of the speech, the pause there is the better place.
        first, last = bisect_right(edges, one.start + 2 * _DIP), bisect_left(edges, one.end - 2 * _DIP)
        for at in edges[first:last]:
            if at - start <= 2 * _DIP:
                continue
            cut = at - _DIP + int(np.argmin(levels[at - _DIP : at + _DIP]))
            found.append(SpeechStretch(start, cut))
            start = cut
        found.append(SpeechStretch(start, one.end))
    return found


def _owners(cues: Sequence[Cue], spoken: Sequence[SpeechStretch]) -> list[tuple[int, SpeechStretch]]:
    """Return (number of a cue, speech) for all speech that belongs to one, in order."""
    found: list[tuple[int, SpeechStretch]] = []
    first = 0
    for one in spoken:
        start, end = one.start / SECOND, one.end / SECOND
        while first < len(cues) and cues[first].end <= start:
            first += 1
        shares: list[tuple[float, int]] = []
        for number in range(first, len(cues)):
            if cues[number].start >= end:
                break
            shares.append((min(end, cues[number].end) - max(start, cues[number].start), -number))
        if shares and max(shares)[0] >= _SHARE * (end - start):
            found.append((-max(shares)[1], one))
    return found


def _joined(
    placed: Sequence[tuple[Cue, SpeechGroup]], lengths: Lengths, odd: defaultdict[str, list[int]]
) -> list[tuple[Cue, SpeechGroup]]:
    found: list[tuple[Cue, SpeechGroup]] = []
    for cue, one in placed:
        if found and _belong(found[-1][1], one, lengths):
            odd["joined"].append(cue.number)
            last = found[-1][1]
            found[-1] = (found[-1][0], replace(last, end=one.end, text=f"{last.text} {one.text}"))
        else:
            found.append((cue, one))
    fates = judged([one for _, one in found], lengths)
    return [(cue, one) for (cue, _), one in zip(found, fates, strict=True)]


def _belong(last: SpeechGroup, one: SpeechGroup, lengths: Lengths) -> bool:
    """Tell whether two neighbours are one sentence, or one of them is too short alone."""
    pause, whole = (one.start - last.end) / SECOND, (one.end - last.start) / SECOND
    if one.speaker != last.speaker or pause > _LONGEST_PAUSE or whole > lengths.most:
        return False
    # Where speech goes on from one to the other without a pause, a cut would be a guess.
    if pause <= 0:
        return True
    open_end = not last.text.rstrip(_CLOSING).endswith(_ENDS)
    # A capital begins a sentence, where there are capitals.
    goes_on = open_end and not one.text[:1].isupper()
    return goes_on or any(fate_of((each.end - each.start) / SECOND, lengths) == TOO_SHORT for each in (last, one))
