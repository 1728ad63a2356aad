"""Adapters: alone for PEFT, and merged into their base."""

from __future__ import annotations

import json

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.orpheus.family import load_base, open_run, probe_row
from tests.orpheus.trained_runs import STEP, write_run
from tts_train.disk.provenance import read_provenance
from tts_train.errors import ConfigError, TTSTrainError
from tts_train.families.token_lm.export.check import compare_logits, logits_of
from tts_train.families.token_lm.export.model_folder import whole_model
from tts_train_orpheus.jobs import OrpheusHf as HfExport, OrpheusMerged as MergedExport, OrpheusPeft as PeftExport
from tts_train_orpheus.tokenizer import load_tokenizer

torch.set_num_threads(1)

ROW = probe_row(load_tokenizer("tiny"))


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A base in a local folder, as a user has it."""
    folder = tmp_path_factory.mktemp("base") / "orpheus"
    load_base("tiny").save_pretrained(folder)
    load_tokenizer("tiny").save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def run(base, tmp_path_factory):
    """A LoRA run on it, and the logits of its network."""
    folder = tmp_path_factory.mktemp("lora") / "run"
    network = write_run(folder, init_from=str(base), method="lora")
    network.lm.set_attn_implementation("sdpa")
    return folder, logits_of(network.lm, ROW)


@pytest.mark.slow
def test_peft_loads_the_folder_on_the_base(run, base, tmp_path):
    out = tmp_path / "adapter"
    report = PeftExport(source=run[0] / "checkpoints" / f"step-{STEP:06d}", out=out).run()
    assert (report["verified"], report["step"]) == (True, STEP)
    assert {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json", "README.md"} <= set(report["files"])
    assert json.loads((out / "adapter_config.json").read_text())["base_model_name_or_path"] == str(base)
    plain = AutoModelForCausalLM.from_pretrained(base)
    before = logits_of(plain, ROW)
    found = logits_of(PeftModel.from_pretrained(plain, out), ROW)
    # 0 was measured; without the adapter the difference is 1.4.
    assert compare_logits(run[1], found)["max_relative_difference"] < 1e-5
    assert compare_logits(run[1], before)["max_relative_difference"] > 0.1
    assert AutoTokenizer.from_pretrained(out).eos_token_id == 128258
    assert read_provenance(out).format == "peft"
    assert "PeftModel.from_pretrained" in (out / "README.md").read_text()


@pytest.mark.slow
def test_merged_says_what_base_and_adapter_say(run, tmp_path):
    report = MergedExport(source=run[0], out=tmp_path / "voice", dtype="fp32").run()
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "voice", dtype="auto")
    assert report["measured"]["merge"]["max_relative_difference"] < 1e-5
    assert compare_logits(run[1], logits_of(merged, ROW))["max_relative_difference"] < 1e-5
    assert read_provenance(tmp_path / "voice").format == "merged"


@pytest.mark.slow
def test_hf_of_an_adapter_run_is_merged_and_rounded_once(run, tmp_path):
    """Failure 7 of the field: a merge into rounded weights. Here each weight is the nearest bf16 of the exact sum."""
    report = HfExport(source=run[0], out=tmp_path / "voice").run()
    half = AutoModelForCausalLM.from_pretrained(tmp_path / "voice", dtype="auto").state_dict()
    exact, _ = whole_model(open_run(run[0]), ROW, torch.float32)
    assert all(torch.equal(tensor.bfloat16(), half[name]) for name, tensor in exact.state_dict().items())
    assert report["measured"]["rounding"]["divergence_nats"] < 0.001
    assert read_provenance(tmp_path / "voice").format == "hf"


@pytest.mark.slow
def test_trained_embedding_travels_with_the_adapter(base, tmp_path):
    lora = {"train_embedding": True, "train_head": True}
    network = write_run(tmp_path / "run", method="lora", lora=lora)
    network.lm.set_attn_implementation("sdpa")
    report = PeftExport(source=tmp_path / "run", out=tmp_path / "adapter").run()
    assert report["measured"]["tensors"] == 2 * 7 * 2 + 1
    loaded = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), tmp_path / "adapter")
    expected = logits_of(network.lm, ROW)
    assert compare_logits(expected, logits_of(loaded, ROW))["max_relative_difference"] < 1e-5
    whole = loaded.merge_and_unload()
    assert compare_logits(expected, logits_of(whole, ROW))["max_relative_difference"] < 1e-5


@pytest.mark.slow
def test_a_pretrained_base_with_one_row_less(tmp_path):
    base = tmp_path / "base"
    lm = load_base("tiny")
    lm.resize_token_embeddings(156939)
    lm.save_pretrained(base)
    load_tokenizer("tiny").save_pretrained(base)
    write_run(tmp_path / "run", init_from=str(base), method="lora")
    assert PeftExport(source=tmp_path / "run", out=tmp_path / "adapter").run()["verified"] is True
    lm, _ = whole_model(open_run(tmp_path / "run"), ROW, torch.float32)
    assert lm.config.vocab_size == lm.lm_head.weight.shape[0] == 156940


def test_qlora_is_merged_into_the_base_before_quantisation(base, tmp_path):
    pytest.importorskip("bitsandbytes")
    network = write_run(tmp_path / "run", init_from=str(base), method="qlora")
    merged, measured = whole_model(open_run(tmp_path / "run"), ROW, torch.float32)
    assert measured["merge"]["max_relative_difference"] < 1e-5
    matrix = merged.model.layers[0].self_attn.o_proj
    layer = network.lm.model.layers[0].self_attn.o_proj
    delta = layer.lora_B["default"].weight @ layer.lora_A["default"].weight * layer.scaling["default"]
    original = AutoModelForCausalLM.from_pretrained(base).model.layers[0].self_attn.o_proj.weight
    assert torch.allclose(matrix.weight, original + delta, atol=1e-6)


def test_a_wrong_merge_is_found(run, tmp_path, monkeypatch):
    from tts_train.families.token_lm.export import model_folder

    right = model_folder.merge

    def half_hearted(network):
        right(network)
        network.lm.model.layers[1].mlp.up_proj.weight.data *= 1.01

    monkeypatch.setattr(model_folder, "merge", half_hearted)
    with pytest.raises(TTSTrainError, match="Merging the adapter: the logits differ"):
        MergedExport(source=run[0], out=tmp_path / "voice").run()
    assert list(tmp_path.iterdir()) == []


def test_full_runs_are_sent_elsewhere(tmp_path):
    write_run(tmp_path / "run")
    for job in (PeftExport, MergedExport):
        with pytest.raises(ConfigError, match="Use --format hf"):
            job(source=tmp_path / "run", out=tmp_path / "voice").run()
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
