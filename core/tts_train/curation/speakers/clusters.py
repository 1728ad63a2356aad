"""Clusters of voices: agglomerative, average linkage on the cosine; exact for thousands, in two levels for more."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Vectors: TypeAlias = "NDArray[np.float32]"
Weights: TypeAlias = "NDArray[np.float64]"
Labels: TypeAlias = "NDArray[np.int64]"

MOST_AT_ONCE = 4000
"""Items whose similarities are held at once: 64 MB of them."""
_BATCH = 2000
_TIGHT = 0.9
"""Cosine from which on clips of a batch are one voice for certain, and are clustered as one thing from then on."""
_LOOSER = 0.05


def cluster(vectors: Vectors, *, least: float, count: int | None = None) -> Labels:
    """Return the number of each vector's cluster, from 0, the largest cluster first.

    Average linkage (Sokal and Michener 1958): the likeness of two clusters is the mean cosine of all pairs between
    them, which for vectors of length 1 is the product of their means.

    Args:
        vectors: (clips, size), each of length 1.
        least: clusters that are less alike are not joined.
        count: how many clusters to make, whatever ``least`` says; None follows ``least``.
    """
    if not len(vectors):
        return np.zeros(0, np.int64)
    means: Vectors = vectors.astype(np.float32)
    weights: Weights = np.ones(len(vectors))
    labels: Labels = np.arange(len(vectors))
    tight = _TIGHT
    while len(means) > max(MOST_AT_ONCE, count or 0):
        before = len(means)
        means, weights, labels = _condensed(means, weights, labels, tight)
        # Voices that are all different condense to nothing: the next round asks for less.
        tight -= _LOOSER if len(means) > 0.7 * before else 0.0
    merges = sorted(_merges(means, weights), key=lambda merge: -merge[0])
    wanted = len(means) - min(count, len(means)) if count else sum(merge[0] >= least for merge in merges)
    joined = _joined(len(means), merges[:wanted])
    return by_size(joined[labels])


def by_size(labels: Labels) -> Labels:
    """Number clusters anew from 0, the largest first; of equal ones that of the first clip."""
    names, first, sizes = np.unique(labels, return_index=True, return_counts=True)
    order = np.lexsort((first, -sizes))
    place = np.empty(len(names), np.int64)
    place[order] = np.arange(len(names))
    found: Labels = place[np.searchsorted(names, labels)]
    return found


def _condensed(means: Vectors, weights: Weights, labels: Labels, tight: float) -> tuple[Vectors, Weights, Labels]:
    """Join what is alike within batches; the weighted means lose nothing of what average linkage asks for."""
    new_means, new_weights, moved = [], [], np.empty(len(means), np.int64)
    total = 0
    for start in range(0, len(means), _BATCH):
        part, weight = means[start : start + _BATCH], weights[start : start + _BATCH]
        merges = [merge for merge in _merges(part, weight) if merge[0] >= tight]
        own = _joined(len(part), merges)
        size = int(own.max()) + 1
        summed, heavy = np.zeros((size, part.shape[1])), np.zeros(size)
        np.add.at(summed, own, part * weight[:, None])
        np.add.at(heavy, own, weight)
        new_means.append(summed / heavy[:, None])
        new_weights.append(heavy)
        moved[start : start + _BATCH] = own + total
        total += size
    return np.concatenate(new_means).astype(np.float32), np.concatenate(new_weights), moved[labels]


def _merges(means: Vectors, weights: Weights) -> Iterator[tuple[float, int, int]]:
    """Yield (likeness, one, other) of every merge of the whole tree, by chains of nearest neighbours.

    Such a chain (Benzecri 1982; Murtagh 1983) finds the same tree as searching for the best pair each time, in O(n^2),
    since joining two clusters brings no third one nearer to them than it was to one of the two.
    """
    count = len(means)
    like = (means @ means.T).astype(np.float32)
    np.fill_diagonal(like, -np.inf)
    size = weights.astype(np.float64).copy()
    alive = np.ones(count, bool)
    chain: list[int] = []
    for _ in range(count - 1):
        if not chain:
            chain.append(int(np.argmax(alive)))
        while True:
            last = chain[-1]
            nearest = int(np.argmax(like[last]))
            # Ties go back the way they came, or a chain could run in a circle.
            if len(chain) > 1 and like[last, chain[-2]] >= like[last, nearest]:
                nearest = chain[-2]
                break
            chain.append(nearest)
        one, other = chain.pop(), chain.pop()
        yield float(like[one, other]), one, other
        row = (size[one] * like[one] + size[other] * like[other]) / (size[one] + size[other])
        row[one] = row[other] = -np.inf
        size[one] += size[other]
        like[one], like[:, one] = row, row
        like[other], like[:, other] = -np.inf, -np.inf
        alive[other] = False


def _joined(count: int, merges: list[tuple[float, int, int]]) -> Labels:
    """Return a number from 0 for each item, the same for items that merges bring together."""
    parent = np.arange(count)

    def root(item: int) -> int:
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = int(parent[item])
        return item

    for _, one, other in merges:
        parent[root(other)] = root(one)
    _, numbers = np.unique([root(item) for item in range(count)], return_inverse=True)
    found: Labels = numbers.astype(np.int64)
    return found
