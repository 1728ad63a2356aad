"""Which rows must stay in one part of a split: neighbours in a recording, and texts that are nearly the same."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Iterator, Sequence
from unicodedata import normalize

import xxhash

from tts_train.curation.row import ClipRow

_LEAST_WORDS = 4
"""Shorter texts are not compared: ``Yes.`` in two parts teaches nobody the test."""
_WORDS = re.compile(r"\w+")
_WIDE = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
"""Scripts that put no blanks between words: each letter counts as one."""


class Groups:
    """Brings numbers from 0 together that share something."""

    def __init__(self, count: int) -> None:
        self._parent = list(range(count))
        self._seen: dict[Hashable, int] = {}

    def share(self, item: int, what: Hashable) -> None:
        """Bring an item together with all others that share this."""
        first = self._seen.setdefault(what, item)
        self._parent[self._root(item)] = self._root(first)

    def found(self) -> list[list[int]]:
        """Return the groups, each in order, by their first items."""
        groups: dict[int, list[int]] = {}
        for item in range(len(self._parent)):
            groups.setdefault(self._root(item), []).append(item)
        return list(groups.values())

    def _root(self, item: int) -> int:
        while self._parent[item] != item:
            # Halved on the way, so that a chain of a million rows is walked once.
            self._parent[item] = self._parent[self._parent[item]]
            item = self._parent[item]
        return item


def words_of(text: str) -> tuple[str, ...]:
    """Return the words of a text without marks, letter case and width, those of a script without blanks by letter."""
    # NFKC: full-width letters and ligatures are read aloud as the plain ones are.
    found: list[str] = []
    for word in _WORDS.findall(normalize("NFKC", text).casefold()):
        found += list(word) if _WIDE.search(word) else [word]
    return tuple(found)


def share_texts(groups: Groups, texts: Iterable[str], *, near: bool = True) -> None:
    """Bring items together whose texts are the same; ``near``: or differ in one word, put in, left out or another."""
    for item, text in enumerate(texts):
        words = words_of(text)
        if len(words) < _LEAST_WORDS:
            continue
        # Two texts that differ in one word have a text in common that lacks it.
        for key in (_key(words), *(map(_key, _one_less(words)) if near else ())):
            groups.share(item, key)


def _key(words: tuple[str, ...]) -> bytes:
    # A hash: a text of sixty words has as many texts that lack one, which are gigabytes for a hundred thousand rows.
    return xxhash.xxh3_128_digest("\0".join(words).encode())


def _one_less(words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    if len(words) > _LEAST_WORDS:
        yield from (words[:at] + words[at + 1 :] for at in range(len(words)))


def share_recordings(groups: Groups, rows: Sequence[ClipRow], *, block: float | None) -> None:
    """Bring clips of one recording together, or those of one stretch of it.

    Args:
        groups: of the rows.
        rows: the clips.
        block: seconds of a stretch; None takes whole recordings.
    """
    for item, row in enumerate(rows):
        # A clip that was a recording of its own has no neighbours.
        if row.cut is not None:
            stretch = None if block is None else int(row.cut.start // block)
            groups.share(item, ("recording", row.cut.recording, stretch))
