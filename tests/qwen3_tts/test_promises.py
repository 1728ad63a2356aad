"""Qwen3-TTS keeps every promise of a backend, on tones with a text."""

from __future__ import annotations

import json

import pytest

from tests.qwen3_tts.recordings import prepare, texts, write_rows
from tts_train.checking import check_training
from tts_train.testing import check_backend
from tts_train_qwen3_tts.stage import Qwen3TTSData, Qwen3TTSModule


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
    check_backend("qwen3_tts", folder=home, settings=settings, synth={"max_new_tokens": 96, "speaker": "ANNA"})
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
