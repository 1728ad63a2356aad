"""What users complain about, found in what a model said: loops, swallowed words, and speech that does not end."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tts_train.contract.voice import Passage, Uttered
from tts_train.scoring.signal.silence import speech_span

GUARDS = ("repetition", "swallowed", "runaway")
"""What is counted, in this order."""
LOOP_S = 1.0
"""Seconds from which on a loop counts as one; shorter ones are pauses and long vowels."""
LONGEST_PERIOD_S = 2.0
"""Seconds of the longest n-gram that is looked for."""
SWALLOWED = 0.5
"""Share of its usual tokens, or of the speech they stand for, below which words are missing."""
RUNAWAY = 2.0
"""How many times its usual tokens a passage may take, and a second more, before it is cut off."""


def judge(passage: Passage, uttered: Uttered, *, tokens_per_second: float) -> dict[str, bool]:
    """Say which of :data:`GUARDS` are true of what was said.

    ``repetition``: one n-gram three or more times in a row, for a second or more. ``swallowed``: fewer than half of the
    tokens that the text usually takes, or audible speech for less than half of their time. ``runaway``: it was cut off.
    """
    looped = longest_loop(uttered.tokens, longest_period=round(LONGEST_PERIOD_S * tokens_per_second))
    return {
        "repetition": looped >= LOOP_S * tokens_per_second,
        "swallowed": _said_share(passage, uttered, tokens_per_second) < SWALLOWED,
        "runaway": not uttered.ended,
    }


def most_tokens(passage: Passage, *, tokens_per_second: float) -> int:
    """Return after how many tokens a passage is cut off; half a minute's where nothing is known of it."""
    if passage.tokens is None:
        return round(30 * tokens_per_second)
    return round(RUNAWAY * passage.tokens + tokens_per_second)


def longest_loop(tokens: Sequence[int], *, longest_period: int) -> int:
    """Return the tokens of the longest stretch that is one n-gram three or more times in a row; 0 if there is none."""
    values, best = np.asarray(tokens, dtype=np.int64), 0
    for period in range(1, min(longest_period, len(values) // 3) + 1):
        run = _longest_run(values[period:] == values[:-period])
        if run >= 2 * period:
            best = max(best, run + period)
    return best


def _longest_run(same: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> int:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], same, [False]]).astype(np.int8)))
    lengths = edges[1::2] - edges[::2]
    return int(lengths.max()) if len(lengths) else 0


def _said_share(passage: Passage, uttered: Uttered, tokens_per_second: float) -> float:
    """Return the smaller of two shares: of the usual tokens, and of the usual seconds that are audible."""
    if not len(uttered.sound.samples) or not len(uttered.tokens):
        return 0.0
    begin, end = speech_span(uttered.sound)
    if passage.tokens is None:
        return 1.0 if end > begin else 0.0
    return min(len(uttered.tokens), (end - begin) * tokens_per_second) / max(passage.tokens, 1.0)
