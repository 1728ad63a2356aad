"""Rows of four columns with bars between: ``path|speaker|language|text``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tts_train.corpus.layouts.base import Layout, RawRow
from tts_train.corpus.text import read_lines, require_utf8
from tts_train.corpus.utterance import Rejected
from tts_train.errors import DataError


class BarList(Layout):
    """A ``.list`` file; bars in the text belong to the text."""

    name = "list"
    summary = "a .list file with rows path|speaker|language|text"

    @classmethod
    def detect(cls, path: Path) -> BarList | None:
        """Return the layout if ``path`` has it."""
        if path.is_dir():
            lists = sorted(path.glob("*.list")) or sorted(path.glob("*/*.list"))
            if len(lists) > 1:
                names = ", ".join(str(file.relative_to(path)) for file in lists[:5])
                raise DataError(f"{path} holds {len(lists)} lists ({names}). Name the one to read.")
            if not lists:
                return None
            root, path = path, lists[0]
        elif path.suffix == ".list":
            root = path.parent
        else:
            return None
        require_utf8(path)
        return cls(path, root)

    def raws(self) -> Iterator[RawRow | Rejected]:
        """Yield every row in order."""
        shown, base = self.shown(self.path), str(self.path.parent)
        for number, line in read_lines(self.path):
            parts = line.split("|", 3)
            if len(parts) < 4:
                yield Rejected(f"{shown}:{number}", "bad_row", f"{len(parts)} columns, not path|speaker|language|text")
                continue
            audio, speaker, language, text = parts
            yield RawRow(f"{shown}:{number}", audio.strip(), text, speaker, language, base=base)
