"""An experiment folder of earlier work: ``2-name2text.txt`` with names and texts, ``5-wav32k`` with the audio."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tts_train.corpus.layouts.base import Layout, RawRow
from tts_train.corpus.rows.text import read_lines, require_utf8
from tts_train.corpus.rows.utterance import Rejected

AUDIO = "5-wav32k"


class Experiment(Layout):
    """Rows ``name<TAB>phones<TAB>word2ph<TAB>text``; speaker and language are not in the folder."""

    name = "experiment"
    summary = "a folder with 2-name2text.txt and 5-wav32k/"

    def __init__(self, path: Path, root: Path, files: list[Path]) -> None:
        super().__init__(path, root)
        self.files = files
        for file in files:
            require_utf8(file)

    @classmethod
    def detect(cls, path: Path) -> Experiment | None:
        """Return the layout if ``path`` has it."""
        if not (path / AUDIO).is_dir():
            return None
        merged = path / "2-name2text.txt"
        # Before the parts of a job are merged each has a file of its own.
        files = [merged] if merged.is_file() else sorted(path.glob("2-name2text-*.txt"))
        return cls(path, path, files) if files else None

    def raws(self) -> Iterator[RawRow | Rejected]:
        """Yield every row in order."""
        for file in self.files:
            for number, line in read_lines(file):
                origin, parts = f"{self.shown(file)}:{number}", line.split("\t")
                if len(parts) != 4:
                    yield Rejected(origin, "bad_row", f"{len(parts)} columns, not name, phones, word2ph, text")
                    continue
                yield RawRow(origin, parts[0], parts[3], base=str(file.parent / AUDIO))
