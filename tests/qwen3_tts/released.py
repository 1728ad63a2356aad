"""Folders laid out like the releases of Qwen3-TTS, with the real ids, small networks and seeded weights."""

from __future__ import annotations

import functools
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.qwen3_tts.filling import fill_all
from tests.qwen3_tts.released_shapes import Shapes, codec_shapes, model_shapes

Shape = Literal["r06", "r17"]
Kind = Literal["base", "custom_voice", "voice_design"]

LANGUAGES = {"chinese": 2055, "english": 2050, "german": 2053, "italian": 2070, "portuguese": 2071, "spanish": 2054}
LANGUAGES |= {"japanese": 2058, "korean": 2064, "french": 2061, "russian": 2069}
LANGUAGES |= {"beijing_dialect": 2074, "sichuan_dialect": 2062}
SPEAKERS: Mapping[str, tuple[int, str | Literal[False]]] = {
    "serena": (3066, False),
    "ryan": (3061, False),
    "dylan": (2878, "beijing_dialect"),
    "eric": (2875, "sichuan_dialect"),
}
"""Speakers of the released custom voices: the row of the table, and the dialect."""
FIRST_ADDED = 151643
_SIGNS = """<|endoftext|> <|im_start|> <|im_end|> <|object_ref_start|> <|object_ref_end|> <|box_start|> <|box_end|>
<|quad_start|> <|quad_end|> <|vision_start|> <|vision_end|> <|vision_pad|> <|image_pad|> <|video_pad|> <tool_call>
</tool_call> <|fim_prefix|> <|fim_middle|> <|fim_suffix|> <|fim_pad|> <|repo_name|> <|file_sep|> <tool_response>
</tool_response> <think> </think> <|audio_start|> <|audio_end|> <tts_pad> <tts_text_bos> <tts_text_eod>"""
ADDED = _SIGNS.split()
"""Tokens that ``tokenizer_config.json`` adds to those of ``vocab.json``, in the order of their ids."""
WORDS = {"user": 872, "assistant": 77091}
"""Words that are one token; everything else is spelled in bytes."""


def write_released(
    folder: Path,
    *,
    shape: Shape = "r06",
    kind: Kind = "base",
    dtype: torch.dtype = torch.bfloat16,
    salt: str = "",
    end_scale: float = 1.0,
    leave_out: Collection[str] = (),
) -> Path:
    """Write a released model, in less than a second.

    ``r06`` is shaped like 0.6B, whose text is twice as wide as the talker and whose code predictor is as wide; ``r17``
    like 1.7B, whose code predictor has a projection. ``dtype`` is that of ``model.safetensors``; the codec's is
    float32. ``end_scale`` multiplies the head's row of the end of speech, so that greedy speech ends by itself when it
    is large. ``leave_out`` are files' paths in the folder, and beginnings of keys of ``model.safetensors``.
    """
    config = model_config(shape, kind)
    weights = _filled(model_shapes(config, voice_encoder=kind == "base"), salt, leave_out, dtype)
    if end_scale != 1.0:
        weights["talker.codec_head.weight"][config["talker_config"]["codec_eos_token_id"]] *= end_scale
    codec = codec_config()
    texts = {
        "config.json": config,
        "generation_config.json": GENERATION,
        "preprocessor_config.json": {"padding_side": "left", "processor_class": "Qwen3TTSProcessor"},
        "speech_tokenizer/config.json": codec,
        "speech_tokenizer/configuration.json": {"framework": "pytorch", "task": "feature-extraction"},
        "speech_tokenizer/preprocessor_config.json": CODEC_INPUT,
    }
    files = {name: json.dumps(content, indent=2) for name, content in texts.items()} | tokenizer_files()
    (folder / "speech_tokenizer").mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        if name not in leave_out:
            (folder / name).write_text(text, encoding="utf-8")
    for name, tensors in (("", weights), ("speech_tokenizer/", _codec_weights(salt))):
        if f"{name}model.safetensors" not in leave_out:
            save_file(tensors, folder / f"{name}model.safetensors", metadata={"format": "pt"})
    return folder


def _filled(shapes: Shapes, salt: str, leave_out: Collection[str], dtype: torch.dtype) -> dict[str, Tensor]:
    kept = ((key, shape) for key, shape in shapes if not key.startswith(tuple(leave_out)))
    return fill_all(kept, salt=salt, dtype=dtype)


@functools.cache
def _codec_weights(salt: str) -> dict[str, Tensor]:
    return fill_all(codec_shapes(codec_config()), salt=salt, dtype=torch.float32)


GENERATION = {"do_sample": True, "repetition_penalty": 1.05, "temperature": 0.9, "top_p": 1.0, "top_k": 50}
GENERATION |= {"subtalker_dosample": True, "subtalker_temperature": 0.9, "subtalker_top_p": 1.0, "subtalker_top_k": 50}
GENERATION |= {"max_new_tokens": 8192}
CODEC_INPUT = {"feature_extractor_type": "EncodecFeatureExtractor", "feature_size": 1, "sampling_rate": 24000}
CODEC_INPUT |= {"padding_side": "right", "padding_value": 0.0, "return_attention_mask": True}
CODEC_INPUT |= {"chunk_length_s": None, "overlap": None}


def model_config(shape: Shape, kind: Kind) -> dict[str, Any]:
    """Give the ``config.json`` of a small model; its ids and numbers of rows are the released ones."""
    config = {
        "architectures": ["Qwen3TTSForConditionalGeneration"],
        "model_type": "qwen3_tts",
        "tokenizer_type": "qwen3_tts_tokenizer_12hz",
        "tts_model_size": {"r06": "0b6", "r17": "1b7"}[shape],
        "tts_model_type": kind,
        "im_start_token_id": 151644,
        "im_end_token_id": 151645,
        "assistant_token_id": 77091,
        "tts_pad_token_id": 151671,
        "tts_bos_token_id": 151672,
        "tts_eos_token_id": 151673,
        "talker_config": _talker_config(32 if shape == "r06" else 64, SPEAKERS if kind == "custom_voice" else {}),
    }
    if kind == "base":
        config["speaker_encoder_config"] = {
            "enc_dim": config["talker_config"]["hidden_size"],
            "sample_rate": 24000,
            "mel_dim": 128,
            "enc_channels": [32, 32, 32, 32, 96],
            "enc_kernel_sizes": [5, 3, 3, 3, 1],
            "enc_dilations": [1, 2, 3, 4, 1],
            "enc_attention_channels": 16,
            "enc_res2net_scale": 8,
            "enc_se_channels": 12,
        }
    return config


def _talker_config(width: int, speakers: Mapping[str, tuple[int, str | Literal[False]]]) -> dict[str, Any]:
    common = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "num_code_groups": 16}
    common |= {"hidden_act": "silu", "attention_bias": False, "attention_dropout": 0.0, "use_sliding_window": False}
    common |= {"rope_theta": 1000000, "rms_norm_eps": 1e-6, "tie_word_embeddings": False}
    predictor = {"hidden_size": 32, "intermediate_size": 80, "num_hidden_layers": 2, "vocab_size": 2048}
    return {
        **common,
        "hidden_size": width,
        "intermediate_size": 3 * width,
        "num_hidden_layers": 3,
        "vocab_size": 3072,
        "text_hidden_size": 64,
        "text_vocab_size": 151936,
        "max_position_embeddings": 32768,
        "position_id_per_seconds": 13,
        "rope_scaling": {"interleaved": True, "mrope_section": [4, 2, 2], "rope_type": "default", "type": "default"},
        "codec_pad_id": 2148,
        "codec_bos_id": 2149,
        "codec_eos_token_id": 2150,
        "codec_think_id": 2154,
        "codec_nothink_id": 2155,
        "codec_think_bos_id": 2156,
        "codec_think_eos_id": 2157,
        "codec_language_id": LANGUAGES,
        "spk_id": {name: row for name, (row, _) in speakers.items()},
        "spk_is_dialect": {name: dialect for name, (_, dialect) in speakers.items()},
        "code_predictor_config": {**common, **predictor, "rope_scaling": None, "max_position_embeddings": 65536},
    }


def codec_config() -> dict[str, Any]:
    """Give the ``config.json`` of a small codec with the released codebooks, rates and strides."""
    common = {"attention_bias": False, "attention_dropout": 0.0, "head_dim": 8, "num_hidden_layers": 2}
    common |= {"layer_scale_initial_scale": 0.01, "max_position_embeddings": 8000, "rope_theta": 10000.0}
    common |= {"codebook_size": 2048, "num_semantic_quantizers": 1}
    encoder = {"num_filters": 8, "hidden_size": 32, "intermediate_size": 64, "codebook_dim": 16, "num_quantizers": 18}
    encoder |= {"num_attention_heads": 4, "num_key_value_heads": 4, "hidden_act": "gelu", "norm_eps": 1e-5}
    encoder |= {"kernel_size": 7, "last_kernel_size": 3, "residual_kernel_size": 3, "num_residual_layers": 1}
    encoder |= {"dilation_growth_rate": 2, "compress": 2, "upsampling_ratios": [8, 6, 5, 4], "upsample_groups": 32}
    encoder |= {"use_causal_conv": True, "use_conv_shortcut": False, "pad_mode": "constant", "trim_right_ratio": 1.0}
    encoder |= {"vector_quantization_hidden_dimension": 16, "sliding_window": 250, "_frame_rate": 12.5}
    encoder |= {"audio_channels": 1, "sampling_rate": 24000, "use_cache": False, "initializer_range": 0.02}
    decoder = {"latent_dim": 24, "codebook_dim": 32, "decoder_dim": 48, "hidden_size": 16, "intermediate_size": 40}
    decoder |= {"num_attention_heads": 2, "num_key_value_heads": 2, "hidden_act": "silu", "rms_norm_eps": 1e-5}
    decoder |= {"num_quantizers": 16, "semantic_codebook_size": 4096, "vector_quantization_hidden_dimension": 32}
    decoder |= {"upsample_rates": [8, 5, 4, 3], "upsampling_ratios": [2, 2], "sliding_window": 72}
    return {
        "architectures": ["Qwen3TTSTokenizerV2Model"],
        "model_type": "qwen3_tts_tokenizer_12hz",
        "encoder_valid_num_quantizers": 16,
        "input_sample_rate": 24000,
        "output_sample_rate": 24000,
        "decode_upsample_rate": 1920,
        "encode_downsample_rate": 1920,
        "encoder_config": {**common, **encoder},
        "decoder_config": {**common, **decoder},
    }


@functools.cache
def tokenizer_files() -> dict[str, str]:
    """Give the tokenizer's files: bytes at the released ids, and the words of the layout as tokens of their own."""
    vocabulary, merges, taken = {sign: number for number, sign in enumerate(byte_signs())}, [], len(byte_signs())
    for word, number in WORDS.items():
        for length in range(2, len(word) + 1):
            merges.append(f"{word[: length - 1]} {word[length - 1]}")
            vocabulary[word[:length]] = number if length == len(word) else taken
            taken += 1
    used = set(vocabulary.values())
    # Added tokens get the ids after the last one of the vocabulary, so that every id below them has to be there.
    vocabulary |= {f"unused {number}": number for number in range(FIRST_ADDED) if number not in used}
    marks = {"lstrip": False, "rstrip": False, "normalized": False, "single_word": False, "special": True}
    config = {
        "add_prefix_space": False,
        "added_tokens_decoder": {str(FIRST_ADDED + i): {"content": sign, **marks} for i, sign in enumerate(ADDED)},
        "bos_token": None,
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|im_end|>",
        "errors": "replace",
        "model_max_length": 131072,
        "pad_token": "<|endoftext|>",
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
    }
    return {
        "vocab.json": json.dumps(dict(sorted(vocabulary.items(), key=lambda item: item[1])), ensure_ascii=False),
        "merges.txt": "\n".join(["#version: 0.2", *merges, ""]),
        "tokenizer_config.json": json.dumps(config, indent=2),
    }


def byte_signs() -> list[str]:
    """Give the characters that stand for bytes in GPT-2's vocabulary, in the order of their ids; newline's is 198."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return [chr(byte) for byte in shown] + [chr(256 + place) for place in range(len(hidden))]
