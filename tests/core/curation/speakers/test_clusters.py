"""Clusters of vectors, as by searching for the best pair each time; what becomes of few and of short clips."""

from __future__ import annotations

import numpy as np
import pytest

from tts_train.curation.speakers import clusters
from tts_train.curation.speakers.clusters import by_size, cluster
from tts_train.curation.speakers.grouping import NOBODY, find_voices, likeness, typical
from tts_train.curation.speakers.voices import Embedding

EMBEDDING = Embedding(name="made up", model=None, join=0.7, alike=0.7, alike_short=0.5, certain=0.9, enough=1.6)


def voices(sizes, *, spread=0.02, seed=0, width=64):
    """Vectors around random directions, and whose they are."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(len(sizes), width))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    whose = np.repeat(np.arange(len(sizes)), sizes)
    found = centres[whose] + random.normal(0, spread, (len(whose), width))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32), whose


def slow(vectors, least):
    """Join the best pair again and again, their likeness the mean over all pairs between them."""
    groups = [[at] for at in range(len(vectors))]
    while len(groups) > 1:
        pairs = [(one, other) for one in range(len(groups)) for other in range(one)]
        means = [float((vectors[groups[one]] @ vectors[groups[other]].T).mean()) for one, other in pairs]
        best = int(np.argmax(means))
        if means[best] < least:
            break
        one, other = pairs[best]
        groups[other] += groups.pop(one)
    labels = np.zeros(len(vectors), int)
    for number, group in enumerate(groups):
        labels[group] = number
    return by_size(labels)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("least", [0.2, 0.5, 0.8])
def test_chains_find_what_searching_finds(seed, least):
    vectors, _ = voices([9, 7, 5, 3], spread=0.12, seed=seed)
    np.testing.assert_array_equal(cluster(vectors, least=least), slow(vectors, least))


def test_two_levels_find_the_same_voices(monkeypatch):
    vectors, whose = voices([120, 80, 40, 5], spread=0.03, seed=3)
    mixed = np.random.default_rng(1).permutation(len(whose))
    exact = cluster(vectors[mixed], least=0.6)
    monkeypatch.setattr(clusters, "MOST_AT_ONCE", 60)
    monkeypatch.setattr(clusters, "_BATCH", 50)
    np.testing.assert_array_equal(cluster(vectors[mixed], least=0.6), exact)
    assert len(set(zip(exact.tolist(), whose[mixed].tolist(), strict=True))) == 4


def test_so_many_as_are_asked_for():
    vectors, whose = voices([20, 20, 20], seed=4)
    assert len(set(cluster(vectors, least=0.7, count=2).tolist())) == 2
    assert len(set(cluster(vectors, least=0.7, count=3).tolist())) == len(set(whose))
    assert len(set(cluster(vectors, least=0.7, count=99).tolist())) == len(vectors)
    assert cluster(vectors[:0], least=0.7).shape == (0,)
    assert cluster(vectors[:1], least=0.7).tolist() == [0]


def test_the_largest_cluster_is_first():
    assert by_size(np.array([5, 2, 2, 9, 2, 9])).tolist() == [2, 0, 0, 1, 0, 1]


def test_few_clips_are_outliers_and_short_ones_go_to_the_nearest_voice():
    vectors, whose = voices([30, 10, 2], spread=0.03, seed=5)
    speech = np.full(len(whose), 3.0)
    speech[[0, 30]] = 0.5
    found = find_voices(vectors, speech, EMBEDDING)
    assert found.count == 2
    assert found.labels.tolist() == [0] * 30 + [1] * 10 + [NOBODY] * 2
    # Of one voice alone, however few clips, nothing is an outlier.
    assert find_voices(vectors[-2:], speech[-2:], EMBEDDING).labels.tolist() == [0, 0]
    # Words alone: nothing has enough speech, and all of it is used.
    assert find_voices(vectors, np.full(len(whose), 0.4), EMBEDDING).count == 2
    assert NOBODY not in find_voices(vectors, speech, EMBEDDING, count=2).labels


def test_likeness_leaves_the_clip_itself_out():
    vectors = np.eye(4, dtype=np.float32)[[0, 0, 0, 1]]
    like = likeness(vectors, ["a", "a", "b", None])
    np.testing.assert_allclose(like[:2], [1.0, 1.0])
    assert np.isnan(like[2:]).all()
    np.testing.assert_allclose(likeness(vectors, ["a", None, None, "a"])[[0, 3]], [0.0, 0.0])


def test_typical_clips_are_like_the_voice_and_long():
    vectors, whose = voices([10, 4], spread=0.02, seed=6)
    speech = np.linspace(2, 9, len(whose))
    found = find_voices(vectors, speech, EMBEDDING)
    chosen = typical(vectors, found, speech, 0)
    assert len(chosen) == 3
    assert {int(whose[at]) for at in chosen} == {0}
