"""Rows of ids made elsewhere: are they Orpheus utterances, and how much of each is prompt?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tts_train_orpheus.layout import AUDIO_BASE, END_OF_SPEECH, SLOTS, START_OF_SPEECH, VOCAB_SIZE, slot_of


@dataclass(frozen=True)
class Inspected:
    """What :func:`inspect_rows` finds, by row."""

    faults: list[str]
    """What is wrong with a row; empty if nothing is."""
    prompts: NDArray[np.int64]
    """Ids up to and with START_OF_SPEECH; meaningless for a row with a fault."""
    frames: NDArray[np.int64]
    """Audio ids over 7."""


def inspect_rows(ids: ArrayLike, lengths: ArrayLike) -> Inspected:
    """Check many rows at once.

    A row is an utterance if it has one START_OF_SPEECH, whole frames of audio ids in slot order right after it, one
    END_OF_SPEECH right after those, and no id outside of the vocabulary.

    Args:
        ids: (sum of lengths,) the rows' ids, one row after the other.
        lengths: (rows,)
    """
    flat, sizes = np.asarray(ids, dtype=np.int64), np.asarray(lengths, dtype=np.int64)
    rows = np.repeat(np.arange(len(sizes)), sizes)
    positions = np.arange(len(flat)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    starts, start_at = _only(flat == START_OF_SPEECH, rows, positions, len(sizes))
    ends, end_at = _only(flat == END_OF_SPEECH, rows, positions, len(sizes))
    slots = np.asarray(slot_of(flat))
    audio = slots >= 0
    wrong = audio & (slots != (positions - start_at[rows] - 1) % SLOTS)
    outside = (flat < 0) | (flat >= VOCAB_SIZE)
    counts = {name: np.bincount(rows[mask], minlength=len(sizes)) for name, mask in _masks(audio, wrong, outside)}
    between = end_at - start_at - 1
    checks = (
        (sizes == 0, "it has no ids"),
        (counts["outside"] > 0, f"an id is outside of 0..{VOCAB_SIZE - 1}"),
        (starts == 0, f"it has no start of speech ({START_OF_SPEECH})"),
        (starts > 1, "it has several starts of speech; give one utterance a row"),
        (counts["audio"] == 0, f"it has no audio ids ({AUDIO_BASE} and up)"),
        (ends == 0, f"it has no end of speech ({END_OF_SPEECH}); cut off, it would teach the voice never to stop"),
        ((ends > 1) | (between != counts["audio"]), "its audio ids do not stand between start and end of speech"),
        (counts["wrong"] > 0, "an audio id is in the wrong slot of its frame"),
        (counts["audio"] % SLOTS > 0, f"its last frame is not whole ({SLOTS} ids)"),
    )
    faults = [""] * len(sizes)
    for bad, fault in reversed(checks):
        for row in np.flatnonzero(bad):
            faults[row] = fault
    return Inspected(faults, start_at + 1, counts["audio"] // SLOTS)


def _only(
    mask: NDArray[np.bool_], rows: NDArray[np.int64], positions: NDArray[np.int64], count: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return how often the mask holds in each row, and where it does last."""
    where = np.zeros(count, dtype=np.int64)
    where[rows[mask]] = positions[mask]
    return np.bincount(rows[mask], minlength=count), where


def _masks(
    audio: NDArray[np.bool_], wrong: NDArray[np.bool_], outside: NDArray[np.bool_]
) -> tuple[tuple[str, NDArray[np.bool_]], ...]:
    return ("audio", audio), ("wrong", wrong), ("outside", outside)
