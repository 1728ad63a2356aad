"""Qwen3-TTS keeps every promise of a backend, on tones with a text."""

from __future__ import annotations

import json

import pytest

from tests.families.pairs import taken
from tests.qwen3_tts.recordings import prepare, texts, write_rows
from tts_train.checking import check_training
from tts_train.cli import main
from tts_train.testing import check_backend
from tts_train_qwen3_tts.model import QWEN3_TTS
from tts_train_qwen3_tts.stage import (
    Qwen3TTSData,
    Qwen3TTSModule,
    Qwen3TTSPairs,
    Qwen3TTSPreference,
    Qwen3TTSPrompts,
    Qwen3TTSReinforce,
)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("qwen3")


@pytest.fixture(scope="module")
def prepared(home):
    rows = texts(6)
    for number, row in enumerate(rows):
        row["speaker"] = ("Anna", "ben")[number % 2]
    assert prepare(write_rows(home / "tones", rows), home / "prepared") == 0
    return home / "prepared"


@pytest.mark.slow
def test_conforms(home, prepared, capsys):
    settings = {"data.path": str(prepared), "data.val_share": 0.3, "listen.sentences": 0}
    check_backend(
        "qwen3_tts", folder=home, settings=settings, synth={"max_new_tokens": 96, "speaker": "ANNA"}, stages=["lm"]
    )
    assert "may result in unexpected behavior" not in capsys.readouterr().err
    lines = (home / "lm-whole" / "logs" / "metrics.jsonl").read_text().splitlines()
    recorded = {json.loads(line)["name"] for line in lines}
    assert {"val/loss/first", "val/loss/depth"} <= recorded
    config = json.loads((home / "lm-custom_voice" / "config.json").read_text())
    assert config["talker_config"]["spk_id"] == {"anna": 3000, "ben": 3001}
    assert (home / "lm-base" / "speech_tokenizer" / "model.safetensors").is_file()


@pytest.mark.parametrize("voice", ["speaker", "clip"])
def test_every_trained_tensor_and_the_stop_are_taught(voice, prepared, tmp_path):
    data = Qwen3TTSData(path=str(prepared), max_tokens=256, val_share=0.0, voice=voice)
    check_training("lm", Qwen3TTSModule(init_from="tiny", method="full", frozen=()), data, runs_in=tmp_path)


def test_what_is_compared_in_pairs_is_what_is_drawn(tmp_path):
    data = Qwen3TTSPairs(path=str(taken(QWEN3_TTS, tmp_path / "takes", 4)), val_share=0.0)
    check_training("dpo", Qwen3TTSPreference(init_from="tiny", method="full", frozen=()), data, runs_in=tmp_path)


def test_what_is_rewarded_is_what_is_drawn(tmp_path):
    assert prepare(write_rows(tmp_path / "tones", texts(3)), tmp_path / "set") == 0
    data = Qwen3TTSPrompts(path=str(tmp_path / "set"), texts=1, group=2, max_tokens=256, most_seconds=0.5, val_share=0)
    module = Qwen3TTSReinforce(init_from="tiny", method="full", frozen=(), reward="stop:1", group=2)
    check_training("grpo", module, data, runs_in=tmp_path)


def test_pairs_of_voices_that_the_base_does_not_know_are_refused(prepared, tmp_path, capsys):
    words = ["fit", "--backend", "qwen3_tts", "--stage", "dpo", "--model.init_from", "tiny", "--data.path"]
    more = ["--run_dir", str(tmp_path / "run"), "--trainer.accelerator", "cpu", "--trainer.max_steps", "1"]
    assert main([*words, str(prepared), *more, "--listen.sentences", "0"]) == 2
    told = capsys.readouterr().err
    assert "are said by anna, ben, and tiny knows none. Give the run that was sampled" in told
