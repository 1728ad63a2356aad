"""A human voice from recordings to sound: Allison Smith's prompts, fetched with apt and never committed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.real_voices import fetch_sounds, transcripts
from tts_train.cli import main
from tts_train.recipes import find_recipe

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

CLIPS = 48
NAME = "asterisk-core-sounds-en"


@pytest.fixture(scope="module")
def sounds(tmp_path_factory) -> Path:
    """The unpacked packages: 8 kHz WAV, raw G.722 and transcripts."""
    return fetch_sounds(tmp_path_factory.mktemp("asterisk"), NAME, f"{NAME}-wav", f"{NAME}-g722")


@pytest.fixture(scope="module")
def texts(sounds) -> dict[str, str]:
    """Transcripts of sentences by file name, long enough to be worth training on."""
    return transcripts(sounds, "en", CLIPS)


@pytest.fixture(scope="module")
def voice(sounds) -> Path:
    return sounds / "asterisk" / "sounds" / "en_US_f_Allison"


def ran(capsys, *words: object) -> dict:
    assert main([*map(str, words), "--json"]) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_from_wav_recordings_to_a_spoken_sentence(voice, texts, tmp_path, capsys):
    lines = [f"{name}|{text}" for name, text in texts.items()]
    (voice / "metadata.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    checked = ran(capsys, "check", voice, "--workers", 2)
    assert checked["rows"] == len(texts) == checked["kept"] + sum(checked["dropped"].values())
    assert checked["kept"] >= 0.95 * len(texts)
    assert checked["warnings"]["low_bandwidth"] == checked["kept"], "telephone recordings are named as such"

    prepared, run = tmp_path / "prepared", tmp_path / "run"
    words = ["--corpus", voice, "--out", prepared, "--codec", "tiny", "--tokenizer", "tiny", "--workers", 2]
    made = ran(capsys, "prepare", "--backend", "orpheus", *words)
    assert made["kept"] == checked["kept"]
    again = ran(capsys, "prepare", "--backend", "orpheus", *words)
    assert (again["hash"], again["shards_written"]) == (made["hash"], 0)

    recipe = ["-c", find_recipe("orpheus", "lm-tiny"), "--data.path", prepared, "--run_dir", run]
    fitted = ran(capsys, "fit", *recipe, "--trainer.max_steps", 12, "--trainer.val_check_interval", 6)
    assert fitted["val/loss"] < 11.9, "below a uniform guess over 156,940 entries"
    scored = ran(capsys, "validate", *recipe)
    assert scored["val/loss"] == pytest.approx(fitted["val/loss"], abs=1e-5)
    assert ran(capsys, "export", run, "--format", "hf", "--out", tmp_path / "hf")["verified"] is True
    words = ["--text", "Thank you for calling.", "--out", tmp_path / "spoken.wav", "--max_new_tokens", 140]
    spoken = ran(capsys, "synth", tmp_path / "hf", *words, "--codec", "tiny", "--constrain", "slots")
    assert spoken["seconds"] > 0.08


def test_raw_g722_recordings_are_read(voice, texts, tmp_path, capsys):
    pytest.importorskip("av")
    rows = [f"{voice / name}.g722|allison|EN|{text}" for name, text in list(texts.items())[:12]]
    corpus = voice / "g722.list"
    corpus.write_text("\n".join(rows) + "\n", encoding="utf-8")
    checked = ran(capsys, "check", corpus)
    assert checked["layout"] == "list"
    assert checked["kept"] == 12
    assert list(checked["rates"]) == ["16000"]
    words = ["--corpus", corpus, "--out", tmp_path / "prepared", "--codec", "tiny", "--tokenizer", "tiny"]
    assert ran(capsys, "prepare", "--backend", "orpheus", *words)["kept"] == 12
