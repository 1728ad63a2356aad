"""The network's layers, one after the other: as transformers computes them, or with fused kernels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from tts_train.errors import ConfigError
from tts_train.families.token_lm.network.projections import adapter_copies, project
from tts_train.families.token_lm.network.start import ATTENTION
from tts_train.nn.kernels.rms_norm import add_rms_norm, rms_norm
from tts_train.nn.kernels.rope import rope
from tts_train.nn.kernels.swiglu import swiglu

if TYPE_CHECKING:
    from tts_train.families.token_lm.data.batch import TokenBatch

DOCUMENTS = ("cu_seqlens", "max_seqlen", "lengths", "expand", "collapse")
"""What attention is told of a batch's documents."""


@dataclass(frozen=True, eq=False)
class Angles:
    """The positions' angles, computed once a step. Not a mapping or tuple, so that sharding casts no table in it."""

    cos: Tensor
    """(tokens, head_dim / 2), float32."""
    sin: Tensor
    """(tokens, head_dim / 2), float32."""


class FusedLayer(LlamaDecoderLayer):  # type: ignore[misc]
    """A layer of the same weights and names that is computed with fused kernels where it is given ``angles``.

    Without them, with a cache above all, it computes as transformers does.
    """

    def forward(self, hidden_states: Tensor, *args: Any, angles: Angles | None = None, **given: Any) -> Tensor:  # noqa: ANN401
        """Return the states (B, T, hidden) after the layer."""
        if angles is None:
            done: Tensor = super().forward(hidden_states, *args, **given)
            return done
        attention, feed = self.self_attn, self.mlp
        first, second = self.input_layernorm, self.post_attention_layernorm
        flat = hidden_states.flatten(0, 1)
        linears = (*_inputs(attention), attention.o_proj, feed.gate_proj, feed.up_proj, feed.down_proj)
        copies = adapter_copies(linears, flat.device.type)
        normed = rms_norm(flat, first.weight, first.variance_epsilon)
        projected = project(normed, *_inputs(attention), copies=copies)
        mixed = self._mixed(projected, angles, hidden_states.shape, given)
        (added,) = project(mixed, attention.o_proj, copies=copies)
        # The sum is kept for the second branch, so that the states are read once less.
        total, normed = add_rms_norm(added, flat, second.weight, second.variance_epsilon)
        gate, up = project(normed, feed.gate_proj, feed.up_proj, copies=copies)
        (added,) = project(swiglu(gate, up), feed.down_proj, copies=copies)
        return (total + added).view(hidden_states.shape)

    def _mixed(
        self, projected: Sequence[Tensor], angles: Angles, shape: torch.Size, given: Mapping[str, Any]
    ) -> Tensor:
        """Return what attention makes of queries, keys and values (tokens, heads * head_dim)."""
        attention = self.self_attn
        heads = [each.view(each.shape[0], -1, attention.head_dim) for each in projected]
        query, key = rope(heads[0], heads[1], angles.cos, angles.sin)
        states = (each.view(*shape[:2], *each.shape[1:]).transpose(1, 2) for each in (query, key, heads[2]))
        attend = ALL_ATTENTION_FUNCTIONS[attention.config._attn_implementation]
        # The functions of attention apply what they are given, in evaluation as well.
        dropout = attention.attention_dropout if self.training else 0.0
        made, _ = attend(attention, *states, None, dropout=dropout, scaling=attention.scaling, **given)
        mixed: Tensor = made.flatten(0, 1).flatten(1)
        return mixed


def _inputs(attention: Any) -> tuple[nn.Module, ...]:  # noqa: ANN401 - transformers' module
    return attention.q_proj, attention.k_proj, attention.v_proj


# Strategies that shard find blocks by the name of their class, and these are the same blocks.
FusedLayer.__name__ = LlamaDecoderLayer.__name__


def can_fuse(lm: Any) -> bool:  # noqa: ANN401 - a model of transformers
    """Tell whether the layers are those that :class:`FusedLayer` computes, without norms of queries and keys."""
    return bool(lm.config.model_type == "llama")


def use_fused_layers(lm: Any) -> None:  # noqa: ANN401 - a model of transformers
    """Have ``lm``'s layers computed with fused kernels by :func:`run_layers`; weights and names stay.

    Raises:
        ConfigError: if it is no Llama, or has another activation than SiLU, which is what the kernel computes.
    """
    if not can_fuse(lm):
        raise ConfigError(
            f"--model.kernels fused computes the layers of 'llama' models, and this is a {lm.config.model_type!r}. "
            "Give --model.kernels auto, which fuses only its loss, or eager."
        )
    if lm.config.hidden_act != "silu":
        raise ConfigError(
            f"--model.kernels fused is for networks with SiLU, and this one has {lm.config.hidden_act}. Give "
            "--model.kernels eager."
        )
    for layer in lm.model.layers:
        layer.__class__ = FusedLayer


def run_layers(lm: Any, batch: TokenBatch, states: Tensor) -> Tensor:  # noqa: ANN401 - a model of transformers
    """Return the states (B, T, hidden) that the output matrix is applied to, from the embeddings (B, T, hidden)."""
    named: dict[str, Any] = {**batch}
    given = {name: named[name] for name in DOCUMENTS if name in named}
    return run_stack(lm.model, states, batch["position_ids"], **given)


def run_stack(model: Any, states: Tensor, positions: Tensor, **given: Any) -> Tensor:  # noqa: ANN401 - of transformers
    """Return what a model's layers and its last norm make of ``states`` (B, T, hidden).

    The layers are called here and not by transformers, which reads the packed positions on the host to make a mask
    that packed attention does without.
    """
    if model.config._attn_implementation != ATTENTION:  # another needs the mask that transformers makes
        output = model(inputs_embeds=states, position_ids=positions, use_cache=False, **given)
        last: Tensor = output.last_hidden_state
        return last
    if any(isinstance(layer, FusedLayer) for layer in model.layers):
        given["angles"] = angles(model.rotary_emb, positions.flatten())
    else:
        given["position_embeddings"] = model.rotary_emb(states, position_ids=positions)
    for layer in model.layers:
        states = layer(states, **given)
    if "angles" not in given:
        normed: Tensor = model.norm(states)
        return normed
    flat = rms_norm(states.flatten(0, 1), model.norm.weight, model.norm.variance_epsilon)
    return flat.view(states.shape)


@torch.no_grad()
def angles(rotary: Any, positions: Tensor) -> Angles:  # noqa: ANN401 - transformers' module
    """Return the angles of ``positions`` (T,) by a model's rotary frequencies."""
    turned = positions.unsqueeze(1).float() * rotary.inv_freq.to(positions.device, torch.float32)
    return Angles(turned.cos() * rotary.attention_scaling, turned.sin() * rotary.attention_scaling)
