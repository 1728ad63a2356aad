"""A first pass over the rows of a corpus, for what no row alone can tell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from tts_train.corpus.files import AudioFinder, Found
from tts_train.corpus.layouts.base import Layout, RawRow
from tts_train.corpus.layouts.splits import part_of, part_of_audio
from tts_train.corpus.names import bare_name, plain_name
from tts_train.corpus.text import clean_text, has_words

Key: TypeAlias = "tuple[str, float | None, float | None]"


@dataclass(frozen=True)
class Ahead:
    """What reading ahead has found; only hashes of rows are held."""

    total: int | None = None
    """Number of rows; None if they were not counted."""
    conflicts: frozenset[int] = frozenset()
    """Hashes of recordings (or stretches) that rows give several texts."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Rows by the name of their part of the data set, for the parts beside ``train`` that are not to be read."""

    def is_left_out(self, raw: RawRow) -> bool:
        """Tell whether a row belongs to a part that is not read."""
        return bool(self.left_out) and _part(raw) in self.left_out

    def is_conflict(self, raw: RawRow, finder: AudioFinder) -> bool:
        """Tell whether other rows give the same recording another text."""
        return bool(self.conflicts) and _key(raw, finder) in self.conflicts


def read_ahead(layout: Layout, finder: AudioFinder) -> Ahead:
    """Read all rows of a layout whose rows are cheap to read; tells the finder which names end alike."""
    if not layout.replayable:
        return Ahead()
    finder.ambiguous, parts = _look_at_names(row for row in layout.raws() if isinstance(row, RawRow))
    trained = any(part_of(part) == "train" for part in parts)
    left_out = {part: count for part, count in parts.items() if trained and part_of(part) == "other"}
    ahead = Ahead(left_out=left_out)
    texts, conflicts, total = dict[int, int](), set[int](), 0
    for raw in layout.raws():
        if isinstance(raw, RawRow):
            if ahead.is_left_out(raw):
                continue
            if has_words(text := clean_text(raw.text)[0]):
                key, value = _key(raw, finder), hash(text)
                if texts.setdefault(key, value) != value:
                    conflicts.add(key)
        total += 1
    return Ahead(total, frozenset(conflicts), left_out)


def _look_at_names(rows: Iterable[RawRow]) -> tuple[frozenset[int], dict[str, int]]:
    """Return the hashes of last parts of paths that several paths share, and how many rows each part has."""
    paths, shared, parts = dict[int, int](), set[int](), dict[str, int]()
    for raw in rows:
        if isinstance(raw.audio, str):
            last, path = hash(bare_name(raw.audio)), hash(plain_name(raw.audio))
            if paths.setdefault(last, path) != path:
                shared.add(last)
        if part := _part(raw):
            parts[part] = parts.get(part, 0) + 1
    return frozenset(shared), parts


def _part(raw: RawRow) -> str:
    """The row's part of the data set: as its column says, or by the first folder of its recording."""
    if raw.split and part_of(raw.split):
        return raw.split
    first = raw.audio.replace("\\", "/").removeprefix("./").partition("/")[0] if isinstance(raw.audio, str) else ""
    return first if isinstance(raw.audio, str) and part_of_audio(raw.audio) else ""


def _key(raw: RawRow, finder: AudioFinder) -> int:
    """One number for a recording (or stretch), however its path is spelt."""
    name: str | bytes = raw.audio
    if isinstance(name, str):
        found = finder.find(name, base=raw.base)
        name = found.name if isinstance(found, Found) else name
    return hash((name, raw.start, raw.end))
