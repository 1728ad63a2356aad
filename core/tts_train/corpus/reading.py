"""What the columns of a corpus were taken for, with an example row, told once."""

from __future__ import annotations

from logging import getLogger
from os import path as osp
from pathlib import Path

from tts_train.corpus.layouts.base import Layout, RawRow
from tts_train.corpus.rows.files import AUDIO_FOLDERS
from tts_train.corpus.rows.utterance import Rejected, Utterance

_log = getLogger(__name__)
_TABLES = 3
_FOLDERS = 8


class Reading:
    """Watches the rows of a corpus and says how they were read, so that a column that is taken wrongly is seen."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._root = layout.root.resolve()
        self._example: RawRow | None = None
        self._folders: set[str] = set()
        self._speaks = False
        self._kept = False
        self._told = False

    def add(self, raw: RawRow, row: Utterance | Rejected) -> None:
        """Look at a row as it stands and as it was built."""
        if self._told:
            return
        # The first row that is kept shows more than the first one, which may be the one that is wrong.
        if self._example is None or (isinstance(row, Utterance) and not self._kept):
            self._example = raw
        if isinstance(row, Utterance):
            self._kept = True
            self._speaks = self._speaks or row.speaker is not None
            # Only until it is clear that there are several: a corpus may have a folder for each recording.
            if not isinstance(row.audio, bytes) and not self._speaks and len(self._folders) < 1000:
                self._folders.add(osp.dirname(row.audio))  # noqa: PTH120 - a million rows pass here

    def tell(self) -> None:
        """Say it, after the first time that all rows were read."""
        if self._told:
            return
        self._told = True
        for where, columns in list(self._layout.taken.items())[:_TABLES]:
            _log.info("Columns of %s: %s", where, columns)
        if (more := len(self._layout.taken) - _TABLES) > 0:
            _log.info("and of %d more tables.", more)
        if self._example is not None:
            _log.info("A row, %s: %s", self._example.origin, _as_read(self._example))
        above = [_folder_above(Path(folder), self._root) for folder in self._folders]
        names = sorted({name for name, _ in above})
        if len(names) > 1 and "" not in names and not self._speaks:
            _log.warning(
                "No speaker is named, and the recordings lie in %d folders (%s%s). If a folder holds one speaker, say "
                "so: --corpus_format %s",
                len(names),
                ", ".join(names[:_FOLDERS]),
                " …" if len(names) > _FOLDERS else "",
                " or ".join(sorted({form for _, form in above})),
            )


def _folder_above(folder: Path, root: Path) -> tuple[str, str]:
    """Return the name of the folder that may be a speaker's, and how to say so; no name for recordings at the root."""
    parts = folder.relative_to(root).parts if folder.is_relative_to(root) else folder.parts
    if parts and parts[-1].lower() in AUDIO_FOLDERS:
        return "".join(parts[-2:-1]), "speaker/-/audio"
    return "".join(parts[-1:]), "speaker/audio"


def _as_read(raw: RawRow) -> str:
    audio = f"{len(raw.audio)} bytes of audio" if isinstance(raw.audio, bytes) else f"audio {_short(raw.audio)}"
    stretch = f", from {raw.start or 0:g} s" if raw.start is not None or raw.end is not None else ""
    named = {"text": raw.text, "speaker": raw.speaker, "language": raw.language, "instruct": raw.instruct}
    named |= {"reference": raw.reference if isinstance(raw.reference, str) else None}
    return f"{audio}{stretch}, " + ", ".join(
        f"{key} {_short(value)}" for key, value in named.items() if value is not None
    )


def _short(value: str) -> str:
    shown = value.strip()
    shown = shown if len(shown) <= 60 else shown[:59] + "…"
    return repr(shown)
