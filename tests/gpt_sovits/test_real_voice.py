"""Two human voices: an English one from recordings to sound, and a French one that is refused, row by row."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.real_voices import fetch_sounds, transcripts
from tts_train.cli import main
from tts_train.recipes import find_recipe

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

CLIPS = 24
ENGLISH, FRENCH = "asterisk-core-sounds-en", "asterisk-core-sounds-fr"


@pytest.fixture(scope="module")
def share(tmp_path_factory) -> Path:
    """The unpacked packages: 8 kHz WAV and transcripts."""
    names = (ENGLISH, f"{ENGLISH}-wav", FRENCH, f"{FRENCH}-wav")
    return fetch_sounds(tmp_path_factory.mktemp("asterisk"), *names)


def listed(share: Path, language: str, voice: str) -> Path:
    folder = share / "asterisk" / "sounds" / voice
    rows = [f"{name}.wav|{voice}|{language}|{text}" for name, text in transcripts(share, language, CLIPS).items()]
    (folder / "voice.list").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder / "voice.list"


def ran(capsys, *words: object) -> dict:
    assert main([*map(str, words), "--json"]) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_english_from_recordings_to_a_spoken_sentence(share, tmp_path, capsys):
    corpus, prepared = listed(share, "en", "en_US_f_Allison"), tmp_path / "prepared"
    made = ran(capsys, "prepare", "--backend", "gpt_sovits", "--corpus", corpus, "--out", prepared, "--models", "tiny")
    assert made["kept"] >= 0.9 * CLIPS
    assert made["languages"] == {"en": made["kept"]}
    runs = {}
    for stage, words in {"gpt": ["--trainer.max_steps", 8], "sovits": ["--trainer.max_steps", 4]}.items():
        runs[stage] = tmp_path / stage
        recipe = ["-c", find_recipe("gpt_sovits", f"{stage}-tiny"), "--data.path", prepared]
        words = [*words, "--trainer.val_check_interval", 2, "--data.batch_size", 2, "--run_dir", runs[stage]]
        fitted = ran(capsys, "fit", *recipe, *words)
        assert fitted["step"] == (8 if stage == "gpt" else 4)
    assert ran(capsys, "export", runs["gpt"], "--format", "s1", "--out", tmp_path / "a.ckpt")["verified"] is True
    assert ran(capsys, "export", runs["sovits"], "--format", "s2", "--out", tmp_path / "a.pth")["verified"] is True
    words = ["--text", "Thank you for calling.", "--out", tmp_path / "spoken.wav", "--max_new_tokens", 60]
    spoken = ran(capsys, "synth", runs["gpt"], "--sovits", tmp_path / "a.pth", *words)
    assert spoken["seconds"] > 0.08


def test_french_is_refused_with_what_can_be_done(share, tmp_path, capsys):
    corpus = listed(share, "fr", "fr_CA_f_June")
    words = ["--corpus", corpus, "--out", tmp_path / "prepared", "--models", "tiny"]
    assert main(["prepare", "--backend", "gpt_sovits", *map(str, words)]) == 2
    said = capsys.readouterr().err
    assert f"unknown_language: {CLIPS}" in said
    assert "zh, en, ja, ko, yue" in said
    assert not (tmp_path / "prepared" / "dataset.json").exists(), "there is nothing to train on"
