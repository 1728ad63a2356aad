"""The same sound twice: an index over the fingerprints of all clips, and a comparison of those that meet in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from tts_train.findings.measure import FindingKind, Judge, Measured, Told
from tts_train.findings.sound.fingerprint import HOP, SAMPLE_RATE, WEAK, Codes, Fingerprint, unpacked

_NEAR = 3
"""Entries of one code that each is held against: of a hundred copies each meets some other, at no more cost."""
_LEAST_VOTES = 2
"""Frames that must meet at one offset before two clips are compared."""
_SLACK = 1
"""Frames by which the offset may be wrong: the two clips need not be cut in step."""
_LEAST_SHARE = 0.6
"""Share of the shorter clip that must lie in the other one."""
_MAX_OFFSET = 1 << 12


class DuplicateJudge(Judge):
    """Tells clips that hold what another clip holds."""

    measures = (Fingerprint,)
    kinds: ClassVar[tuple[FindingKind, ...]] = (
        FindingKind(
            name="duplicate_sound",
            summary="Another clip holds the same sound.",
            advice="Keep one of them; where their texts differ, one of the texts is wrong.",
            threshold=0.7,
            unit="of the bits are equal",
            source="Copies by MP3 at 32 kbit/s, at another level, rate or cut reach 0.85, other sentences 0.62.",
            reasons=("duplicate",),
        ),
    )

    def figures(self, rows: Sequence[Measured]) -> Mapping[str, Mapping[str, Told]]:
        """Return the likeness of each row to the row that is most like it, of those that meet in the index."""
        found: dict[str, Told] = {}
        for one, other, likeness in _alike([row for row in rows if "codes" in row.figures]):
            for row, twin in ((one, other), (other, one)):
                if row.origin not in found or likeness > found[row.origin].figure:
                    found[row.origin] = Told(figure=round(likeness, 3), detail=f"the same as {twin.origin}")
        return {"duplicate_sound": found}


def _alike(rows: Sequence[Measured]) -> Iterator[tuple[Measured, Measured, float]]:
    codes = [unpacked(row.figures["codes"], np.uint32) for row in rows]
    for one, other, offset in _meetings(rows, codes):
        yield rows[one], rows[other], _likeness(codes[one], codes[other], offset)


def _meetings(rows: Sequence[Measured], codes: Sequence[Codes]) -> Iterator[tuple[int, int, int]]:
    """Yield pairs of clips and the offset between them in frames, where several of their frames meet."""
    entries = [_entries(number, row, codes[number]) for number, row in enumerate(rows)]
    if not entries:
        return
    values, clips, places = (np.concatenate(part) for part in zip(*entries, strict=True))
    # Stable, so that the entries of one code stay in the order of the clips.
    order = np.argsort(values, kind="stable")
    values, clips, places = values[order], clips[order], places[order]
    votes: list[NDArray[np.int64]] = []
    # Neighbours in the sorted list instead of all pairs of a code: the cost grows with the clips, not their square.
    for step in range(1, _NEAR + 1):
        same = (values[step:] == values[:-step]) & (clips[step:] != clips[:-step])
        first, second = np.flatnonzero(same), np.flatnonzero(same) + step
        votes.append(_vote(clips[first], clips[second], places[second] - places[first]))
    found, count = np.unique(np.concatenate(votes), return_counts=True)
    best: dict[tuple[int, int], tuple[int, int]] = {}
    for vote, times in zip(found[count >= _LEAST_VOTES], count[count >= _LEAST_VOTES], strict=True):
        pair, offset = divmod(int(vote), 2 * _MAX_OFFSET)
        key = divmod(pair, 1 << 24)
        best[key] = max(best.get(key, (0, 0)), (int(times), offset - _MAX_OFFSET))
    yield from ((one, other, offset) for (one, other), (_, offset) in best.items())


def _entries(number: int, row: Measured, codes: Codes) -> tuple[Codes, NDArray[np.int32], NDArray[np.int32]]:
    """Return codes of the clip's loud frames, and again with a weak bit the other way; clip and place beside them."""
    loud = np.unpackbits(unpacked(row.figures["loud"], np.uint8), count=len(codes)).astype(bool)
    places, weak = np.flatnonzero(loud), unpacked(row.figures["weak"], np.uint32)[loud]
    variants = [codes[loud]]
    # Each weak bit by itself the other way: both clips are entered so, and those two bits apart still meet.
    for _ in range(WEAK):
        lowest = weak & (~weak + np.uint32(1))
        variants.append(codes[loud] ^ lowest)
        weak = weak ^ lowest
    # Small types: a hundred thousand clips have some fifty million entries.
    numbers = np.full(len(variants) * len(places), number, dtype=np.int32)
    return np.concatenate(variants), numbers, np.tile(places, len(variants)).astype(np.int32)


def _vote(one: NDArray[np.int32], other: NDArray[np.int32], offset: NDArray[np.int32]) -> NDArray[np.int64]:
    """Pack a pair and an offset into one number, so that equal votes are counted by sorting."""
    # 24 bits a clip: sixteen million of them; 13 for an offset of two minutes.
    kept = np.abs(offset) < _MAX_OFFSET
    pair = (one[kept].astype(np.int64) << 24) + other[kept]
    return pair * (2 * _MAX_OFFSET) + offset[kept] + _MAX_OFFSET


def _likeness(one: Codes, other: Codes, offset: int) -> float:
    """Return the share of equal bits where two clips overlap; 0 where that is too little of both."""
    best = 0.0
    for shift in range(offset - _SLACK, offset + _SLACK + 1):
        # A frame at p of the first is at p + shift of the second.
        start, end = max(0, -shift), min(len(one), len(other) - shift)
        if end - start >= max(_LEAST_SHARE * min(len(one), len(other)), SAMPLE_RATE / HOP / 2):
            differing = np.unpackbits((one[start:end] ^ other[start + shift : end + shift]).view(np.uint8))
            best = max(best, 1 - float(differing.mean()))
    return best
