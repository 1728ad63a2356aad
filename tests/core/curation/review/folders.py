"""Corpus folders of the sample voice, as slicing and a recogniser leave them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import soundfile

from tts_train.cli import main
from tts_train.curation.folder import CorpusFolder, RecordingAccount
from tts_train.curation.row import ClipRow
from tts_train.demo.journey import VOICE

SENTENCES = [line.split("|")[:2] for line in (VOICE / "metadata.csv").read_text(encoding="utf-8").splitlines()]
HARD = (
    "=cmd|' /C calc'!A0",
    "</script><script>alert(1)</script><!--",
    'She said "no", and; left\twith <b>all</b> & sundry.',
    "two lines\nof text",
    "שלום \u200fעולם\u200e, hello",
    "صباح الخير، وأهلا بكم",
    "おはようございます。",
    "'=already guarded",
    "'Twas brillig",
    "- Bonjour, dit-il",
    "007",
    "May 5",
    "  blanks at both ends ",
    "TRUE",
    "1e5",
    "12,50 €",
    "naïve café, Größe, Привет",
    "\u2028 and \u0085 and \ufeff",
    "cut \ud83d short",
    "𝄞 and 👩‍🚒",
)
"""Texts that a CSV file, a spreadsheet, a script element or a text field may change."""


def make_folder(path: Path, texts: list[str] | None = None, *, count: int = 6, **values: Any) -> CorpusFolder:
    """Write a folder with real clips.

    Args:
        path: of the folder.
        texts: one for each clip; those of the sample voice where it is left out.
        count: clips, where there are no texts.
        values: of every row.
    """
    (path / "clips").mkdir(parents=True)
    rows = []
    for place, text in enumerate(texts if texts is not None else [said for _, said in SENTENCES[:count]]):
        source = VOICE / "wavs" / f"{SENTENCES[place % len(SENTENCES)][0]}.flac"
        clip = f"clips/{place:04d}.flac"
        shutil.copy(source, path / clip)
        given = {"text_by": "recogniser small", "confidence": 0.95, "speaker": "Anna", "language": "en", **values}
        rows.append(ClipRow(audio=clip, seconds=round(soundfile.info(source).duration, 3), text=text, **given))
    folder = CorpusFolder(path)
    folder.write(rows, recordings=[RecordingAccount(recording="tape.mp3", seconds=60.0, fates={"silence": 7.5})])
    return folder


def report_of(capsys, *words: object) -> dict[str, Any]:
    """Run a command and return what it reports."""
    capsys.readouterr()
    assert main([*map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def refusal_of(capsys, *words: object) -> str:
    """Run a command that is refused with exit code 2, and return what it says."""
    capsys.readouterr()
    assert main([*map(str, words)]) == 2
    return capsys.readouterr().err


def state_of(folder: CorpusFolder) -> dict[str, bytes]:
    """Return the bytes of every table of a folder."""
    return {path.name: path.read_bytes() for path in sorted(folder.path.glob("*.json*"))}
