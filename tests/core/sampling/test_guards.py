"""Guards: loops of all kinds are found, and natural speech has none."""

from __future__ import annotations

import numpy as np
import pytest

from tests.core.scoring.sounds import TEXTS, VOICE, clip
from tts_train.contract.jobs import Drawn
from tts_train.sampling.guards import guard, pace_ratios, repetition
from tts_train.sound import Sound, read_sound
from tts_train_orpheus.codec.snac import load_codec


def natural(count, *, seed=0, codes=1000):
    return np.random.default_rng(seed).integers(codes, size=count).tolist()


@pytest.mark.parametrize("rate", [12.5, 25.0, 50.0])
@pytest.mark.parametrize(("period", "times"), [(0.4, 5), (1.0, 4), (2.0, 3), (0.1, 20)])
def test_a_phrase_that_is_said_again_and_again_is_a_loop(rate, period, times):
    before, phrase = natural(round(4 * rate)), natural(max(2, round(period * rate)), seed=1)
    looped = repetition(before + phrase * times, frames_per_second=rate)
    assert looped == pytest.approx(len(phrase) * times / (len(before) + len(phrase) * times))


@pytest.mark.parametrize("rate", [12.5, 25.0, 50.0])
def test_what_comes_twice_is_none_and_neither_is_a_pause(rate):
    phrase, pause = natural(round(rate), seed=1), [7] * round(rate)
    assert repetition(natural(40) + phrase + natural(30, seed=2) + phrase, frames_per_second=rate) == 0
    assert repetition(pause + natural(40) + pause + natural(40, seed=3) + pause, frames_per_second=rate) == 0
    after = [number for seed in range(4) for number in [*pause, 3, *natural(20, seed=seed)]]
    assert repetition(after, frames_per_second=rate) == 0, "the same sound behind each pause"
    drone = [7] * round(3 * rate)
    assert repetition(natural(40) + drone, frames_per_second=rate) == pytest.approx(len(drone) / (40 + len(drone)))


def test_few_frames_and_none():
    assert repetition([], frames_per_second=12.5) == 0
    assert repetition([3], frames_per_second=12.5) == 0


PACES = {"fast": 0.05, "slow": 0.1}
"""Seconds a letter of two speakers."""


def test_natural_speech_has_no_loops_and_no_long_silence():
    import torch

    codec = load_codec("tiny")
    for name in sorted(TEXTS):
        sound = read_sound(VOICE / "wavs" / f"{name}.flac")
        codes = codec.encode([torch.from_numpy(sound.at(codec.sample_rate).copy())])[0][0]
        figures = guard(Drawn(sound=sound, frames=codes.tolist(), ended=True))
        assert figures["repetition"] == 0, name
        assert figures["long_silence"] == 0, name
        assert figures["stop"] == 100
        assert 0 < figures["speech_seconds"] <= sound.seconds


def test_silence_counts_from_its_second_second_on():
    sound = clip(1)
    quiet = np.zeros(round(2.5 * sound.sample_rate), np.float32)
    longer = Sound(np.concatenate([sound.samples, quiet, sound.samples]), sound.sample_rate)
    figures = guard(Drawn(sound=longer, frames=natural(60), ended=False))
    assert figures["long_silence"] == pytest.approx(1.5, abs=0.6)
    assert figures["stop"] == 0


def test_a_skip_is_seen_where_no_recording_tells_the_length():
    rows = [(f"t{number}", "a" * (20 + number), 2.0 + 0.1 * number) for number in range(12) for _ in range(4)]
    ids, texts, seconds = (list(column) for column in zip(*rows, strict=True))
    seconds[5] = 0.5 * seconds[5]
    seconds[9] = None
    about = (ids, texts, [None] * 48, ["en"] * 48, seconds)
    ratios = pace_ratios(*about, [True] * 48)
    assert ratios[5] == pytest.approx(0.5, abs=0.05)
    assert ratios[9] is None
    assert all(0.9 < ratio < 1.1 for row, ratio in enumerate(ratios) if row not in (5, 9))
    assert pace_ratios(*about, [False] * 48) == [None] * 48, "none says what is usual"


def test_short_texts_are_held_against_short_ones():
    """Half a second is lost to each text, so that a short one takes more time a letter."""
    sizes = [*range(5, 25), *range(60, 120)]
    ids = [f"t{size}" for size in sizes]
    nobody = [None] * len(sizes)
    ratios = pace_ratios(
        ids, ["a" * size for size in sizes], nobody, nobody, [0.5 + 0.06 * n for n in sizes], [True] * len(sizes)
    )
    assert all(0.8 < ratio < 1.25 for ratio in ratios)


def test_a_speaker_is_held_against_their_own_pace():
    """The slow speaker takes twice as long for each text, and the fast one says as many."""
    rows = [(f"{name}{size}", "a" * size, name, pace * size) for size in range(20, 40) for name, pace in PACES.items()]
    ids, texts, speakers, seconds = (list(column) for column in zip(*rows, strict=True))
    ratios = pace_ratios(ids, texts, speakers, ["en"] * len(ids), seconds, [True] * len(ids))
    assert ratios == pytest.approx([1.0] * len(ids))
