"""A codec's folder: written, read back bit for bit, passed on as it is, and refused where it is another thing."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.qwen3_tts.test_codec import sound
from tts_train.contract import ConfigError, DataError, UnsafeFileError
from tts_train_qwen3_tts.codec.files import codec_tensors, write_codec
from tts_train_qwen3_tts.codec.load import load_codec


@pytest.fixture(scope="module")
def tiny():
    return load_codec("tiny")


@pytest.fixture
def folder(tiny, tmp_path):
    write_codec(tiny, tmp_path / "model" / "speech_tokenizer")
    return tmp_path / "model" / "speech_tokenizer"


def change_config(folder, change):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))


def change_weights(folder, change):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")


def test_what_is_written_is_read_bit_for_bit(tiny, folder):
    for source in (folder, folder.parent):
        again = load_codec(str(source))
        tensors = codec_tensors(again)
        assert all(torch.equal(value, tensors[name]) for name, value in codec_tensors(tiny).items())
        assert again.fingerprint == tiny.fingerprint
        codes = tiny.encode([sound(20_000)])[0]
        assert torch.equal(tiny.decode(codes), again.decode(codes))


def test_a_codec_that_was_read_is_passed_on_as_it_is(folder, tmp_path):
    change_weights(folder, lambda tensors: tensors.update({k: v.bfloat16() for k, v in tensors.items()}))
    (folder / "configuration.json").write_text("{}")
    (folder / "preprocessor_config.json").unlink()
    write_codec(load_codec(str(folder)), tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "config.json",
        "configuration.json",
        "model.safetensors",
        "preprocessor_config.json",
    ]
    for name in ("config.json", "configuration.json", "model.safetensors"):
        assert (tmp_path / "out" / name).read_bytes() == (folder / name).read_bytes()
    change_config(tmp_path / "out", lambda config: config.clear())
    assert json.loads((folder / "config.json").read_text())


def test_weights_in_bfloat16_are_computed_with_in_float32(folder):
    change_weights(folder, lambda tensors: tensors.update({k: v.bfloat16() for k, v in tensors.items()}))
    tensors = codec_tensors(load_codec(str(folder)))
    assert {value.dtype for value in tensors.values()} == {torch.float32}


def test_window_and_weights_name_the_codes(tiny, folder):
    on = load_codec("tiny#window=on")
    assert on.fingerprint != tiny.fingerprint
    assert on.encoder.window
    change_weights(folder, lambda tensors: tensors["encoder.downsample.conv.weight"].mul_(2))
    assert load_codec(str(folder)).fingerprint != tiny.fingerprint


def test_eps_and_heads_name_the_codes(tiny, folder):
    change_config(folder, lambda config: config["encoder_config"].update(norm_eps=1e-3))
    assert load_codec(str(folder)).fingerprint != tiny.fingerprint


def test_transformers_5_may_have_written_the_rotary_base(tiny, folder):
    def move(config):
        theta = config["encoder_config"].pop("rope_theta")
        config["encoder_config"]["rope_parameters"] = {"rope_type": "default", "rope_theta": theta}

    change_config(folder, move)
    assert load_codec(str(folder)).fingerprint == tiny.fingerprint


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda config: config.update(model_type="qwen3_tts_tokenizer_25hz"), "25 frames a second has other codes"),
        (lambda config: config.update(model_type="qwen3_tts"), "without its folder speech_tokenizer"),
        (lambda config: config.update(model_type="mimi"), "not of 'qwen3_tts_tokenizer_12hz'"),
        (lambda config: config.update(encoder_valid_num_quantizers=8), "quantizers 8 instead of 16"),
        (lambda config: config["encoder_config"].pop("norm_eps"), "does not say norm_eps"),
        (lambda config: config.pop("decoder_config"), "codebook_size None instead of 2048, num_quantizers None"),
        (lambda config: config["encoder_config"].update(pad_mode="reflect"), "pad_mode 'reflect' instead of"),
        (lambda config: config["decoder_config"].update(latent_dim=24), "of another shape"),
    ],
)
def test_another_configuration_is_refused(folder, change, message):
    change_config(folder, change)
    with pytest.raises(ConfigError, match=message):
        load_codec(str(folder))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda tensors: tensors.pop("decoder.pre_conv.conv.bias"),
            r"1 tensors missing \(the first is decoder.pre_conv",
        ),
        (lambda tensors: tensors.update({"encoder.more": torch.ones(1)}), "1 tensors unknown"),
        (
            lambda tensors: tensors.update({"decoder.pre_conv.conv.bias": torch.ones(3)}),
            r"decoder.pre_conv.conv.bias, \[3\] instead of \[32\]",
        ),
    ],
)
def test_other_weights_are_refused(folder, change, message):
    change_weights(folder, change)
    with pytest.raises(ConfigError, match=message):
        load_codec(str(folder))


def test_files_that_are_not_there_or_no_weights_are_refused(folder, tmp_path):
    (folder / "model.safetensors").write_bytes(b"\x80\x04pickled")
    with pytest.raises(UnsafeFileError):
        load_codec(str(folder))
    (folder / "model.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"no model\.safetensors"):
        load_codec(str(folder))
    (folder / "config.json").write_text("{")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_codec(str(folder))
    with pytest.raises(ConfigError, match=r"There is no .*config\.json"):
        load_codec(str(tmp_path))


def test_a_name_that_is_nowhere_says_what_to_give(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match=r"'nobody/nothing'.*or 'tiny'"):
        load_codec("nobody/nothing")


@pytest.mark.parametrize("source", ["tiny#window=maybe", "tiny#window="])
def test_another_window_is_refused(source):
    with pytest.raises(ConfigError, match="off or on"):
        load_codec(source)


@pytest.mark.parametrize(
    "clip", [torch.zeros(0), torch.zeros(2, 4), torch.zeros(4).double(), torch.tensor([0.0, float("nan")])]
)
def test_what_is_no_clip_is_refused(tiny, clip):
    with pytest.raises(DataError, match="Clip 1 "):
        tiny.encode([torch.zeros(4), clip])


@pytest.mark.parametrize("levels", [[[0]] * 15, [[0]] * 15 + [[0, 1]], [[0]] * 15 + [[2048]], [[-1]] * 16])
def test_what_are_no_codes_is_refused(tiny, levels):
    with pytest.raises(DataError):
        tiny.decode(levels)


def test_no_frames_are_no_sound(tiny):
    assert tiny.decode([[]] * 16).shape == (0,)
