"""A small codec with seeded weights, for trying every command without a download: no voice comes out."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from tts_train_qwen3_tts.codec.codec import QwenCodec
from tts_train_qwen3_tts.codec.files import build_networks
from tts_train_qwen3_tts.codec.sizes import FIXED, LAYOUT, MODEL_TYPE, DecoderSizes, EncoderSizes
from tts_train_qwen3_tts.layout import CODEBOOKS, CODES

_ATTENTION = {"num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 16}
_WIDTHS = {"hidden_size": 32, "intermediate_size": 64, "codebook_size": CODES, "num_quantizers": CODEBOOKS}
_BOTH = {**_ATTENTION, **_WIDTHS, "rope_theta": 10000.0}
_KERNELS = {"kernel_size": 7, "residual_kernel_size": 3, "last_kernel_size": 3, "compress": 2, "num_filters": 4}
_HEARD = {"codebook_dim": 8, "vector_quantization_hidden_dimension": 8, "norm_eps": 1e-5, "sliding_window": 250}
_SAID = {"codebook_dim": 16, "vector_quantization_hidden_dimension": 16, "rms_norm_eps": 1e-5, "sliding_window": 8}
_STRIDES = {"upsampling_ratios": [2, 2], "upsample_rates": [8, 5, 4, 3], "latent_dim": 32, "decoder_dim": 32}
# The groups are of a part of Mimi that upstream builds, and drops.
_MORE = {"upsampling_ratios": [8, 6, 5, 4], "upsample_groups": 32}
CONFIG: dict[str, Any] = {
    "model_type": MODEL_TYPE,
    **LAYOUT,
    "encoder_config": {**FIXED[EncoderSizes], **_BOTH, **_KERNELS, **_HEARD, **_MORE},
    "decoder_config": {**FIXED[DecoderSizes], **_BOTH, **_SAID, **_STRIDES},
}
"""config.json of the small codec."""
_SPREAD, _SHRINKS = 0.2, 0.8
_GAIN, _LOUDNESS = 2.0, 0.3


def tiny_codec(*, window: bool) -> QwenCodec:
    """Return the small codec: 16 codebooks of 2048 codes at 12.5 frames a second."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        encoder, decoder = build_networks(CONFIG, "the small codec", window=window, device="cpu")
        for name, weight in encoder.encoder.named_parameters():
            # First weights of torch let sound fade, and all of it would get one code.
            weight.mul_(_GAIN if name.endswith("weight") else 0)
        books = [tensor for name, tensor in encoder.named_buffers() if name.endswith("embed_sum")]
        sums = [tensor for name, tensor in decoder.named_parameters() if name.endswith("embedding_sum")]
        # What is left over gets smaller, so the centroids do as well.
        for number, (heard, said) in enumerate(zip(books, sums, strict=True)):
            said.copy_(nn.init.normal_(heard, std=_SPREAD * _SHRINKS**number))
        # No sample reaches full scale, where differences would be cut off.
        decoder.decoder[-1].conv.weight.mul_(_LOUDNESS)  # type: ignore[operator, union-attr]
    return QwenCodec(encoder, decoder, config=CONFIG)
