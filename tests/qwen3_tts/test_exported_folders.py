"""What an exported folder says of its speakers, and what it holds for cloning."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from tests.qwen3_tts.released import write_released
from tests.qwen3_tts.trained_runs import write_run
from tts_train.contract import ConfigError, TTSTrainError
from tts_train_qwen3_tts import export
from tts_train_qwen3_tts.export import FIRST_ROW, BaseExport, CustomVoiceExport

TABLE = "talker.model.codec_embedding.weight"


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return write_released(tmp_path_factory.mktemp("base") / "base", kind="base", shape="r17", dtype=torch.float32)


def exported(job, base, folder, voices, **options):
    write_run(folder / "run", init_from=base, voices=voices)
    job(source=folder / "run", out=folder / "out", codec=str(base), dtype="fp32", **options).run()
    config = json.loads((folder / "out" / "config.json").read_text())
    return config, load_file(folder / "out" / "model.safetensors")


def vectors(*names):
    return {name: torch.full((64,), place + 1.5) for place, name in enumerate(names)}


def test_names_are_those_that_upstream_looks_up(base, tmp_path):
    config, weights = exported(CustomVoiceExport, base, tmp_path, vectors(""), speaker_name="ANNA")
    assert config["talker_config"]["spk_id"] == {"anna": FIRST_ROW}
    assert config["talker_config"]["spk_is_dialect"] == {"anna": False}
    assert weights[TABLE][FIRST_ROW].tolist() == [1.5] * 64


def test_each_speaker_has_a_row(base, tmp_path):
    config, weights = exported(CustomVoiceExport, base, tmp_path, vectors("ben", "clara"))
    rows = config["talker_config"]["spk_id"]
    assert rows.keys() == {"ben", "clara"}
    assert [weights[TABLE][rows[name], 0].item() for name in ("ben", "clara")] == [1.5, 2.5]


def test_a_speaker_of_the_base_keeps_a_row_that_is_given_in_a_list(tmp_path):
    base = write_released(tmp_path / "base", kind="custom_voice", shape="r17", dtype=torch.float32)
    config = json.loads((base / "config.json").read_text())
    config["talker_config"] |= {"spk_id": {"Ryan": [FIRST_ROW]}, "spk_is_dialect": {"Ryan": False}}
    (base / "config.json").write_text(json.dumps(config))
    config, weights = exported(CustomVoiceExport, base, tmp_path, vectors("ben"))
    assert config["talker_config"]["spk_id"] == {"ryan": FIRST_ROW, "ben": FIRST_ROW + 1}
    assert (weights[TABLE][FIRST_ROW] != 1.5).all()
    assert weights[TABLE][FIRST_ROW + 1].tolist() == [1.5] * 64


def test_only_a_base_folder_has_the_speaker_encoder(base, tmp_path):
    for job, kind in ((BaseExport, "base"), (CustomVoiceExport, "custom_voice")):
        config, weights = exported(job, base, tmp_path / kind, vectors("ben"))
        assert config["tts_model_type"] == kind
        assert any(name.startswith("speaker_encoder.") for name in weights) == (kind == "base")


def test_a_voice_without_a_name_is_asked_for(base, tmp_path):
    with pytest.raises(ConfigError, match="--speaker_name NAME"):
        exported(CustomVoiceExport, base, tmp_path, vectors(""))


def test_a_folder_that_says_other_codes_is_not_kept(base, tmp_path, monkeypatch):
    def mixed_up(lm, right=export.stored):
        tensors = right(lm)
        heads = [f"talker.code_predictor.lm_head.{place}.weight" for place in (0, 1)]
        return {**tensors, heads[0]: tensors[heads[1]], heads[1]: tensors[heads[0]]}

    monkeypatch.setattr(export, "stored", mixed_up)
    with pytest.raises(TTSTrainError, match="says other codes"):
        exported(BaseExport, base, tmp_path, vectors("ben"))
    assert not (tmp_path / "out").exists()
