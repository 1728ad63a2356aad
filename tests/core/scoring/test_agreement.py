"""Figures agree with public implementations; tests/core/scoring/golden.py recorded what those say.

Recorded with pysptk 1.0.1, librosa 0.11.0, pyworld 0.3.5, speechmos 0.0.1.1 and Resemblyzer 0.1.4.
"""

from __future__ import annotations

import numpy as np
import pytest

from tests.core.scoring.sounds import clip
from tts_train.contract.metric import Take
from tts_train.scoring.metrics import opinion, speaker, world
from tts_train.scoring.metrics.reference import MelCepstralDistortion, distortion
from tts_train.scoring.metrics.world import distances, warp
from tts_train.scoring.scores import estimate
from tts_train.sound import Sound

RATE = 16_000
CEPSTRUM = [-4.985673, 3.200272, 0.461087, 1.104832, -0.006458, -0.036911, -0.332416, 0.599107, 0.096203, -0.509146,
            0.244122, -0.402414, -0.060302, 0.38152, -0.468299, 0.306083, 0.118012, -0.156926, -0.044049, 0.013596,
            -0.127743, 0.174328, -0.143156, 0.127022, -0.087669]  # fmt: skip
MCD_NOISY, MCD_OTHER = 9.031758, 8.62502
DNSMOS = {"clean": (3.245438, 3.49069, 4.092305), "noisy": (2.332529, 3.460576, 2.39422)}
EMBEDDING = [0.102907, 0.0, 0.152302, 0.0, 0.0, 0.025944, 0.0, 0.011069, 0.011415, 0.0, 0.192448, 0.06534, 0.0, 0.0,
             0.014744, 0.0, 0.072399, 0.055289, 0.0, 0.037967, 0.035109, 0.003343, 0.0, 0.0, 0.0, 0.091534, 0.0, 0.0,
             0.0, 0.0, 0.149973, 0.0]  # fmt: skip


def recorded(number: int) -> np.ndarray:
    return clip(number).at(RATE)


def disturbed() -> np.ndarray:
    noise = np.random.default_rng(0).standard_normal(len(recorded(1))).astype(np.float32)
    return (recorded(1) + 0.01 * noise).astype(np.float32)


@pytest.fixture(scope="module")
def cepstra():
    if why := MelCepstralDistortion().missing():
        pytest.skip(why)
    sounds = {"one": recorded(1), "noisy": disturbed(), "other": recorded(2)}
    return {name: world.analyse_samples(sound.astype(np.float64)).cepstra for name, sound in sounds.items()}


def test_mel_cepstra_equal_those_of_sptk(cepstra):
    assert cepstra["one"][100] == pytest.approx(CEPSTRUM, abs=2e-3)


def test_distortion_equals_that_of_sptk_and_librosa(cepstra):
    assert distortion(cepstra["one"], cepstra["noisy"])[0] == pytest.approx(MCD_NOISY, abs=0.02)
    assert distortion(cepstra["one"], cepstra["other"])[0] == pytest.approx(MCD_OTHER, abs=0.02)


@pytest.mark.parametrize("name", DNSMOS)
def test_dnsmos_equals_that_of_its_package(name):
    if why := opinion.Dnsmos().missing():
        pytest.skip(why)
    sound = Sound(recorded(1) if name == "clean" else disturbed(), RATE)
    found = opinion.Dnsmos().measure(Take(sound=sound, text=""))
    figures = [found[key] for key in ("dnsmos", "dnsmos_speech", "dnsmos_background")]
    assert figures == pytest.approx(DNSMOS[name], abs=2e-3)


def test_windows_of_a_long_clip_begin_a_second_apart():
    count = {seconds: len(opinion._windows(np.ones(int(seconds * RATE), np.float32))) for seconds in (2, 10, 10.5, 12)}
    assert count == {2: 7, 10: 1, 10.5: 1, 12: 3}, "as the package counts them"


def test_embeddings_equal_those_of_resemblyzer():
    if why := speaker.SpeakerSimilarity().missing():
        pytest.skip(why)
    found = speaker.embed(recorded(1))
    assert found[:32] == pytest.approx(EMBEDDING, abs=2e-4)
    assert np.linalg.norm(found) == pytest.approx(1, abs=1e-5)


def test_the_warp_is_the_cheapest_way():
    cost = np.random.default_rng(3).random((6, 8))

    def cheapest(i: int, j: int) -> float:
        if (i, j) == (0, 0):
            return cost[0, 0]
        steps = [(i - 1, j - 1), (i - 1, j), (i, j - 1)]
        return cost[i, j] + min(cheapest(*step) for step in steps if min(step) >= 0)

    left, right = warp(cost)
    assert cost[left, right].sum() == pytest.approx(cheapest(5, 7))
    assert (left[0], right[0], left[-1], right[-1]) == (0, 0, 5, 7)
    assert set(zip(np.diff(left).tolist(), np.diff(right).tolist(), strict=True)) <= {(0, 1), (1, 0), (1, 1)}


def test_distances_are_euclidean():
    one, other = np.random.default_rng(0).random((2, 5, 3))
    assert distances(one, other)[1, 4] == pytest.approx(np.linalg.norm(one[1] - other[4]))


def test_an_interval_covers_the_mean_as_often_as_it_says():
    draws = np.random.default_rng(5)
    hits = 0
    for seed in range(200):
        found = estimate(draws.normal(3.0, 1.0, 40).tolist(), seed=seed)
        assert found is not None
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= 3.0 <= found.high
    assert 0.89 <= hits / 200 <= 0.99


def test_an_interval_repeats_and_needs_two_values():
    assert estimate([1.0, 2.0, 4.0], seed=1) == estimate([1.0, 2.0, 4.0], seed=1)
    assert estimate([], seed=0) is None
    alone = estimate([2.0], seed=0)
    assert alone is not None
    assert (alone.n, alone.mean, alone.low) == (1, 2.0, None)
