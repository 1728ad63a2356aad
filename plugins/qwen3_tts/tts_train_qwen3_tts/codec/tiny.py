"""A small codec with seeded weights, for trying every command without a download: no voice comes out."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from tts_train_qwen3_tts.codec.codec import QwenCodec
from tts_train_qwen3_tts.codec.files import build_networks
from tts_train_qwen3_tts.codec.sizes import CODEBOOK_SIZE, CODEBOOKS, FRAME_SAMPLES, MODEL_TYPE, SAMPLE_RATE

_BOTH: dict[str, Any] = {
    "attention_bias": False,
    "attention_dropout": 0.0,
    "codebook_size": CODEBOOK_SIZE,
    "head_dim": 16,
    "hidden_size": 32,
    "intermediate_size": 64,
    "layer_scale_initial_scale": 0.01,
    "max_position_embeddings": 8000,
    "num_attention_heads": 2,
    "num_hidden_layers": 1,
    "num_key_value_heads": 2,
    "num_quantizers": CODEBOOKS,
    "num_semantic_quantizers": 1,
    "rope_theta": 10000.0,
}
_ENCODER: dict[str, Any] = {
    "audio_channels": 1,
    "codebook_dim": 8,
    "compress": 2,
    "dilation_growth_rate": 2,
    "hidden_act": "gelu",
    "initializer_range": 0.02,
    "kernel_size": 7,
    "last_kernel_size": 3,
    "norm_eps": 1e-5,
    "num_filters": 4,
    "num_residual_layers": 1,
    "pad_mode": "constant",
    "residual_kernel_size": 3,
    "sampling_rate": SAMPLE_RATE,
    "sliding_window": 250,
    "trim_right_ratio": 1.0,
    "upsample_groups": 32,
    "upsampling_ratios": [8, 6, 5, 4],
    "use_cache": False,
    "use_causal_conv": True,
    "use_conv_shortcut": False,
    "vector_quantization_hidden_dimension": 8,
}
_DECODER: dict[str, Any] = {
    "codebook_dim": 16,
    "decoder_dim": 32,
    "hidden_act": "silu",
    "latent_dim": 32,
    "rms_norm_eps": 1e-5,
    "semantic_codebook_size": 4096,
    "sliding_window": 8,
    "upsample_rates": [8, 5, 4, 3],
    "upsampling_ratios": [2, 2],
    "vector_quantization_hidden_dimension": 16,
}
CONFIG: dict[str, Any] = {
    "model_type": MODEL_TYPE,
    "encoder_valid_num_quantizers": CODEBOOKS,
    "input_sample_rate": SAMPLE_RATE,
    "output_sample_rate": SAMPLE_RATE,
    "encode_downsample_rate": FRAME_SAMPLES,
    "decode_upsample_rate": FRAME_SAMPLES,
    "encoder_config": {**_BOTH, **_ENCODER},
    "decoder_config": {**_BOTH, **_DECODER},
}
"""config.json of the small codec, with everything that upstream reads."""
_SPREAD, _SHRINKS = 0.2, 0.8
_GAIN, _LOUDNESS = 2.0, 0.3


def tiny_codec(*, window: bool) -> QwenCodec:
    """Return the small codec: 16 codebooks of 2048 codes at 12.5 frames a second."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder, decoder = build_networks(CONFIG, "the small codec", window=window, device="cpu")
        heard, said = encoder.quantizer, decoder.quantizer
        sounds = [*heard.semantic_residual_vector_quantizer.layers, *heard.acoustic_residual_vector_quantizer.layers]
        frames = [*said.rvq_first.vq.layers, *said.rvq_rest.vq.layers]
        with torch.no_grad():
            for name, weight in encoder.encoder.named_parameters():
                # First weights of torch let sound fade, and all of it would get one code.
                weight.mul_(_GAIN if name.endswith("weight") else 0)
            for number, (one, other) in enumerate(zip(sounds, frames, strict=True)):
                nn.init.normal_(one.codebook.embed_sum, std=_SPREAD * _SHRINKS**number)
                other._codebook.embedding_sum.copy_(one.codebook.embed_sum)
            decoder.decoder[-1].conv.weight.mul_(_LOUDNESS)
    return QwenCodec(encoder, decoder, config=CONFIG)
