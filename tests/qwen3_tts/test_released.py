"""The folders that other tests take for releases: their tensors are those of the releases, their ids the real ones."""

from __future__ import annotations

import json
from hashlib import sha256
from math import prod

import pytest
import torch
from safetensors import safe_open
from transformers import Qwen2Tokenizer

from tests.qwen3_tts import released_shapes as shapes
from tests.qwen3_tts.released import codec_config, model_config, write_released

ATTENTION = {"num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128}
TALKER = {**ATTENTION, "num_hidden_layers": 28, "vocab_size": 3072, "text_vocab_size": 151936, "text_hidden_size": 2048}
SMALL, LARGE = ({**TALKER, "hidden_size": width, "intermediate_size": 3 * width} for width in (1024, 2048))
PREDICTOR = {**ATTENTION, "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 5, "vocab_size": 2048}
PREDICTOR |= {"num_code_groups": 16}
SPEAKER = {"mel_dim": 128, "enc_channels": [512, 512, 512, 512, 1536], "enc_kernel_sizes": [5, 3, 3, 3, 1]}
SPEAKER |= {"enc_attention_channels": 128, "enc_res2net_scale": 8, "enc_se_channels": 128}
ENCODER = {"num_filters": 64, "hidden_size": 512, "intermediate_size": 2048, "codebook_dim": 256, "num_quantizers": 32}
ENCODER |= {"num_hidden_layers": 8, "num_attention_heads": 8, "num_key_value_heads": 8, "head_dim": 64}
DECODER = {"latent_dim": 1024, "codebook_dim": 512, "decoder_dim": 1536, "hidden_size": 512, "intermediate_size": 1024}
DECODER |= {"num_hidden_layers": 8, "num_attention_heads": 16, "num_key_value_heads": 16, "head_dim": 64}
MANIFESTS = {
    "talker, 0.6B": (lambda: shapes.talker_shapes(SMALL), 316, 764_218_368, "93255d7d9f640325"),
    "talker, 1.7B": (lambda: shapes.talker_shapes(LARGE), 316, 1_741_550_592, "b2a19007793243e8"),
    "code predictor, 0.6B": (lambda: shapes.predictor_shapes(PREDICTOR, 1024), 86, 141_570_304, "ab224074a7ca3d65"),
    "code predictor, 1.7B": (lambda: shapes.predictor_shapes(PREDICTOR, 2048), 88, 175_125_760, "b548d53e497e179b"),
    "speaker encoder, 0.6B": (
        lambda: shapes.speaker_shapes({**SPEAKER, "enc_dim": 1024}),
        76,
        8_854_336,
        "3c45d107cb1013fc",
    ),
    "speaker encoder, 1.7B": (
        lambda: shapes.speaker_shapes({**SPEAKER, "enc_dim": 2048}),
        76,
        12_001_088,
        "7a809a43af4a0cf8",
    ),
    "codec's encoder": (
        lambda: shapes.codec_encoder_shapes(_codec("encoder", ENCODER)),
        225,
        56_234_304,
        "c75c17cc85c09968",
    ),
    "codec's decoder": (
        lambda: shapes.codec_decoder_shapes(_codec("decoder", DECODER)),
        271,
        114_323_137,
        "84fb1c6e36844f2a",
    ),
}
"""What the released files hold: tensors, numbers, and a digest of the keys and their shapes."""


def _codec(half: str, sizes: dict[str, object]) -> dict[str, object]:
    return {**codec_config()[f"{half}_config"], **sizes}


@pytest.mark.parametrize("part", MANIFESTS)
def test_the_tensors_at_released_sizes_are_those_of_the_releases(part):
    given, tensors, numbers, digest = MANIFESTS[part]
    made = dict(given())
    assert (len(made), sum(map(prod, made.values()))) == (tensors, numbers)
    assert sha256(json.dumps(sorted(made.items())).encode()).hexdigest()[:16] == digest


@pytest.mark.parametrize(("shape", "kind", "keys"), [("r06", "base", 76), ("r17", "voice_design", 0)])
def test_a_folder_holds_what_its_configuration_says(tmp_path, shape, kind, keys):
    folder = write_released(tmp_path, shape=shape, kind=kind)
    assert json.loads((folder / "config.json").read_text()) == model_config(shape, kind)
    for name, dtype in (("model", torch.bfloat16), ("speech_tokenizer/model", torch.float32)):
        with safe_open(folder / f"{name}.safetensors", "pt") as file:
            held = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
        assert {tensor.dtype for tensor in held.values()} == {dtype}
        if name == "model":
            assert sum(key.startswith("speaker_encoder.") for key in held) == keys
            assert ("talker.code_predictor.small_to_mtp_projection.weight" in held) is (shape == "r17")


def test_things_can_be_left_out(tmp_path):
    folder = write_released(tmp_path, leave_out=("generation_config.json", "speaker_encoder.", "talker.model.norm"))
    assert not (folder / "generation_config.json").exists()
    with safe_open(folder / "model.safetensors", "pt") as file:
        keys = set(file.keys())
    expected = {key for key, _ in shapes.model_shapes(model_config("r06", "base"), voice_encoder=False)}
    assert keys == expected - {"talker.model.norm.weight"}


def test_the_texts_of_the_layout_have_the_released_ids(tmp_path):
    tokenizer = Qwen2Tokenizer.from_pretrained(write_released(tmp_path))
    target = "<|im_start|>assistant\nHé.<|im_end|>\n<|im_start|>assistant\n"
    body = [39, 127, 102, 13]
    assert tokenizer(target).input_ids == [151644, 77091, 198, *body, 151645, 198, 151644, 77091, 198]
    others = "<|im_start|>user\n<tts_pad><tts_text_bos><tts_text_eod>"
    assert tokenizer(others).input_ids == [151644, 872, 198, 151671, 151672, 151673]
