"""Corpus folders of the demo voice's clips, and an installed extension that brings a recogniser."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import soundfile

from tts_train.cli import main
from tts_train.curation.folder import CorpusFolder
from tts_train.curation.row import ClipRow

RATE = 16_000
METER = '''
import os
from pathlib import Path

from tts_train.contract import HeardText, Recogniser, hookimpl


class Meter(Recogniser):
    """Says how long a clip is, in the words of its model; nothing of a clip of less than half a second."""

    name = "meter"
    languages = frozenset({"en", "fr"})

    def __init__(self, model):
        self.model = model

    def settings(self):
        return {"model": self.model}

    def recognise(self, sound, language):
        if log := os.environ.get("METER_LOG"):
            with Path(log).open("a") as file:
                file.write(f"{sound.seconds:.2f}\\n")
            if len(Path(log).read_text().split()) == int(os.environ.get("METER_DIES_AT", "0")):
                os.kill(os.getpid(), 9)
        if sound.seconds > 60:
            raise MemoryError("too long for me")
        if sound.seconds < 0.5:
            return HeardText(text="", confidence=0.0, language=language)
        text = f"{self.model or 'about'} {sound.seconds:.1f}  seconds"
        heard = language or ("fr" if sound.seconds > 2 else "en")
        return HeardText(text=text, confidence=0.81, language=heard, language_confidence=None if language else 0.75)


@hookimpl
def tts_train_recognisers(model):
    return [Meter(model)]
'''


def install_meter(folder: Path) -> Path:
    """Leave module and metadata as pip would; returns the folder for ``sys.path``."""
    info = folder / "site" / "meter-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: meter\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[tts_train.plugins]\nmeter = meter_of_clips\n")
    (info.parent / "meter_of_clips.py").write_text(METER)
    return info.parent


def make_folder(path: Path, *rows: ClipRow) -> CorpusFolder:
    """Write a clip of quiet noise for each row, as long as the row says."""
    drawn = np.random.default_rng(0)
    for row in rows:
        (path / row.audio).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path / row.audio, drawn.normal(0, 0.05, round(row.seconds * RATE)), RATE)
    folder = CorpusFolder(path)
    folder.write(rows)
    return folder


def clip(name: str, seconds: float, **more) -> ClipRow:
    return ClipRow(audio=f"clips/{name}.wav", seconds=seconds, **more)


def transcribe(folder: CorpusFolder, capsys, *words: str) -> dict:
    """Run the command, which must succeed, and return its report."""
    capsys.readouterr()
    told = main(["corpus", "transcribe", str(folder.path), *words, "--json"])
    said = capsys.readouterr()
    assert told == 0, said.err
    return json.loads(said.out.splitlines()[-1])


def by_name(folder: CorpusFolder) -> dict[str, ClipRow]:
    return {Path(row.audio).stem: row for row in folder.rows()}
