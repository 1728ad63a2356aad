"""The tensors of a release of Qwen3-TTS, by the sizes in its configuration: upstream's keys and their shapes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Shapes = Iterator[tuple[str, tuple[int, ...]]]
Config = Mapping[str, Any]


def model_shapes(config: Config, *, voice_encoder: bool) -> Shapes:
    """Give the keys and shapes of ``model.safetensors`` for a whole ``config.json``."""
    talker = config["talker_config"]
    yield from talker_shapes(talker)
    yield from predictor_shapes(talker["code_predictor_config"], talker["hidden_size"])
    if voice_encoder:
        yield from speaker_shapes(config["speaker_encoder_config"])


def talker_shapes(c: Config) -> Shapes:
    """Give what the talker has without its code predictor."""
    width, text = c["hidden_size"], c["text_hidden_size"]
    yield from _layers("talker.model", c)
    yield "talker.model.codec_embedding.weight", (c["vocab_size"], width)
    yield "talker.model.text_embedding.weight", (c["text_vocab_size"], text)
    yield from _affine("talker.text_projection.linear_fc1", text, text)
    yield from _affine("talker.text_projection.linear_fc2", width, text)
    yield "talker.codec_head.weight", (c["vocab_size"], width)


def predictor_shapes(c: Config, talker_width: int) -> Shapes:
    """Give the code predictor; it has a projection only where the widths differ."""
    width, codes = c["hidden_size"], c["vocab_size"]
    yield from _layers("talker.code_predictor.model", c)
    for book in range(c["num_code_groups"] - 1):
        yield f"talker.code_predictor.model.codec_embedding.{book}.weight", (codes, talker_width)
        yield f"talker.code_predictor.lm_head.{book}.weight", (codes, width)
    if width != talker_width:
        yield from _affine("talker.code_predictor.small_to_mtp_projection", width, talker_width)


def speaker_shapes(c: Config) -> Shapes:
    """Give the speaker encoder that only a base has."""
    *blocks, merged = c["enc_channels"]
    kernels, attention, squeezed = c["enc_kernel_sizes"], c["enc_attention_channels"], c["enc_se_channels"]
    yield from _affine("speaker_encoder.blocks.0.conv", blocks[0], c["mel_dim"], kernels[0])
    for number, width in enumerate(blocks[1:], 1):
        block, part = f"speaker_encoder.blocks.{number}", width // c["enc_res2net_scale"]
        yield from _affine(f"{block}.tdnn1.conv", width, width, 1)
        for chunk in range(c["enc_res2net_scale"] - 1):
            yield from _affine(f"{block}.res2net_block.blocks.{chunk}.conv", part, part, kernels[number])
        yield from _affine(f"{block}.tdnn2.conv", width, width, 1)
        yield from _affine(f"{block}.se_block.conv1", squeezed, width, 1)
        yield from _affine(f"{block}.se_block.conv2", width, squeezed, 1)
    yield from _affine("speaker_encoder.mfa.conv", merged, sum(blocks[1:]), 1)
    yield from _affine("speaker_encoder.asp.tdnn.conv", attention, 3 * merged, 1)
    yield from _affine("speaker_encoder.asp.conv", merged, attention, 1)
    yield from _affine("speaker_encoder.fc", c["enc_dim"], 2 * merged, 1)


def codec_shapes(config: Config) -> Shapes:
    """Give the keys and shapes of ``speech_tokenizer/model.safetensors`` for its ``config.json``."""
    yield from codec_encoder_shapes(config["encoder_config"])
    yield from codec_decoder_shapes(config["decoder_config"])


def codec_encoder_shapes(c: Config) -> Shapes:
    """Give the half that turns a wave into codes, Mimi's."""
    layers, width, hidden = "encoder.encoder.layers", c["num_filters"], c["hidden_size"]
    yield from _affine(f"{layers}.0.conv", width, 1, c["kernel_size"])
    for number, ratio in enumerate(reversed(c["upsampling_ratios"])):
        half, at = width // c["compress"], 3 * number + 1
        yield from _affine(f"{layers}.{at}.block.1.conv", half, width, c["residual_kernel_size"])
        yield from _affine(f"{layers}.{at}.block.3.conv", width, half, 1)
        yield from _affine(f"{layers}.{at + 2}.conv", 2 * width, width, 2 * ratio)
        width *= 2
    yield from _affine(f"{layers}.{3 * len(c['upsampling_ratios']) + 2}.conv", hidden, width, c["last_kernel_size"])
    for number in range(c["num_hidden_layers"]):
        layer = f"encoder.encoder_transformer.layers.{number}"
        yield from _attention(layer, c)
        yield f"{layer}.mlp.fc1.weight", (c["intermediate_size"], hidden)
        yield f"{layer}.mlp.fc2.weight", (hidden, c["intermediate_size"])
        for norm in ("input_layernorm", "post_attention_layernorm"):
            yield f"{layer}.{norm}.weight", (hidden,)
            yield f"{layer}.{norm}.bias", (hidden,)
        yield from _scales(layer, hidden)
    yield "encoder.downsample.conv.weight", (hidden, hidden, 4)
    semantic = c["num_semantic_quantizers"]
    for group, books in (("semantic", semantic), ("acoustic", c["num_quantizers"] - semantic)):
        vectors = f"encoder.quantizer.{group}_residual_vector_quantizer"
        for book in range(books):
            place, rows = f"{vectors}.layers.{book}.codebook", c["codebook_size"]
            yield f"{place}.initialized", (1,)
            yield f"{place}.cluster_usage", (rows,)
            yield f"{place}.embed_sum", (rows, c["codebook_dim"])
        yield f"{vectors}.input_proj.weight", (c["codebook_dim"], hidden, 1)
        yield f"{vectors}.output_proj.weight", (hidden, c["codebook_dim"], 1)


def codec_decoder_shapes(c: Config) -> Shapes:
    """Give the half that turns codes into a wave."""
    wide, vector, latent = c["codebook_dim"], c["codebook_dim"] // 2, c["latent_dim"]
    for group, books in (("first", 1), ("rest", c["num_quantizers"] - 1)):
        vectors = f"decoder.quantizer.rvq_{group}"
        yield f"{vectors}.input_proj.weight", (vector, wide, 1)
        yield f"{vectors}.output_proj.weight", (wide, vector, 1)
        for book in range(books):
            yield f"{vectors}.vq.layers.{book}._codebook.cluster_usage", (c["codebook_size"],)
            yield f"{vectors}.vq.layers.{book}._codebook.embedding_sum", (c["codebook_size"], vector)
    yield from _affine("decoder.pre_conv.conv", latent, wide, 3)
    yield from _decoder_transformer("decoder.pre_transformer", c)
    for number, ratio in enumerate(c["upsampling_ratios"]):
        stage = f"decoder.upsample.{number}"
        yield from _affine(f"{stage}.0.conv", latent, latent, ratio)
        yield f"{stage}.1.gamma", (latent,)
        yield from _affine(f"{stage}.1.dwconv.conv", latent, 1, 7)
        yield from _affine(f"{stage}.1.norm", latent)
        yield from _affine(f"{stage}.1.pwconv1", 4 * latent, latent)
        yield from _affine(f"{stage}.1.pwconv2", latent, 4 * latent)
    yield from _wave_stages("decoder.decoder", c)


def _decoder_transformer(place: str, c: Config) -> Shapes:
    hidden, latent = c["hidden_size"], c["latent_dim"]
    for number in range(c["num_hidden_layers"]):
        yield from _attention(f"{place}.layers.{number}", c)
        yield from _gated(f"{place}.layers.{number}", c)
        yield from _scales(f"{place}.layers.{number}", hidden)
    yield f"{place}.norm.weight", (hidden,)
    yield from _affine(f"{place}.input_proj", hidden, latent)
    yield from _affine(f"{place}.output_proj", latent, hidden)


def _wave_stages(place: str, c: Config) -> Shapes:
    width = c["decoder_dim"]
    yield from _affine(f"{place}.0.conv", width, c["latent_dim"], 7)
    for number, rate in enumerate(c["upsample_rates"], 1):
        block = f"{place}.{number}.block"
        yield from _snake(f"{block}.0", width)
        yield f"{block}.1.conv.weight", (width, width // 2, 2 * rate)
        width //= 2
        yield f"{block}.1.conv.bias", (width,)
        for unit in (2, 3, 4):
            for half, kernel in ((1, 7), (2, 1)):
                yield from _snake(f"{block}.{unit}.act{half}", width)
                yield from _affine(f"{block}.{unit}.conv{half}.conv", width, width, kernel)
    last = len(c["upsample_rates"]) + 1
    yield from _snake(f"{place}.{last}", width)
    yield from _affine(f"{place}.{last + 1}.conv", 1, width, 7)


def _layers(place: str, c: Config) -> Shapes:
    """Give the layers of Qwen3, whose queries and keys are normalised, and the last norm."""
    for number in range(c["num_hidden_layers"]):
        layer = f"{place}.layers.{number}"
        yield from _attention(layer, c)
        yield f"{layer}.self_attn.q_norm.weight", (c["head_dim"],)
        yield f"{layer}.self_attn.k_norm.weight", (c["head_dim"],)
        yield from _gated(layer, c)
    yield f"{place}.norm.weight", (c["hidden_size"],)


def _attention(layer: str, c: Config) -> Shapes:
    hidden, queries = c["hidden_size"], c["num_attention_heads"] * c["head_dim"]
    keys = c["num_key_value_heads"] * c["head_dim"]
    yield f"{layer}.self_attn.q_proj.weight", (queries, hidden)
    yield f"{layer}.self_attn.k_proj.weight", (keys, hidden)
    yield f"{layer}.self_attn.v_proj.weight", (keys, hidden)
    yield f"{layer}.self_attn.o_proj.weight", (hidden, queries)


def _gated(layer: str, c: Config) -> Shapes:
    """Give a gated MLP, and the norms before it and before the attention."""
    hidden, middle = c["hidden_size"], c["intermediate_size"]
    yield f"{layer}.mlp.gate_proj.weight", (middle, hidden)
    yield f"{layer}.mlp.up_proj.weight", (middle, hidden)
    yield f"{layer}.mlp.down_proj.weight", (hidden, middle)
    yield f"{layer}.input_layernorm.weight", (hidden,)
    yield f"{layer}.post_attention_layernorm.weight", (hidden,)


def _scales(layer: str, hidden: int) -> Shapes:
    yield f"{layer}.self_attn_layer_scale.scale", (hidden,)
    yield f"{layer}.mlp_layer_scale.scale", (hidden,)


def _snake(place: str, width: int) -> Shapes:
    yield f"{place}.alpha", (width,)
    yield f"{place}.beta", (width,)


def _affine(place: str, rows: int, *rest: int) -> Shapes:
    yield f"{place}.weight", (rows, *rest)
    yield f"{place}.bias", (rows,)
