"""The tensors of SoVITS files, computed from the settings that the files carry: names as released, in that order.

No network is built. Names and order were read off the released files; the parts follow one another as below.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from tts_train_gpt_sovits.released.bases import s2_config
from tts_train_gpt_sovits.signal.versions import (
    ESTIMATOR,
    FEATURES,
    SPEAKER,
    SPECTROGRAM_BINS,
    SovitsVersion,
    find_version,
)

Table: TypeAlias = dict[str, tuple[int, ...]]
"""Shape of each tensor by its released name."""

CRITIC_CHANNELS = 1024
"""Widest layer of the released critics."""

_CODES = 1024
_MELS = 100
_TEXT_STYLE = 512  # channels at which text, content and style meet, the same in every version
_STYLE = 128  # channels inside the style encoder
_TIME = 256  # sines and cosines of the time
_WINDOW = 4  # distances with learned keys and values, to either side
_ESTIMATOR = {
    "width": 1024,
    "depth": 22,
    "heads": 16,
    "head_width": 64,
    "widening": 2,
    "content": _TEXT_STYLE,
    "content_blocks": 4,
    "mels": _MELS,
}
_POSITION_KERNEL, _POSITION_GROUPS = 31, 16
# Channels out, kernel and groups of the waveform critic's layers, and channels out of a period critic's.
_SCALE = ((16, 15, 1), (64, 41, 4), (256, 41, 16), (1024, 41, 64), (1024, 41, 256), (1024, 5, 1))
_PERIOD = (32, 128, 512, 1024, 1024)


def generator_table(version: str, sizes: Mapping[str, Any] | None = None) -> Table:
    """Return the tensors of a whole generator file.

    Args:
        version: Its version.
        sizes: The ``model`` table of its settings; the released sizes of the version if None.
    """
    row = find_version(version)
    model = {**s2_config(version)["model"], **(sizes or {})}
    return _flow_generator(row, model) if row.kind == "flow" else _gan_generator(row, model)


def critic_table(periods: Sequence[int], *, shrink: int = 1) -> Table:
    """Return the tensors of a discriminator file whose networks have ``shrink`` times fewer channels."""
    table: Table = {}
    before = 1
    for i, (channels, kernel, groups) in enumerate(_SCALE):
        after = channels // shrink
        table |= _normed(f"discriminators.0.convs.{i}", after, before // max(1, groups // shrink), kernel)
        before = after
    table |= _normed("discriminators.0.conv_post", 1, before, 3)
    for number, _ in enumerate(periods, start=1):
        before = 1
        for i, channels in enumerate(_PERIOD):
            table |= _normed(f"discriminators.{number}.convs.{i}", channels // shrink, before, 5, 1)
            before = channels // shrink
        table |= _normed(f"discriminators.{number}.conv_post", 1, before, 3, 1)
    return table


def _gan_generator(row: SovitsVersion, model: Mapping[str, Any]) -> Table:
    latent, channels, style = model["inter_channels"], model["hidden_channels"], model["gin_channels"]
    table = {
        **_prior(row, model, latent),
        **_waveform(model, latent, style),
        **_conv("enc_q.pre", channels, SPECTROGRAM_BINS, 1),
        **_gated("enc_q.enc", channels, layers=16, condition=style),
        **_conv("enc_q.proj", 2 * latent, channels, 1),
    }
    # Upstream counts the flips between the couplings, which have no tensors.
    for number in (0, 2, 4, 6):
        name = f"flow.flows.{number}"
        table |= _conv(f"{name}.pre", channels, latent // 2, 1)
        table |= _gated(f"{name}.enc", channels, layers=4, condition=style)
        table |= _conv(f"{name}.post", latent // 2, channels, 1)
    table |= {**_style_encoder(row.style_bins, style), **_semantics()}
    if row.speaker:
        # Last, where upstream declares them (module/models.py): files have this order.
        table |= {**_linear("sv_emb", style, SPEAKER), **_linear("ge_to512", _TEXT_STYLE, style)}
        table["prelu.weight"] = (style,)
    return table


def _flow_generator(row: SovitsVersion, model: Mapping[str, Any]) -> Table:
    channels = model["hidden_channels"]
    return {
        **_prior(row, model, channels),
        **_style_encoder(row.style_bins, _TEXT_STYLE),
        **_semantics(),
        **_conv("bridge.0", _TEXT_STYLE, channels, 1),
        **_conv("wns1.pre", _TEXT_STYLE, _TEXT_STYLE, 1),
        **_gated("wns1.enc", _TEXT_STYLE, layers=8, condition=_TEXT_STYLE),
        **_conv("wns1.proj", _TEXT_STYLE, _TEXT_STYLE, 1),
        **_conv("linear_mel", _MELS, _TEXT_STYLE, 1),
        **_estimator({**_ESTIMATOR, **(model.get(ESTIMATOR) or {})}),
    }


def _prior(row: SovitsVersion, model: Mapping[str, Any], latent: int) -> Table:
    channels, layers = model["hidden_channels"], model["n_layers"]
    fusion = "enc_p.mrte"
    return {
        **_conv("enc_p.ssl_proj", channels, FEATURES, 1),
        **_encoder("enc_p.encoder_ssl", model, layers // 2),
        **_encoder("enc_p.encoder_text", model, layers),
        "enc_p.text_embedding.weight": (row.symbols, channels),
        **_attention(f"{fusion}.cross_attention", _TEXT_STYLE),
        **_conv(f"{fusion}.c_pre", _TEXT_STYLE, channels, 1),
        **_conv(f"{fusion}.text_pre", _TEXT_STYLE, channels, 1),
        **_conv(f"{fusion}.c_post", channels, _TEXT_STYLE, 1),
        **_encoder("enc_p.encoder2", model, layers // 2),
        **_conv("enc_p.proj", 2 * latent, channels, 1),
    }


def _encoder(name: str, model: Mapping[str, Any], layers: int) -> Table:
    channels, hidden, kernel = model["hidden_channels"], model["filter_channels"], model["kernel_size"]
    near = (1, 2 * _WINDOW + 1, channels // model["n_heads"])
    table: Table = {}
    for i in range(layers):
        attention = f"{name}.attn_layers.{i}"
        table |= {f"{attention}.emb_rel_k": near, f"{attention}.emb_rel_v": near, **_attention(attention, channels)}
    for i in range(layers):
        table |= _norm(f"{name}.norm_layers_1.{i}", channels)
    for i in range(layers):
        table |= _conv(f"{name}.ffn_layers.{i}.conv_1", hidden, channels, kernel)
        table |= _conv(f"{name}.ffn_layers.{i}.conv_2", channels, hidden, kernel)
    for i in range(layers):
        table |= _norm(f"{name}.norm_layers_2.{i}", channels)
    return table


def _attention(name: str, channels: int) -> Table:
    table: Table = {}
    for part in ("q", "k", "v", "o"):
        table |= _conv(f"{name}.conv_{part}", channels, channels, 1)
    return table


def _waveform(model: Mapping[str, Any], latent: int, style: int) -> Table:
    widest, rates = model["upsample_initial_channel"], model["upsample_rates"]
    table = _conv("dec.conv_pre", widest, latent, 7)
    for i, kernel in enumerate(model["upsample_kernel_sizes"]):
        before, after = widest >> i, widest >> (i + 1)
        name = f"dec.ups.{i}"  # transposed, so that its first axis is what goes in
        table |= {f"{name}.bias": (after,), f"{name}.weight_g": (before, 1, 1)}
        table[f"{name}.weight_v"] = (before, after, kernel)
    number = 0
    for i in range(len(rates)):
        channels = widest >> (i + 1)
        for kernel, dilations in zip(model["resblock_kernel_sizes"], model["resblock_dilation_sizes"], strict=True):
            for part in ("convs1", "convs2"):
                for each in range(len(dilations)):
                    table |= _normed(f"dec.resblocks.{number}.{part}.{each}", channels, channels, kernel)
            number += 1
    table["dec.conv_post.weight"] = (1, widest >> len(rates), 7)
    return table | _conv("dec.cond", widest, style, 1)


def _gated(name: str, channels: int, *, layers: int, condition: int) -> Table:
    table: Table = {}
    for i in range(layers):
        table |= _normed(f"{name}.in_layers.{i}", 2 * channels, channels, 5)
    for i in range(layers):
        wide = channels if i == layers - 1 else 2 * channels
        table |= _normed(f"{name}.res_skip_layers.{i}", wide, channels, 1)
    return table | _normed(f"{name}.cond_layer", 2 * channels * layers, condition, 1)


def _style_encoder(bins: int, style: int) -> Table:
    table = {**_linear("ref_enc.spectral.0.fc", _STYLE, bins), **_linear("ref_enc.spectral.3.fc", _STYLE, _STYLE)}
    for i in range(2):
        table |= _conv(f"ref_enc.temporal.{i}.conv1.conv", 2 * _STYLE, _STYLE, 5)
    for part in ("w_qs", "w_ks", "w_vs", "fc"):
        table |= _linear(f"ref_enc.slf_attn.{part}", _STYLE, _STYLE)
    return table | _linear("ref_enc.fc.fc", style, _STYLE)


def _semantics() -> Table:
    codebook = "quantizer.vq.layers.0._codebook"
    return {
        **_conv("ssl_proj", FEATURES, FEATURES, 2),
        f"{codebook}.inited": (1,),
        f"{codebook}.cluster_size": (_CODES,),
        f"{codebook}.embed": (_CODES, FEATURES),
        f"{codebook}.embed_avg": (_CODES, FEATURES),
    }


def _estimator(sizes: Mapping[str, int]) -> Table:
    name = "cfm.estimator"
    width, content, mels = sizes["width"], sizes["content"], sizes["mels"]
    table: Table = {}
    for part in ("time_embed", "d_embed"):
        table |= _linear(f"{name}.{part}.time_mlp.0", width, _TIME)
        table |= _linear(f"{name}.{part}.time_mlp.2", width, width)
    for i in range(sizes["content_blocks"]):
        table |= _content_block(f"{name}.text_embed.text_blocks.{i}", content)
    table |= _linear(f"{name}.input_embed.proj", width, 2 * mels + content)
    for i in (0, 2):
        position = f"{name}.input_embed.conv_pos_embed.conv1d.{i}"
        table |= _conv(position, width, width // _POSITION_GROUPS, _POSITION_KERNEL)
    table[f"{name}.rotary_embed.inv_freq"] = ((sizes["head_width"] + 1) // 2,)
    inner = sizes["heads"] * sizes["head_width"]
    for i in range(sizes["depth"]):
        table |= _block(f"{name}.transformer_blocks.{i}", width, inner, sizes["widening"] * width)
    return table | _linear(f"{name}.norm_out.linear", 2 * width, width) | _linear(f"{name}.proj_out", mels, width)


def _content_block(name: str, content: int) -> Table:
    return {
        **_conv(f"{name}.dwconv", content, 1, 7),
        **_linear(f"{name}.norm", content),
        **_linear(f"{name}.pwconv1", 2 * content, content),
        f"{name}.grn.gamma": (1, 1, 2 * content),
        f"{name}.grn.beta": (1, 1, 2 * content),
        **_linear(f"{name}.pwconv2", content, 2 * content),
    }


def _block(name: str, width: int, inner: int, hidden: int) -> Table:
    return {
        **_linear(f"{name}.attn_norm.linear", 6 * width, width),
        **_linear(f"{name}.attn.to_q", inner, width),
        **_linear(f"{name}.attn.to_k", inner, width),
        **_linear(f"{name}.attn.to_v", inner, width),
        **_linear(f"{name}.attn.to_out.0", width, inner),
        **_linear(f"{name}.ff.ff.0.0", hidden, width),
        **_linear(f"{name}.ff.ff.2", width, hidden),
    }


def _linear(name: str, channels: int, *inputs: int) -> Table:
    return {f"{name}.weight": (channels, *inputs), f"{name}.bias": (channels,)}


def _conv(name: str, channels: int, inputs: int, kernel: int) -> Table:
    return _linear(name, channels, inputs, kernel)


def _norm(name: str, channels: int) -> Table:
    return {f"{name}.gamma": (channels,), f"{name}.beta": (channels,)}


def _normed(name: str, channels: int, inputs: int, *kernel: int) -> Table:
    """Return a convolution whose weight is split into length and direction."""
    ones = (1,) * (1 + len(kernel))
    return {
        f"{name}.bias": (channels,),
        f"{name}.weight_g": (channels, *ones),
        f"{name}.weight_v": (channels, inputs, *kernel),
    }
