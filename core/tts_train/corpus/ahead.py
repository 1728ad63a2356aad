"""A first pass over the rows of a corpus, for what no row alone can tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tts_train.corpus.layouts.base import Layout, RawRow
from tts_train.corpus.layouts.splits import part_of, split_of
from tts_train.corpus.rows.files import AudioFinder, Found, NotFound
from tts_train.corpus.rows.names import bare_name, plain_name
from tts_train.corpus.rows.text import clean_text, has_words
from tts_train.corpus.rows.utterance import Rejected, TokenRow


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
        return bool(self.left_out) and split_of(raw) in self.left_out

    def is_conflict(self, raw: RawRow, finder: AudioFinder) -> bool:
        """Tell whether other rows give the same recording another text."""
        return bool(self.conflicts) and _key(raw, finder)[0] in self.conflicts


def read_ahead(layout: Layout, finder: AudioFinder, *, every_part: bool = False) -> Ahead:
    """Read all rows of a layout whose rows are cheap to read; tells the finder which names end alike.

    Args:
        layout: what is read.
        finder: is told which names end alike.
        every_part: leave no part of the data set out.
    """
    if not layout.replayable:
        return Ahead()
    # Before the first row is given out: a contradiction in the last row makes the first one useless.
    names, parts, texts = _Names(), dict[str, int](), _Texts(finder)
    for raw in layout.raws():
        texts.total += 1
        if isinstance(raw, RawRow):
            names.add(raw)
            texts.add(raw)
            if part := split_of(raw):
                parts[part] = parts.get(part, 0) + 1
    finder.ambiguous = frozenset(names.shared)
    trained = not every_part and any(part_of(part) == "train" for part in parts)
    # Only beside rows called train: of a list of validation rows alone nothing would be left.
    left_out = {part: count for part, count in parts.items() if trained and part_of(part) == "other"}
    if texts.lost or left_out:
        # Ends of paths can be looked for now, and rows that are not read contradict nothing.
        ahead, texts = Ahead(left_out=left_out), _Texts(finder, relocate=True)
        for raw in layout.raws():
            if not isinstance(raw, RawRow) or not ahead.is_left_out(raw):
                texts.total += 1
                texts.add(raw)
    return Ahead(texts.total, frozenset(texts.conflicts), left_out)


class _Names:
    """Finds the last parts of paths that several paths share."""

    def __init__(self) -> None:
        self.shared: set[int] = set()
        self._paths: dict[int, int] = {}

    def add(self, raw: RawRow) -> None:
        for name in (raw.audio, raw.reference):
            if name and isinstance(name, str):
                last, path = hash(bare_name(name)), hash(plain_name(name))
                if self._paths.setdefault(last, path) != path:
                    self.shared.add(last)


class _Texts:
    """Finds recordings (or stretches) with several texts."""

    def __init__(self, finder: AudioFinder, *, relocate: bool = False) -> None:
        self.conflicts: set[int] = set()
        self.lost = False
        self.total = 0
        self._finder, self._relocate = finder, relocate
        self._texts: dict[int, int] = {}

    def add(self, raw: RawRow | TokenRow | Rejected) -> None:
        if not isinstance(raw, RawRow):
            return
        key, found = _key(raw, self._finder, relocate=self._relocate)
        self.lost = self.lost or not found
        if has_words(text := clean_text(raw.text)[0]):
            value = hash(text)
            if self._texts.setdefault(key, value) != value:
                self.conflicts.add(key)


def _key(raw: RawRow, finder: AudioFinder, *, relocate: bool = True) -> tuple[int, bool]:
    """Return one number for a recording (or stretch), however its path is spelt, and whether it was found."""
    name: str | bytes = raw.audio
    found = finder.find(name, base=raw.base, relocate=relocate) if isinstance(name, str) else None
    if isinstance(found, Found):
        name = found.name
    # Python's own hash differs between processes, and these numbers never leave this one.
    return hash((name, raw.start, raw.end)), not isinstance(found, NotFound)
