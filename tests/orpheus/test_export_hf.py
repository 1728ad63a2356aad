"""The hf export, opened as strangers open it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.orpheus.trained_runs import STEP, write_run
from tts_train.disk.provenance import read_provenance
from tts_train.errors import ConfigError, DataError, DiskError
from tts_train.families.token_lm.export.model_folder import add_older_names
from tts_train_orpheus.jobs import OrpheusHf as HfExport
from tts_train_orpheus.prompt import encode_text, inference_prompt
from tts_train_orpheus.tokenizer import load_tokenizer

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hf") / "run"
    network = write_run(folder)
    network.lm.set_attn_implementation("sdpa")
    return folder, network.lm


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "voice"
    return out, HfExport(source=run[0], out=out).run()


@pytest.fixture(scope="module")
def tokenizer(exported):
    """What transformers opens; it is only read."""
    return AutoTokenizer.from_pretrained(exported[0])


def test_report(exported):
    out, report = exported
    assert report["format"] == "hf"
    assert report["verified"] is True
    assert report["step"] == STEP
    assert {"config.json", "generation_config.json", "model.safetensors", "README.md", "tokenizer.json"} <= set(
        report["files"]
    )
    assert all((out / name).is_file() for name in report["files"])
    assert report["measured"]["read_back"]["max_difference"] == 0
    json.dumps(dict(report))


def test_plain_transformers_generates_as_the_trained_network_does(run, exported, tokenizer):
    out, _ = exported
    loaded = AutoModelForCausalLM.from_pretrained(out, dtype="auto").eval()
    prompt = torch.as_tensor(inference_prompt(encode_text(tokenizer, "Hello.")))[None]
    trained = run[1]
    with torch.inference_mode():
        expected, found = trained(prompt).logits, loaded(prompt).logits.float()
    assert loaded.dtype == torch.bfloat16
    # bf16 keeps 8 bits; 0.020 was measured.
    assert (expected - found).abs().max() < 0.03 * expected.abs().max()
    output = loaded.generate(prompt, max_new_tokens=5)
    assert output.shape[1] <= prompt.shape[1] + 5


def test_every_file_names_the_stop_token(exported, tokenizer):
    out, _ = exported
    assert json.loads((out / "config.json").read_text())["eos_token_id"] == 128258
    generation = json.loads((out / "generation_config.json").read_text())
    assert (generation["eos_token_id"], generation["temperature"], generation["repetition_penalty"]) == (
        128258,
        0.6,
        1.1,
    )
    assert tokenizer.eos_token_id == 128258


def test_config_is_a_plain_llama(exported):
    config = json.loads((exported[0] / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["vocab_size"] == 156940
    assert config["tie_word_embeddings"] is True
    assert config["rope_parameters"]["rope_type"] == "llama3"
    assert "tts_packed" not in json.dumps(config)


def test_transformers_4_finds_its_own_names(exported, tmp_path):
    """It reads neither rope_parameters nor TokenizersBackend; test_clients.py runs it."""
    config, tokenizer = (json.loads((exported[0] / f"{name}config.json").read_text()) for name in ("", "tokenizer_"))
    newer = config["rope_parameters"]
    assert config["rope_theta"] == newer["rope_theta"] == 500000.0
    assert config["rope_scaling"] == {name: value for name, value in newer.items() if name != "rope_theta"}
    assert config["torch_dtype"] == config["dtype"] == "bfloat16"
    assert (tokenizer["tokenizer_class"], tokenizer["padding_side"]) == ("PreTrainedTokenizerFast", "left")
    assert "backend" not in tokenizer
    (tmp_path / "config.json").write_text('{"rope_parameters": {"rope_theta": 1e4, "rope_type": "default"}}')
    (tmp_path / "tokenizer_config.json").write_text('{"extra_special_tokens": ["<|audio|>"]}')
    add_older_names(tmp_path)
    config, tokenizer = (json.loads((tmp_path / f"{name}config.json").read_text()) for name in ("", "tokenizer_"))
    assert (config["rope_theta"], config["rope_scaling"]) == (1e4, None)
    assert tokenizer["additional_special_tokens"] == ["<|audio|>"]


def test_one_pad_id_and_ordinary_permissions(exported, tokenizer):
    out = exported[0]
    told = [json.loads((out / f"{name}config.json").read_text())["pad_token_id"] for name in ("", "generation_")]
    assert {*told, tokenizer.pad_token_id} == {128004}
    assert {path.stat().st_mode & 0o777 for path in out.iterdir()} == {out.stat().st_mode & 0o666}


def test_chat_template_makes_the_prompt_of_training(tokenizer):
    chat = [{"role": "user", "content": "tara: Hi!"}]
    ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=True, return_dict=False)
    assert ids == inference_prompt(encode_text(load_tokenizer("tiny"), "Hi!", "tara")).tolist()


def test_the_readme_works(exported, monkeypatch):
    out, _ = exported
    text = (out / "README.md").read_text()
    code = re.search(r"## With transformers\n\n```python\n(.*?)```", text, re.DOTALL)[1]
    monkeypatch.chdir(out.parent)
    names: dict = {}
    exec(code.replace("max_new_tokens=1200", "max_new_tokens=20"), names)  # noqa: S102 - the card's own snippet
    assert names["prompt"].tolist()[0] == inference_prompt(encode_text(load_tokenizer("tiny"), "Hello there.")).tolist()
    assert text.startswith("---\nlicense:")
    assert 'SNAC.from_pretrained("hubertsiuzdak/snac_24khz")' in text
    assert "transformers 4.57.6 and 5.23.0" in text
    assert "prompt_token_ids" in text
    assert "max_model_len" in text


def test_the_readme_decodes_as_the_layout_does(exported):
    from tts_train_orpheus.layout import AUDIO_BASE, tokens_to_codes

    code = re.search(r"## To sound\n\n```python\n(.*?)```", (exported[0] / "README.md").read_text(), re.DOTALL)[1]
    ids = [AUDIO_BASE + 4096 * (i % 7) + (31 * i) % 4096 for i in range(21)]
    lines = [line for line in code.splitlines() if line.startswith(("frames", "levels"))]
    names: dict = {"torch": torch, "audio": [*ids, AUDIO_BASE]}
    exec("\n".join(lines), names)  # noqa: S102 - the card's own snippet
    for found, expected in zip(names["levels"], tokens_to_codes(ids), strict=True):
        assert found.reshape(-1).tolist() == expected.tolist()


def test_provenance(exported):
    card = read_provenance(exported[0])
    assert (card.backend, card.stage, card.format, card.step) == ("orpheus", "lm", "hf", STEP)


def test_an_earlier_export_is_replaced_and_fp32_keeps_every_bit(run, exported, tmp_path):
    out = tmp_path / "voice"
    shutil.copytree(exported[0], out)
    (out / "stale.txt").write_text("old")
    HfExport(source=run[0], out=out, dtype="fp32").run()
    assert not (out / "stale.txt").exists()
    loaded = AutoModelForCausalLM.from_pretrained(out, dtype="auto")
    assert loaded.dtype == torch.float32
    assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in run[1].state_dict().items())


def test_other_folders_are_left_alone(run, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError, match="Choose another --out"):
        HfExport(source=run[0], out=tmp_path).run()
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_a_failed_export_leaves_nothing(run, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tts_train.families.token_lm.export.model_folder.write_tokenizer", full)
    with pytest.raises(DiskError, match="No space left"):
        HfExport(source=run[0], out=tmp_path / "voice").run()
    assert list(tmp_path.iterdir()) == []


def test_damage_on_the_way_to_the_disk_is_found(run, tmp_path, monkeypatch):
    from tts_train.errors import TTSTrainError
    from tts_train.families.token_lm.export import model_folder

    write = model_folder.write_model

    def damaged(model, lm, tokenizer, folder: Path, **options):
        write(model, lm, tokenizer, folder, **options)
        file = folder / "model.safetensors"
        data = bytearray(file.read_bytes())
        data[-1000] ^= 1
        file.write_bytes(data)

    monkeypatch.setattr(model_folder, "write_model", damaged)
    with pytest.raises(TTSTrainError, match="not what was written"):
        HfExport(source=run[0], out=tmp_path / "voice").run()
    assert list(tmp_path.iterdir()) == []


def test_no_checkpoint(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        HfExport(source=tmp_path / "nowhere", out=tmp_path / "voice").run()


@pytest.mark.slow
def test_nothing_is_pushed_offline_and_the_export_of_a_restricted_softmax_stays(tmp_path, monkeypatch):
    from tests.orpheus.family import open_model

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    run, out = tmp_path / "run", tmp_path / "voice"
    write_run(run, head={"softmax": "slot"})
    with pytest.raises(ConfigError, match="--push_to someone/voice failed"):
        HfExport(source=run, out=out, push_to="someone/voice").run()
    assert read_provenance(out).format == "hf"
    assert "hold generation to them" in (out / "README.md").read_text()
    assert open_model(out, device=torch.device("cpu"), dtype=torch.float32).softmax == "slot"
