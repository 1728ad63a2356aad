"""From vectors to voices: which clips are one speaker, which are nobody's, and how like its speaker each clip is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tts_train.curation.speakers.clusters import Labels, Vectors, by_size, cluster
from tts_train.curation.speakers.voices import Embedding

NOBODY = -1
_LEAST_CLIPS = 3
"""Fewer clips are outliers beside a voice, not a second one: a laugh, a shout, a bad line."""


@dataclass(frozen=True)
class Voices:
    """Clusters of clips."""

    labels: Labels
    """(clips,): from 0, the largest cluster first; -1 for clips that are like none."""
    means: Vectors
    """(clusters, size), each of length 1."""

    @property
    def count(self) -> int:
        """How many clusters there are."""
        return len(self.means)


def find_voices(
    vectors: Vectors, speech: NDArray[np.float64], embedding: Embedding, *, count: int | None = None
) -> Voices:
    """Return the clusters: made of the clips with enough speech, and the others put to the nearest one.

    Args:
        vectors: (clips, size) of length 1.
        speech: (clips,) seconds.
        embedding: says how alike two of one voice are.
        count: how many voices there are; None finds out.
    """
    sure = speech >= embedding.enough
    # A corpus of words has no clip with enough; its clips are then all that there is.
    if sure.sum() < max(_LEAST_CLIPS, count or 0):
        sure = np.ones(len(vectors), bool)
    labels = np.full(len(vectors), NOBODY)
    labels[sure] = cluster(vectors[sure], least=embedding.join, count=count)
    like = vectors @ _means(vectors, labels).T
    # A word goes to the nearest voice, one with a single sentence too: it may be the only other clip of that voice.
    near = (like.max(axis=1) >= embedding.alike_short) | (count is not None)
    labels[~sure] = np.where(near, like.argmax(axis=1), NOBODY)[~sure]
    if count is None:
        labels = _without_few(labels, like, embedding)
    return Voices(labels, _means(vectors, labels))


def _without_few(labels: Labels, like: NDArray[np.float32], embedding: Embedding) -> Labels:
    """Take clusters of few clips apart: their clips are another voice's if that is certain, else nobody's."""
    sizes = np.bincount(labels[labels >= 0], minlength=like.shape[1])
    few = np.flatnonzero(sizes < _LEAST_CLIPS)
    # Where every cluster is that small, size says nothing about who is an outlier.
    if len(few) == len(sizes):
        return labels
    # More than a word needs: these were clustered apart, so that only what is clearly alike goes back.
    others = np.where(np.isin(np.arange(len(sizes)), few)[None], -np.inf, like)
    back = np.where(others.max(axis=1) >= embedding.certain, others.argmax(axis=1), NOBODY)
    kept = np.where(np.isin(labels, few), back, labels)
    known = kept >= 0
    kept[known] = by_size(kept[known])
    return kept


def _means(vectors: Vectors, labels: Labels) -> Vectors:
    found = [vectors[labels == label].mean(axis=0) for label in range(int(labels.max(initial=-1)) + 1)]
    if not found:
        return np.zeros((0, vectors.shape[1]), np.float32)
    stacked = np.stack(found)
    means: Vectors = (stacked / np.maximum(np.linalg.norm(stacked, axis=1, keepdims=True), 1e-8)).astype(np.float32)
    return means


def likeness(vectors: Vectors, groups: Sequence[str | None]) -> NDArray[np.float64]:
    """Return how like the mean of its group's other clips each clip is; NaN for clips that are alone or in none."""
    found = np.full(len(vectors), np.nan)
    held = np.array([group if group is not None else "" for group in groups])
    for group in {group for group in groups if group is not None}:
        here = held == group
        if here.sum() < 2:
            continue
        # Without itself: in a small group a clip would be like itself.
        others = vectors[here].sum(axis=0)[None] - vectors[here]
        length = np.maximum(np.linalg.norm(others, axis=1), 1e-8)
        found[here] = (vectors[here] * others).sum(axis=1) / length
    return found


def typical(vectors: Vectors, voices: Voices, speech: NDArray[np.float64], label: int, count: int = 3) -> list[int]:
    """Return the clips that are most like a voice, long ones before short ones of the same likeness."""
    here = np.flatnonzero(voices.labels == label)
    # To two decimals, since a person is to hear a voice, and hears it better in a longer clip.
    like = np.round(vectors[here] @ voices.means[label], 2)
    return [int(index) for index in here[np.lexsort((-speech[here], -like))][:count]]
