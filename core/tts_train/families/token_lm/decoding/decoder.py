"""A Llama's layers over a cache of fixed size: whole prompts at once, then one token a row, without host waits.

``transformers`` grows its cache by a copy a token and asks the device about its masks; a CUDA graph can hold neither.
The modules are the model's own, called one by one, so adapters and quantised matrices take part as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor, nn

from tts_train.errors import ConfigError
from tts_train.families.token_lm.network.layers import angles
from tts_train.families.token_lm.network.start import SUPPORTED
from tts_train.nn.decode_attention import decode_attention, reach, row_bounds
from tts_train.nn.kernels import fused
from tts_train.nn.kernels.rms_norm import add_rms_norm, rms_norm
from tts_train.nn.kernels.rope import rope
from tts_train.nn.kernels.swiglu import swiglu
from tts_train.nn.packed_attention import causal_attention

if TYPE_CHECKING:
    from transformers import LlamaConfig, LlamaForCausalLM

SMALLEST, STEP = 256, 64
"""Places of the smallest cache, and the multiple of places that a CPU attends to."""

_Attend: TypeAlias = Callable[[int, Tensor, Tensor, Tensor], Tensor]


def bucket(places: int, most: int) -> int:
    """Return the size of the cache for so many places: 256 doubled until it is enough, ``most`` at the most."""
    size = SMALLEST
    # Doubled, since a cache that grows little by little is copied again and again.
    while size < places:
        size *= 2
    return max(min(size, -(-most // STEP) * STEP), places)


class CachedDecoder:
    """Keys and values of a batch, and the forward pass that adds to them.

    Args:
        lm: In evaluation mode; of a kind that can be trained.
        rows: Rows of the batch.
        places: Places of each row's cache.
        stack: The model in it whose layers are computed, which then reads embeddings (..., H) in place of ids; None for
            the language model itself.

    Raises:
        ConfigError: if the network is of another shape.
    """

    def __init__(self, lm: LlamaForCausalLM, rows: int, places: int, *, stack: Any = None) -> None:  # noqa: ANN401
        self.lm = lm
        self._stack = lm.model if stack is None else stack
        self._embed = self._stack.embed_tokens if stack is None else nn.Identity()
        config = self._stack.config
        if stack is None:
            check_shape(config)
        self._heads: int = config.num_attention_heads
        self._key_heads: int = config.num_key_value_heads
        # Asked of a layer: in Qwen3 and in depth networks it is not hidden_size / heads.
        self._width: int = self._stack.layers[0].self_attn.head_dim
        self._device: torch.device = lm.lm_head.weight.device
        self._type = cache_type(lm)
        self._scale = float(self._width) ** -0.5
        self._fused = config.hidden_act == "silu" and fused(lm.lm_head.weight)
        self.cache = self._empty(rows, places)
        self._bounds = row_bounds(rows, places, self._device)

    @property
    def places(self) -> int:
        """Places of each row's cache."""
        return self.cache.shape[3]

    def read(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Fill the cache with prompts (B, T) of ``lengths`` (B,), padded on the right; return the last states (B, H).

        What padding leaves behind in the cache is written over before anything looks there.
        """
        # Padding stands on the right, so that every row begins at position 0.
        positions = torch.arange(ids.shape[1], device=ids.device)[None]

        def attend(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            self.cache[layer, 0, :, : ids.shape[1]] = key
            self.cache[layer, 1, :, : ids.shape[1]] = value
            return self._within(query, key, value)

        hidden = self._layers(ids, positions, attend)
        last = (lengths - 1).view(-1, 1, 1).expand(-1, 1, hidden.shape[-1])
        return hidden.gather(1, last)[:, 0]

    def step(self, tokens: Tensor, positions: Tensor, *, span: int) -> Tensor:
        """Add one token a row at its own position (B,) and return the states (B, H); nothing waits for the device.

        ``span``, above every position, is how many places are attended to where no kernel knows each row's length.
        """
        rows = len(tokens)
        whole = self._looked_at(span)
        far = reach(positions + 1, self._bounds, self.cache, whole)
        # One flat index for all rows: a single scatter for keys and one for values.
        places = positions + torch.arange(rows, device=positions.device) * self.places

        def attend(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            for part, new in enumerate((key, value)):
                flat = self.cache[layer, part].view(rows * self.places, -1)
                flat.index_copy_(0, places, new.reshape(rows, -1))
            keys, values = self.cache[layer, 0, :, :whole], self.cache[layer, 1, :, :whole]
            return decode_attention(query[:, 0], keys, values, far, scale=self._scale)[:, None]

        return self._layers(tokens[:, None], positions[:, None], attend)[:, 0]

    def grow(self, places: int) -> None:
        """Move to a larger cache."""
        # Both are there for a moment, which the estimate of memory counts.
        old, self.cache = self.cache, self._empty(self.cache.shape[2], places)
        self.cache[:, :, :, : old.shape[3]] = old
        self._bounds = row_bounds(self.cache.shape[2], places, self._device)

    def keep(self, rows: Tensor) -> None:
        """Leave only these rows (k,) of the batch."""
        self.cache = self.cache.index_select(2, rows)
        self._bounds = row_bounds(len(rows), self.places, self._device)

    def _empty(self, rows: int, places: int) -> Tensor:
        shape = (len(self._stack.layers), 2, rows, places, self._key_heads, self._width)
        # Zeros, since a masked place counts nothing times what is there, and nothing times NaN is NaN.
        return torch.zeros(shape, dtype=self._type, device=self._device)

    def _looked_at(self, span: int) -> int:
        # A graph and the kernel want one shape for the whole cache.
        return self.places if self._device.type == "cuda" else min(-(-span // STEP) * STEP, self.places)

    def _layers(self, ids: Tensor, positions: Tensor, attend: _Attend) -> Tensor:
        model = self._stack
        hidden: Tensor = self._embed(ids)
        if self._fused:
            return self._fused_layers(hidden, positions, attend)
        cosine, sine = model.rotary_emb(hidden, position_ids=positions)
        half = self._width // 2
        # The rotated half's sign is put into the sine: a turn costs one roll instead of two slices, a sign and a copy.
        turns = cosine[:, :, None], torch.cat([-sine[..., :half], sine[..., half:]], dim=-1)[:, :, None]
        for number, layer in enumerate(model.layers):
            hidden = hidden + self._attention(number, layer, layer.input_layernorm(hidden), turns, attend)
            hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
        normed: Tensor = model.norm(hidden)
        return normed

    def _fused_layers(self, hidden: Tensor, positions: Tensor, attend: _Attend) -> Tensor:
        """Do the same with one kernel for each addition with its norm, each turn, and each gated product."""
        model, shape = self._stack, hidden.shape[:2]
        turns = angles(model.rotary_emb, positions.expand(shape).flatten())
        total, added = hidden.flatten(0, 1), None
        for number, layer in enumerate(model.layers):
            part, feed = layer.self_attn, layer.mlp
            total, normed = _added(added, total, layer.input_layernorm)
            query, key, value = self._projected(part, normed)
            states = (*rope(query, key, turns.cos, turns.sin), value)
            attended = attend(number, *(each.to(self._type).view(*shape, -1, self._width) for each in states))
            total, normed = _added(
                part.o_proj(attended.flatten(0, 1).flatten(1)), total, layer.post_attention_layernorm
            )
            added = feed.down_proj(swiglu(feed.gate_proj(normed), feed.up_proj(normed)))
        _, normed = _added(added, total, model.norm)
        return normed.view(*shape, -1)

    def _attention(
        self,
        number: int,
        layer: Any,  # noqa: ANN401 - transformers' layer
        hidden: Tensor,
        turns: tuple[Tensor, Tensor],
        attend: _Attend,
    ) -> Tensor:
        part = layer.self_attn
        query, key, value = self._projected(part, hidden)
        # Queries and keys turn by the same angles: together it is half as many launches.
        turned = _turn(torch.cat([query, key], dim=2), *turns).to(self._type)
        attended = attend(number, turned[:, :, : self._heads], turned[:, :, self._heads :], value.to(self._type))
        output: Tensor = part.o_proj(attended.flatten(2))
        return output

    def _projected(self, part: Any, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # noqa: ANN401 - transformers' layer
        """Return queries, keys and values (..., heads, width); some networks normalise the first two."""
        projected = (part.q_proj(hidden), part.k_proj(hidden), part.v_proj(hidden))
        query, key, value = (each.unflatten(-1, (-1, self._width)) for each in projected)
        if hasattr(part, "q_norm"):
            query, key = part.q_norm(query), part.k_norm(key)
        return query, key, value

    def _within(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attend causally within prompts, (B, T, heads, width)."""
        query, key, value = (each.transpose(1, 2) for each in (query, key, value))
        return causal_attention(query, key, value, scale=self._scale).transpose(1, 2)


def check_shape(config: LlamaConfig) -> None:
    """Refuse a network whose layers are computed in another way than here.

    Raises:
        ConfigError: naming the networks that can be spoken with.
    """
    if config.model_type not in SUPPORTED:
        known = ", ".join(SUPPORTED)
        raise ConfigError(f"This network is a {config.model_type!r}; speech can be generated with {known}.")
    if set(getattr(config, "layer_types", None) or ()) - {"full_attention"}:
        raise ConfigError(
            "This network attends to a sliding window in some layers, which generation does not support. Set "
            "use_sliding_window to false in its config.json."
        )


def cache_type(lm: LlamaForCausalLM) -> torch.dtype:
    """Return the type that keys and values are computed in: autocast's, where it is on, else the embedding's."""
    weight: Tensor = lm.lm_head.weight
    device = weight.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype


def _added(states: Tensor | None, total: Tensor, norm: Any) -> tuple[Tensor, Tensor]:  # noqa: ANN401 - transformers' norm
    """Return ``total`` with ``states`` added, and that normalised."""
    if states is None:
        return total, rms_norm(total, norm.weight, norm.variance_epsilon)
    return add_rms_norm(states, total, norm.weight, norm.variance_epsilon)


def _turn(states: Tensor, cosine: Tensor, signed_sine: Tensor) -> Tensor:
    """Rotate (B, T, heads, width) by position."""
    return torch.addcmul(states * cosine, states.roll(states.shape[-1] // 2, dims=-1), signed_sine)
