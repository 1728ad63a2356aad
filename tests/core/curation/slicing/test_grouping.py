"""Which speech becomes one utterance: as cheap as the cheapest of all ways, which are tried here."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tts_train.curation.slicing import grouping
from tts_train.curation.slicing.grouping import Lengths, SpeechGroup, group
from tts_train.curation.speech.edges import SECOND, SpeechStretch

LENGTHS = Lengths(least=2, most=10, margin=0.2)


def stretches(*seconds: float) -> list[SpeechStretch]:
    """Speech and pauses in turn, speech first."""
    at, found = 0.0, []
    for number, length in enumerate(seconds):
        if number % 2 == 0:
            found.append(SpeechStretch(round(at * SECOND), round((at + length) * SECOND)))
        at += length
    return found


def spans(groups: list[SpeechGroup]) -> list[tuple[float, float]]:
    return [(one.start / SECOND, one.end / SECOND) for one in groups]


def cost(spoken, cuts) -> float:
    """The cost of cutting before these stretches; infinite where an utterance with a pause is too long."""
    total, bounds = 0.0, [0, *cuts, len(spoken)]
    for start, end in itertools.pairwise(bounds):
        seconds = (spoken[end - 1].end - spoken[start].start) / SECOND
        if seconds > LENGTHS.most and end - start > 1:
            return float("inf")
        total += grouping._cut_cost(grouping._pause(spoken, start)) if start else 0
        total += sum(grouping._inside_cost(grouping._pause(spoken, each)) for each in range(start + 1, end))
        before, after = grouping._pause(spoken, start), grouping._pause(spoken, end)
        if grouping.fate_of(seconds, LENGTHS, before, after) == grouping.TOO_SHORT:
            total += grouping._LOST + 2 * seconds
    return total


@pytest.mark.parametrize("seed", range(5))
def test_no_other_way_is_cheaper(seed):
    draw = np.random.default_rng(seed)
    spoken = stretches(*(draw.uniform(0.2, 3) if at % 2 == 0 else draw.exponential(0.5) + 0.1 for at in range(19)))
    ways = [cuts for count in range(10) for cuts in itertools.combinations(range(1, 10), count)]
    starts = [one.start for one in group(spoken, LENGTHS)]
    chosen = [number for number, one in enumerate(spoken) if one.start in starts and number]
    assert cost(spoken, chosen) == pytest.approx(min(cost(spoken, cuts) for cuts in ways))


def test_long_pauses_are_cut_at_and_short_words_go_with_their_neighbours():
    spoken = stretches(3, 1.5, 0.5, 0.2, 3, 0.3, 3, 1.5, 3)
    assert spans(group(spoken, LENGTHS)) == [(0, 3), (4.5, 11.5), (13, 16)]


def test_the_longest_is_never_exceeded_and_what_has_no_pause_stays_whole():
    spoken = stretches(4, 0.2, 4, 0.15, 4, 0.2, 4, 1, 12)
    found = group(spoken, LENGTHS)
    assert all(one.fate or (one.end - one.start) / SECOND <= 10 for one in found)
    assert [one.fate for one in found] == ["", "", "too_long"]
    assert spans(found)[0] == (0, 8.2)


def test_a_margin_that_neighbours_share_counts_as_long_as_it_is():
    # 1.7 s and two margins of 0.2 s would do; the pauses leave 0.05 s each.
    assert grouping.fate_of(1.7, LENGTHS) == ""
    assert grouping.fate_of(1.7, LENGTHS, 0.1, 0.1) == grouping.TOO_SHORT


def test_no_speech_is_no_utterance():
    assert group([], LENGTHS) == []
