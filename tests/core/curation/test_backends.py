"""A corpus folder is what ``prepare`` of every backend reads, as it stands."""

from __future__ import annotations

import json

import pytest
import soundfile

from tts_train.cli import main
from tts_train.curation.folder import CorpusFolder
from tts_train.curation.row import ClipRow, Cut
from tts_train.demo.journey import VOICE

TEXTS = {17: "The first of two sentences.", 7: "And this is the second one."}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    found = CorpusFolder(tmp_path_factory.mktemp("corpus") / "voice")
    (found.path / "clips/session").mkdir(parents=True)
    rows = []
    for number, text in TEXTS.items():
        samples, rate = soundfile.read(VOICE / "wavs" / f"sample-{number:02d}.flac")
        samples = samples[: int(2.5 * rate)]
        soundfile.write(found.path / f"clips/session/{number}.flac", samples, rate)
        rows.append(
            ClipRow(
                audio=f"clips/session/{number}.flac", seconds=len(samples) / rate, text=text, speaker="ann",
                language="en", text_by="recogniser whisper", confidence=0.8, facts={"hypotheses": [{"text": "x"}]},
                # As slice leaves it: the clip is the stretch, and is not cut again.
                cut=Cut(recording="session.mp3", start=100.0, end=100.0 + len(samples) / rate),
            )
        )  # fmt: skip
    found.write([*rows, ClipRow(audio="clips/session/silence.flac", seconds=1.0)])
    return found.path


@pytest.mark.parametrize(
    ("backend", "options"),
    [
        ("orpheus", ("--codec", "tiny", "--tokenizer", "tiny")),
        ("gpt_sovits", ("--models", "tiny")),
        ("csm", ("--codec", "tiny", "--tokenizer", "tiny")),
    ],
)
def test_every_backend_prepares_from_a_corpus_folder(folder, backend, options, tmp_path, capsys):
    words = ["prepare", "--backend", backend, "--corpus", str(folder), "--out", str(tmp_path / "set"), *options]
    assert main([*words, "--max_dropped", "0.5", "--json"]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (told["rows"], told["kept"], told["dropped"]) == (3, 2, {"empty_text": 1})
    assert (told["speakers"], told["languages"]) == ({"ann": 2}, {"en": 2})
    assert told["hours"] == pytest.approx(sum(row.seconds for row in CorpusFolder(folder).rows()[:2]) / 3600, abs=1e-6)
    # The account names the row that is left, and the line that gives it a text.
    assert main([*words, "--max_dropped", "0", "--json"]) == 2
    assert f"Write texts with: tts-train corpus transcribe {folder}." in capsys.readouterr().err
