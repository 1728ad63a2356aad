"""Figures that need no metric: whether a take ended by itself, loops, falls silent, or is too short for its text.

They guard a reward against what metrics of words and voice do not hear.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import median

import numpy as np

from tts_train.contract.jobs import Drawn
from tts_train.contract.metric import Figure
from tts_train.scoring.metrics.wave import silent_stretches, speech_span

STOP, REPETITION, LONG_SILENCE, SPEECH, PACE = "stop", "repetition", "long_silence", "speech_seconds", "pace_ratio"
GUARDS = (
    Figure(name=STOP, unit="%", better="higher", summary="takes that the model ended by itself", digits=0),
    Figure(name=REPETITION, unit="%", better="lower", summary="frames that lie in a loop", digits=1),
    Figure(
        name=LONG_SILENCE, unit="s", better="lower", summary="silence beyond the first second of each stretch of it"
    ),
    Figure(name=SPEECH, unit="s", better="neither", summary="length without the silence before and behind"),
    Figure(name=PACE, unit="", better="one", summary="length over the usual one of texts of about as many letters"),
)
GRAM_S = 0.5
"""Seconds of frames that are said again where there is a loop: longer than any sound that speech repeats by itself."""
TIMES = 3
"""How often they are said: a phrase may well come twice."""
STUCK_S = 1.5
"""Seconds from which on one number without end is a loop; pauses are shorter."""
PAUSE_S = 1.0
"""Seconds of silence that count as a pause."""
NEIGHBOURS = 9
"""Most texts of about as many letters that say what length is usual: the text itself, and as many shorter ones as
longer ones."""


def guard(take: Drawn) -> dict[str, float]:
    """Return the figures of a take that has a sound; :data:`PACE` comes when all takes are there."""
    assert take.sound is not None
    begin, end = speech_span(take.sound)
    # By the sound and not by the codec's rate, which the core does not know.
    rate = len(take.frames) / take.sound.seconds
    long = sum(max(0.0, stretch - PAUSE_S) for stretch in silent_stretches(take.sound))
    return {
        STOP: 100.0 * take.ended,
        REPETITION: 100.0 * repetition(take.frames, frames_per_second=rate),
        LONG_SILENCE: long,
        SPEECH: end - begin,
    }


def repetition(frames: Sequence[int], *, frames_per_second: float) -> float:
    """Return the share of frames, 0 to 1, that lie in a loop.

    A frame lies in a loop if it belongs to a stretch of :data:`GRAM_S` seconds that the take has at :data:`TIMES`
    places or more, which may overlap, or to one number that goes on for :data:`STUCK_S` seconds or more. A stretch
    that is one number for more than half of its frames counts by the second rule only: a pause has the same number for
    as long as it lasts, and every other word may follow it.

    Args:
        frames: One number for each frame.
        frames_per_second: How many a second has.
    """
    numbers = np.asarray(frames, dtype=np.int64)
    if not len(numbers):
        return 0.0
    looped = np.zeros(len(numbers), dtype=bool)
    # Runs first: a drone or a hiss that does not end.
    stuck = max(2, round(STUCK_S * frames_per_second))
    edges = np.flatnonzero(np.diff(numbers)) + 1
    for first, last in zip([0, *edges], [*edges, len(numbers)], strict=True):
        looped[first:last] |= last - first >= stuck
    # Then stretches of different numbers, wherever in the take they come again.
    size = max(2, round(GRAM_S * frames_per_second))
    places: dict[bytes, list[int]] = defaultdict(list)
    for first in range(len(numbers) - size + 1):
        gram = numbers[first : first + size]
        # One half and a frame: two numbers in turns are a loop, also in a stretch of an odd number of frames.
        if np.unique(gram, return_counts=True)[1].max() <= (size + 1) / 2:
            places[gram.tobytes()].append(first)
    for found in places.values():
        if len(found) >= TIMES:
            for first in found:
                looped[first : first + size] = True
    return float(looped.mean())


def pace_ratios(
    text_ids: Sequence[str],
    texts: Sequence[str],
    speakers: Sequence[str | None],
    languages: Sequence[str | None],
    speech: Sequence[float | None],
    ended: Sequence[bool],
) -> list[float | None]:
    """Return the length of each take over the usual one for its letters; None where there is none.

    The usual pace, in seconds a letter, is the median over the takes of up to :data:`NEIGHBOURS` texts of the same
    speaker and language that have the nearest number of letters: short texts take more time a letter, and a pace over
    all would call each of their takes slow. Only takes that ended by themselves count there.

    Args:
        text_ids: Of each take.
        texts: What it says.
        speakers: Who says it.
        languages: In which language.
        speech: Seconds of its speech; None where it has no sound.
        ended: Whether the model ended it.
    """
    paces: dict[str, list[float]] = defaultdict(list)
    letters: dict[tuple[str | None, str | None], dict[str, int]] = defaultdict(dict)
    given = zip(text_ids, texts, speakers, languages, speech, ended, strict=True)
    for text_id, text, speaker, language, seconds, whole in given:
        # Languages apart: a Chinese character takes as long as several letters. Speakers apart: held
        # against the pace of others, a slow voice would be rewarded for its skips.
        size = letters[speaker, language].setdefault(text_id, _letters(text))
        # One that was cut off says nothing of how long it would have been.
        if whole and seconds:
            paces[text_id].append(seconds / size)
    usual = {key: pace for sizes in letters.values() for key, pace in _usual(sizes, paces).items()}
    ratios: list[float | None] = []
    for text_id, text, seconds in zip(text_ids, texts, speech, strict=True):
        pace = usual.get(text_id)
        ratios.append(None if seconds is None or pace is None else seconds / (pace * _letters(text)))
    return ratios


def _usual(sizes: Mapping[str, int], paces: Mapping[str, Sequence[float]]) -> dict[str, float]:
    ordered = sorted(sizes, key=lambda text_id: (sizes[text_id], text_id))
    found: dict[str, float] = {}
    for place, text_id in enumerate(ordered):
        # As many shorter texts as longer ones: at both ends of the order all others would be longer, or shorter.
        beside = min(NEIGHBOURS // 2, place, len(ordered) - 1 - place)
        near = [pace for other in ordered[place - beside : place + beside + 1] for pace in paces.get(other, ())]
        # The median: takes that skip or run on are what it is to find.
        if near:
            found[text_id] = median(near)
    return found


def _letters(text: str) -> int:
    # Marks take no time of their own, and some writers set many.
    return max(1, sum(map(str.isalnum, text)))
