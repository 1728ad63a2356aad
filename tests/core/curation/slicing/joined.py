"""Recordings for tests: clips of the sample voice, joined with pauses, and where each of them was put."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from tts_train.cli import main
from tts_train.curation.folder import CorpusFolder
from tts_train.demo.journey import VOICE

RATE = 24_000


@dataclass
class Said:
    """One clip of a recording; seconds without the quiet at its ends."""

    start: float
    end: float
    text: str


def clips(count: int, first: int = 0) -> list[tuple[np.ndarray, str]]:
    """Return sounds, without the quiet at their ends, and texts."""
    found = []
    for line in (VOICE / "metadata.csv").read_text(encoding="utf-8").splitlines()[first : first + count]:
        name, text = line.split("|")[0], line.split("|")[-1]
        path = next((VOICE / "wavs").glob(f"{Path(name).stem}.*"))
        sound, rate = soundfile.read(path, dtype="float32")
        assert rate == RATE
        loud = np.flatnonzero(np.abs(sound) > 0.01 * np.abs(sound).max())
        found.append((sound[loud[0] : loud[-1] + 1], text))
    return found


def joined(count: int, *, pause: float = 1.2, noise: float = 0.0, first: int = 0) -> tuple[np.ndarray, list[Said]]:
    """Return one sound, and what is said where."""
    parts, said, at = [np.zeros(int(pause * RATE), np.float32)], [], pause
    for sound, text in clips(count, first):
        said.append(Said(at, at + len(sound) / RATE, text))
        parts += [sound, np.zeros(int(pause * RATE), np.float32)]
        at += (len(sound) + int(pause * RATE)) / RATE
    whole = np.concatenate(parts)
    return whole + np.random.default_rng(0).normal(0, noise, len(whole)).astype(np.float32), said


def write(path: Path, sound: np.ndarray, rate: int = RATE, **options) -> Path:
    """Write a recording."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, sound, rate, **options)
    return path


def cut(capsys, source: Path, out: Path, *words: str) -> dict:
    """Run the command and return its report."""
    code = main(["corpus", "slice", str(source), "--out", str(out), *map(str, words), "--json"])
    told = capsys.readouterr()
    assert code == 0, told.err
    report = json.loads(told.out.splitlines()[-1])
    report["told"] = told.err
    return report


def refused(capsys, source: Path, out: Path, *words: str) -> str:
    """Run the command, which must end with 2, and return what it says."""
    assert main(["corpus", "slice", str(source), "--out", str(out), *map(str, words)]) == 2
    return capsys.readouterr().err


def require_whole(out: Path, lengths: Sequence[int], rate: int = RATE) -> None:
    """Require that the ledger's seconds are those of the recordings, to the sample."""
    folder = CorpusFolder.open(out)
    rows = folder.rows()
    for one in folder.recordings():
        kept = [row.seconds for row in rows if row.cut and row.cut.recording == one.recording]
        samples = [seconds * rate for seconds in (*kept, *one.fates.values())]
        assert all(abs(each - round(each)) < 1e-3 for each in samples)
        assert sum(map(round, samples)) == round(one.seconds * rate)
    assert sorted(round(one.seconds * rate) for one in folder.recordings() if not one.refused) == sorted(lengths)
    for row in rows:
        assert soundfile.info(folder.clip(row)).frames == round(row.seconds * rate)
