"""The names of the released files beside ours: the one place that knows both."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TypeAlias

from torch import Tensor, nn

from tts_train.contract import DataError

_Rules: TypeAlias = tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...]

EXPORT_OMITS = ("enc_q.",)
"""Beginnings of the released names that inference files leave out."""
LORA_TARGETS = r".*\.attention\.(query|key|value|output)"
"""Layers of ``FlowSovitsNetwork.matching`` that the released LoRA adapts, as a pattern of their whole name."""

# All rules are tried in order, each on what the one before left: first the parts of a network.
_NETWORK: _Rules = (
    (r"^content_encoder\.", "enc_p."),
    (r"^generator\.", "dec."),
    (r"^posterior_encoder\.", "enc_q."),
    (r"^style_encoder\.", "ref_enc."),
    (r"^feature_projection\.", "ssl_proj."),
    (r"^speaker_style\.speaker\.", "sv_emb."),
    (r"^speaker_style\.to_text\.", "ge_to512."),
    (r"^speaker_style\.activation\.", "prelu."),
    (r"^quantizer\.", "quantizer.vq.layers.0._codebook."),
    (r"^bridge\.", "bridge.0."),
    (r"^refine\.", "wns1."),
    (r"^mel_projection\.", "linear_mel."),
    (r"^matching\.", "cfm."),
    (r"^critics\.", "discriminators."),
)
# Then what is inside them.
_PARTS: _Rules = (
    (r"parametrizations\.weight\.original0$", "weight_g"),
    (r"parametrizations\.weight\.original1$", "weight_v"),
    # Encoders of the prior.
    (r"^enc_p\.features\.", "enc_p.ssl_proj."),
    (r"^enc_p\.content_encoder\.", "enc_p.encoder_ssl."),
    (r"^enc_p\.text_encoder\.", "enc_p.encoder_text."),
    (r"^enc_p\.joint_encoder\.", "enc_p.encoder2."),
    (r"^enc_p\.statistics\.", "enc_p.proj."),
    (r"^enc_p\.fusion\.content\.", "enc_p.mrte.c_pre."),
    (r"^enc_p\.fusion\.text\.", "enc_p.mrte.text_pre."),
    (r"^enc_p\.fusion\.output\.", "enc_p.mrte.c_post."),
    (r"^enc_p\.fusion\.", "enc_p.mrte."),
    (r"\.attention_norms\.(\d+)\.weight$", r".norm_layers_1.\1.gamma"),
    (r"\.attention_norms\.(\d+)\.bias$", r".norm_layers_1.\1.beta"),
    (r"\.feed_forward_norms\.(\d+)\.weight$", r".norm_layers_2.\1.gamma"),
    (r"\.feed_forward_norms\.(\d+)\.bias$", r".norm_layers_2.\1.beta"),
    (r"\.feed_forwards\.(\d+)\.widen\.", r".ffn_layers.\1.conv_1."),
    (r"\.feed_forwards\.(\d+)\.narrow\.", r".ffn_layers.\1.conv_2."),
    (r"\.attentions\.", ".attn_layers."),
    (r"\.relative_keys$", ".emb_rel_k"),
    (r"\.relative_values$", ".emb_rel_v"),
    (r"(\.attn_layers\.\d+|\.cross_attention)\.(q|k|v|o)(?:uery|ey|alue|utput)\.", r"\1.conv_\2."),
    # Gated stacks and what is around them.
    (r"^flow\.couplings\.(\d+)\.", lambda match: f"flow.flows.{2 * int(match[1])}."),
    (r"\.stack\.gated\.", ".enc.in_layers."),
    (r"\.stack\.mixing\.", ".enc.res_skip_layers."),
    (r"\.stack\.condition\.", ".enc.cond_layer."),
    (r"^(flow\.flows\.\d+|enc_q|wns1)\.input\.", r"\1.pre."),
    (r"^(flow\.flows\.\d+)\.output\.", r"\1.post."),
    (r"^(enc_q|wns1)\.output\.", r"\1.proj."),
    # Waveform generator and critics.
    (r"^dec\.input\.", "dec.conv_pre."),
    (r"^dec\.upsamplings\.", "dec.ups."),
    (r"^dec\.blocks\.(\d+)\.dilated\.", r"dec.resblocks.\1.convs1."),
    (r"^dec\.blocks\.(\d+)\.plain\.", r"dec.resblocks.\1.convs2."),
    (r"^dec\.condition\.", "dec.cond."),
    (r"^discriminators\.(\d+)\.layers\.", r"discriminators.\1.convs."),
    (r"^(dec|discriminators\.\d+)\.output\.", r"\1.conv_post."),
    # Style encoder; activations and dropout count in the released numbering.
    (r"^ref_enc\.spectral\.(\d+)\.", lambda match: f"ref_enc.spectral.{3 * int(match[1])}.fc."),
    (r"^ref_enc\.temporal\.(\d+)\.", r"ref_enc.temporal.\1.conv1.conv."),
    (r"^ref_enc\.attention\.output\.", "ref_enc.slf_attn.fc."),
    (r"^ref_enc\.attention\.(q|k|v)[a-z]+\.", r"ref_enc.slf_attn.w_\1s."),
    (r"^ref_enc\.output\.", "ref_enc.fc.fc."),
    (r"_codebook\.initialised$", "_codebook.inited"),
    (r"_codebook\.counts$", "_codebook.cluster_size"),
    (r"_codebook\.embedding$", "_codebook.embed"),
    (r"_codebook\.sums$", "_codebook.embed_avg"),
)
# The estimator has rules of its own, for names that begin inside it.
_ESTIMATOR: _Rules = (
    (r"^time\.layers\.", "time_embed.time_mlp."),
    (r"^step\.layers\.", "d_embed.time_mlp."),
    (r"^content_blocks\.(\d+)\.depthwise\.", r"text_embed.text_blocks.\1.dwconv."),
    (r"^content_blocks\.(\d+)\.norm\.", r"text_embed.text_blocks.\1.norm."),
    (r"^content_blocks\.(\d+)\.widen\.", r"text_embed.text_blocks.\1.pwconv1."),
    (r"^content_blocks\.(\d+)\.response\.scale$", r"text_embed.text_blocks.\1.grn.gamma"),
    (r"^content_blocks\.(\d+)\.response\.shift$", r"text_embed.text_blocks.\1.grn.beta"),
    (r"^content_blocks\.(\d+)\.narrow\.", r"text_embed.text_blocks.\1.pwconv2."),
    (r"^input\.", "input_embed.proj."),
    (r"^position\.layers\.(\d+)\.", lambda match: f"input_embed.conv_pos_embed.conv1d.{2 * int(match[1])}."),
    (r"^rotation\.rates$", "rotary_embed.inv_freq"),
    (r"^blocks\.(\d+)\.modulation\.", r"transformer_blocks.\1.attn_norm.linear."),
    (r"^blocks\.(\d+)\.attention\.(query|key|value)\.", lambda m: f"transformer_blocks.{m[1]}.attn.to_{m[2][0]}."),
    (r"^blocks\.(\d+)\.attention\.output\.", r"transformer_blocks.\1.attn.to_out.0."),
    (r"^blocks\.(\d+)\.widen\.", r"transformer_blocks.\1.ff.ff.0.0."),
    (r"^blocks\.(\d+)\.narrow\.", r"transformer_blocks.\1.ff.ff.2."),
    (r"^modulation\.", "norm_out.linear."),
    (r"^output\.", "proj_out."),
)
_ESTIMATOR_ALONE = "rotation.rates"
# Inside a network it comes after this; adapters put their own words between.
_INSIDE = re.compile(r"^matching\.((?:base_model\.model\.)?estimator\.)(.*)$")


def upstream_name(name: str) -> str:
    """Return the released name of an entry of a network's state dict."""
    inside = _INSIDE.match(name)
    if inside:
        return f"cfm.{inside[1]}{estimator_name(inside[2])}"
    return _rename(_rename(name, _NETWORK), _PARTS)


def estimator_name(name: str) -> str:
    """Return the released name of an entry of an ``Estimator``'s state dict, from inside the estimator."""
    return _rename(name, _ESTIMATOR)


def upstream_names(network: nn.Module) -> dict[str, str]:
    """Return the released name of each entry of a network's state dict, in its order, which is the released one."""
    names = list(network.state_dict())
    rename = estimator_name if _ESTIMATOR_ALONE in names else upstream_name
    return {name: rename(name) for name in names}


def to_upstream(network: nn.Module, *, omit: Collection[str] = ()) -> dict[str, Tensor]:
    """Return a network's tensors by their released names, without those whose name begins as in ``omit``.

    The tensors are the network's own, not copies. An inference file leaves out ``EXPORT_OMITS``.
    """
    named = {upstream_name(name): tensor for name, tensor in network.state_dict().items()}
    return {name: tensor for name, tensor in named.items() if not name.startswith(tuple(omit))}


def load_upstream(network: nn.Module, weights: Mapping[str, Tensor], *, omitted: Collection[str] = ()) -> list[str]:
    """Copy released weights into a network; return the released names that the file leaves out.

    Args:
        network: The network to fill; its types stay as they are.
        weights: Tensors by their released names.
        omitted: Beginnings of released names that may be missing; their tensors stay as they are.

    Raises:
        DataError: A tensor is missing, unknown or of another shape; every such name is listed.
    """
    state = network.state_dict()
    ours = {released: name for name, released in upstream_names(network).items()}
    missing = [name for name in ours if name not in weights]
    _refuse(
        [f"{name} is missing" for name in missing if not name.startswith(tuple(omitted))],
        [f"{name} is not part of this version" for name in weights if name not in ours],
        [
            f"{name} has shape {tuple(tensor.shape)} where this version has {tuple(state[ours[name]].shape)}"
            for name, tensor in weights.items()
            if name in ours and tensor.shape != state[ours[name]].shape
        ],
    )
    network.load_state_dict({ours[name]: tensor for name, tensor in weights.items()}, strict=False)
    return missing


def _rename(name: str, rules: _Rules) -> str:
    # Every rule in its order: later ones see what earlier ones made.
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def _refuse(*kinds: Iterable[str]) -> None:
    faults = [fault for kind in kinds for fault in kind]
    if faults:
        listed = "\n  ".join(faults)
        raise DataError(
            f"The weights do not fit this SoVITS version, {len(faults)} names differ:\n  {listed}\n"
            "Name the version that the file was made by."
        )
