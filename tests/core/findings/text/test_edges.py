"""Clips that are cut in a word are told; quiet edges, fades and breaths are not."""

from __future__ import annotations

import numpy as np
import pytest

from tests.core.findings.text.rows import Said, measured, sample_rows, sound_of
from tts_train.findings.measure import NotMeasured
from tts_train.findings.text.edges import CutJudge, EdgeLevels
from tts_train.findings.text.fit import TextFit
from tts_train.sound import Sound

LIMITS = {kind.name: kind.threshold for kind in CutJudge.kinds}


def told(*said: Said, by_text: bool = False) -> set[tuple[int, str]]:
    rows = measured(said, [EdgeLevels(), TextFit()] if by_text else [EdgeLevels()])
    return {(int(each.origin.partition(":")[2]) - 1, each.kind) for each in CutJudge().judge(rows, LIMITS)}


def part(place: int, start: float = 0.0, end: float = 0.0) -> Sound:
    """A clip without so many seconds of its beginning and end."""
    sound = sound_of(place)
    rate = sound.sample_rate
    return Sound(sound.samples[round(start * rate) : len(sound.samples) - round(end * rate)], rate)


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return [row.text for row in sample_rows(12)]


def test_whole_clips_are_not_cut(texts):
    assert told(*(Said(sound_of(place), text) for place, text in enumerate(texts))) == set()


def test_clips_without_their_first_and_last_part_are_cut(texts):
    # 0.1 s of margin, and 0.3 s of speech.
    both = {(place, kind) for place in range(8) for kind in ("cut_start", "cut_end")}
    found = told(*(Said(part(place, 0.42, 0.42), texts[place]) for place in range(8)), by_text=True)
    assert len(found & both) >= 15


def test_sounds_of_the_text_that_are_not_heard_tell_a_cut_at_a_quiet_place(texts):
    sound = part(1, 0.4)
    faded = sound.samples.copy()
    faded[:800] = 0
    said = Said(Sound(faded, sound.sample_rate), texts[1])
    assert told(said) == set()
    assert (0, "cut_start") in told(said, by_text=True)


def test_noise_and_a_breath_at_the_edge_are_no_cut(texts):
    sound = sound_of(0)
    noise = np.random.default_rng(1).normal(0, 1, len(sound.samples)).astype(np.float32)
    loud = float(np.sqrt(np.mean(np.square(sound.samples))))
    # Noise at 30 dB below the voice, a breath at 25 dB below it.
    noisy = sound.samples + noise * loud * 10 ** (-30 / 20)
    noisy[: sound.sample_rate // 10] += noise[: sound.sample_rate // 10] * loud * 10 ** (-25 / 20)
    assert told(Said(Sound(noisy, sound.sample_rate), texts[0])) == set()


def test_a_tenth_of_a_second_has_no_edges():
    with pytest.raises(NotMeasured, match="too short"):
        measured([Said(Sound(np.zeros(1600, np.float32), 16_000), "Hello")], [EdgeLevels()])
