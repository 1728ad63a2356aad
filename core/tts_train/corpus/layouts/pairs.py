"""Recordings with their text beside them: ``x.wav`` and ``x.txt``, ``x.lab`` or ``x.normalized.txt``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePath

from tts_train.corpus.layouts.base import Layout, RawRow
from tts_train.corpus.layouts.splits import no_training_part, part_of
from tts_train.corpus.rows.files import walk
from tts_train.corpus.rows.names import is_audio
from tts_train.corpus.rows.text import guess_encoding
from tts_train.corpus.rows.utterance import Rejected

SUFFIXES = (".normalized.txt", ".txt", ".lab")
"""In order of preference."""

_MAX_BYTES = 1 << 20
_NOT_TRANSCRIPTS = {
    "readme",
    "license",
    "licence",
    "copying",
    "notice",
    "speakers",
    "speaker-info",
    "chapters",
    "books",
}


class Pairs(Layout):
    """A folder, read with all its subfolders."""

    name = "pairs"
    summary = "x.wav beside x.txt, x.lab or x.normalized.txt"

    @classmethod
    def detect(cls, path: Path) -> Pairs | None:
        """Return the layout if ``path`` has it."""
        if not path.is_dir():
            return None
        layout = cls(path, path)
        # A folder of recordings alone is another fault, and said as that.
        if not any(_transcript(stem, names) for _, stems, names in layout._folders() for stem in stems):
            return None
        entries = [entry for entry in sorted(path.iterdir()) if not entry.name.startswith(".")]
        folders = [entry for entry in entries if entry.is_dir()]
        if all(part_of(folder.name) == "other" for folder in folders) and not any(is_audio(e.name) for e in entries):
            raise no_training_part(path, folders)
        return layout

    def raws(self) -> Iterator[RawRow | Rejected]:
        """Yield every row in order."""
        for folder, stems, names in self._folders():
            # LibriTTS and its like keep their parts in folders such as train-clean-100 and test-other.
            split = Path(folder).relative_to(self.path).parts[:1]
            for stem, recordings in stems.items():
                transcript = _transcript(stem, names)
                for recording in recordings:
                    row = self._pair(folder, recording, transcript)
                    yield row._replace(split=split[0]) if split and isinstance(row, RawRow) else row
            for name in sorted(names) if stems else ():
                if (stem := _stem(name)) not in stems and stem.lower() not in _NOT_TRANSCRIPTS:
                    yield Rejected(self.shown(Path(folder, name)), "missing", "a transcript without a recording")

    def _folders(self) -> Iterator[tuple[str, dict[str, list[str]], set[str]]]:
        """Yield (folder, recordings by stem, names of texts)."""
        for folder, names in walk(str(self.path)):
            stems: dict[str, list[str]] = {}
            for name in names:
                if is_audio(name):
                    stems.setdefault(PurePath(name).stem, []).append(name)
            yield folder, stems, {name for name in names if name.lower().endswith(SUFFIXES)}

    def _pair(self, folder: str, recording: str, transcript: str | None) -> RawRow | Rejected:
        origin = self.shown(Path(folder, recording))
        if transcript is None:
            return Rejected(origin, "missing_text", "no .txt, .lab or .normalized.txt of this name")
        path = Path(folder, transcript)
        try:
            # A link to a device, or a log beside a recording: neither is what somebody says.
            if not path.is_file() or path.stat().st_size > _MAX_BYTES:
                return Rejected(origin, "bad_row", f"{transcript} is no small text file")
            data = path.read_bytes()
        except OSError as error:
            return Rejected(origin, "unreadable", f"{transcript}: {error.strerror}")
        try:
            return RawRow(origin, recording, data.decode("utf-8-sig"), base=folder)
        except UnicodeDecodeError:
            return Rejected(
                origin, "text_encoding", f"{transcript} looks like {guess_encoding(data)}, which is a guess"
            )


def _transcript(stem: str, names: set[str]) -> str | None:
    exact = next((stem + suffix for suffix in SUFFIXES if stem + suffix in names), None)
    # Recorders under Windows write X.WAV and X.TXT.
    return exact or next((stem + suffix.upper() for suffix in SUFFIXES if stem + suffix.upper() in names), None)


def _stem(name: str) -> str:
    # LibriTTS keeps x.original.txt beside x.normalized.txt: it belongs to x and is no text without a recording.
    suffix = next(suffix for suffix in (".original.txt", *SUFFIXES) if name.lower().endswith(suffix))
    return name[: -len(suffix)]
