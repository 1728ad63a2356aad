"""Find texts that are nearly the same among very many, without comparing each with each.

MinHash (Broder, 1997, "On the resemblance and containment of documents"): the smallest hashes of a text's groups of
letters agree with another text's as often as the two share such groups. Texts that agree in a band of hashes are
compared in full.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import xxhash
from numpy.typing import NDArray

_GROUP = 5
_BANDS, _ROWS = 16, 4
"""Two texts that share 80 % of their groups are missed once in 4,600 times: (1 - 0.8^4)^16."""
_FACTORS = np.random.default_rng(1997).integers(1, 2**63, size=(_BANDS * _ROWS, 1), dtype=np.uint64) * 2 + 1
# A set of thousands of alike texts would be compared each with each.
_MOST_COMPARED = 50


def most_alike(texts: Sequence[str]) -> dict[int, tuple[int, float]]:
    """Return for each text the earlier one that is most like it, and the share of groups of letters that both have.

    Args:
        texts: in lower case, without signs.

    Returns:
        By place in ``texts``: the other's place and the share, 0 to 1; a text that resembles none is left out.
    """
    first: dict[str, int] = {}
    found: dict[int, tuple[int, float]] = {}
    for place, text in enumerate(texts):
        # The same text needs no search, however often it comes.
        if (before := first.setdefault(text, place)) != place and text:
            found[place] = (before, 1.0)
    groups = {place: _groups(text) for text, place in first.items() if text}
    buckets: dict[tuple[int, bytes], list[int]] = {}
    for place in sorted(groups):
        candidates: set[int] = set()
        for key in _bands(groups[place]):
            bucket = buckets.setdefault(key, [])
            candidates |= set(bucket[-_MOST_COMPARED:])
            bucket.append(place)
        shares = {other: _share(groups[place], groups[other]) for other in sorted(candidates)}
        if shares:
            best = max(shares, key=shares.__getitem__)
            found[place] = (best, shares[best])
    return found


def _groups(text: str) -> frozenset[str]:
    return frozenset(text[start : start + _GROUP] for start in range(max(1, len(text) - _GROUP + 1)))


def _share(one: frozenset[str], other: frozenset[str]) -> float:
    return len(one & other) / len(one | other)


def _bands(groups: frozenset[str]) -> Iterator[tuple[int, bytes]]:
    hashes = np.array([xxhash.xxh3_64_intdigest(group.encode("utf-8", "surrogatepass")) for group in groups], np.uint64)
    least = _mixed(hashes).min(axis=1)
    for band in range(_BANDS):
        yield band, least[band * _ROWS : (band + 1) * _ROWS].tobytes()


def _mixed(hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return other hashes of the same things, (64, things): each odd factor gives another order."""
    with np.errstate(over="ignore"):
        mixed = hashes[None, :] * _FACTORS
    # The high half depends on all bits of the hash, the low one only on its low bits.
    return np.asarray(mixed >> np.uint64(32))
