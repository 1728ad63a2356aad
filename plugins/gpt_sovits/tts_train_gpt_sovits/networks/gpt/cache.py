"""Keys and values of every layer while speech is drawn, in room for all tokens to come."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from tts_train_gpt_sovits.networks.gpt.network import Attend, GptNetwork
from tts_train_gpt_sovits.networks.masked_attention import additive_mask, attend


class Cache:
    """Keys and values of utterances side by side.

    Args:
        network: Whose they are.
        starts: Tokens of each utterance's text and prompt.
        room: Codes that may follow.
    """

    def __init__(self, network: GptNetwork, starts: Sequence[int], room: int) -> None:
        config, weight = network.config, network.head.weight
        shape = (config.layers, 2, len(starts), config.heads, max(starts) + room, config.width // config.heads)
        dtype = weight.dtype
        if torch.is_autocast_enabled(weight.device.type):
            dtype = torch.get_autocast_dtype(weight.device.type)
        self._kept = torch.empty(shape, dtype=dtype, device=weight.device)
        if len(set(starts)) > 1:
            self._kept.zero_()  # what a shorter utterance's mask hides must be numbers
        self._starts = list(starts)
        self._places = torch.tensor(self._starts).to(weight.device, non_blocking=True)
        self._rows = torch.arange(len(starts), device=weight.device)
        self._steps = 0

    def attend_prefix(self, row: int, texts: int) -> Attend:
        """Return attention of the text, which sees itself, and the prompt, which sees the text and what is before."""

        def attention(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            kept = self._kept[layer, :, row, :, : len(query)]
            kept[0], kept[1] = key.transpose(0, 1), value.transpose(0, 1)
            queries, (keys, values) = query.transpose(0, 1)[None], kept[:, None].unbind()
            text = F.scaled_dot_product_attention(queries[:, :, :texts], keys[:, :, :texts], values[:, :, :texts])
            causal = F.scaled_dot_product_attention(queries, keys, values, is_causal=True)
            return torch.cat([text, causal[:, :, texts:]], dim=2)[0].transpose(0, 1).flatten(1)

        return attention

    def attend_next(self) -> Attend:
        """Return attention of one more token of each utterance, which sees all before it."""
        filled = max(self._starts) + self._steps + 1
        places, self._steps = self._places + self._steps, self._steps + 1
        alike = len(set(self._starts)) == 1
        seen = None if alike else torch.arange(filled, device=places.device) <= places[:, None]
        mask: Tensor | None = None

        def attention(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            nonlocal mask
            kept = self._kept[layer]
            if alike:
                kept[0, :, :, filled - 1], kept[1, :, :, filled - 1] = key, value
            else:
                kept[0, self._rows, :, places], kept[1, self._rows, :, places] = key, value
            keys, values = kept[:, :, :, :filled].unbind()
            queries = query[:, :, None]
            if seen is None:
                return F.scaled_dot_product_attention(queries, keys, values).flatten(1)
            mask = additive_mask(seen[:, None, None], query) if mask is None else mask
            return attend(queries, keys, values, mask).flatten(1)

        return attention
