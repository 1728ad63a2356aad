"""Attention of one new token a row over a cache of fixed size, of which each row has filled its own length.

Query heads that share a key head are read as one group, so that no key or value is repeated or copied. On CUDA in half
precision one flash kernel reads each row's own length only, whatever the cache has room for; elsewhere the unfilled
part is masked.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from tts_train.nn.kernels.varlen_attention import has_flash_kernel


@dataclass(frozen=True)
class Reach:
    """How far each row may look in this step; made once and used by every layer."""

    lengths: Tensor
    """Filled places of each row (B,), int32."""
    bounds: Tensor
    """Where each row's queries and keys begin, (2, B + 1), int32: what a kernel for packed rows asks for."""
    bias: Tensor | None
    """(B, 1, 1, capacity): 0 where a row may look, minus infinity elsewhere; None where the kernel needs none."""


def reach(lengths: Tensor, bounds: Tensor, like: Tensor, capacity: int) -> Reach:
    """Return how far rows of ``lengths`` (B,) look into a cache whose keys have the type and device of ``like``."""
    lengths = lengths.to(torch.int32)
    # On ROCm another kernel stands behind the operator, with which each row's own length was not tried.
    if has_flash_kernel(like) and torch.version.hip is None:
        return Reach(lengths, bounds, None)
    places = torch.arange(capacity, device=lengths.device)
    far = places >= lengths[:, None]
    bias = torch.zeros(far.shape, dtype=like.dtype, device=like.device).masked_fill_(far, -torch.inf)
    return Reach(lengths, bounds, bias[:, None, None])


def row_bounds(rows: int, capacity: int, device: torch.device) -> Tensor:
    """Return :attr:`Reach.bounds` of a cache of ``rows`` rows of ``capacity`` places."""
    counts = torch.arange(rows + 1, dtype=torch.int32, device=device)
    return torch.stack([counts, counts * capacity])


def decode_attention(query: Tensor, keys: Tensor, values: Tensor, reach: Reach, *, scale: float) -> Tensor:
    """Attend from one token a row to the filled places of the row's cache.

    Args:
        query: (B, heads, head_dim); ``heads`` is a multiple of ``key_heads``.
        keys: (B, capacity, key_heads, head_dim), contiguous where the kernel runs.
        values: The same.
        reach: From :func:`reach`.
        scale: Factor on the scores.

    Returns:
        (B, heads, head_dim).
    """
    rows, capacity, key_heads, width = keys.shape
    if reach.bias is None:
        # The cache of all rows is given as one packed row, in which `seqused_k` says how much of each document counts.
        output: Tensor = torch.ops.aten._flash_attention_forward(
            query,
            keys.view(rows * capacity, key_heads, width),
            values.view(rows * capacity, key_heads, width),
            reach.bounds[0],
            reach.bounds[1],
            1,
            capacity,
            0.0,
            False,
            False,
            scale=scale,
            seqused_k=reach.lengths,
        )[0]
        return output
    # Heads of a group stand where a sequence's tokens would: with one new token there is no order among them.
    grouped = query.reshape(rows, key_heads, -1, width)
    bias = reach.bias.expand(rows, key_heads, grouped.shape[2], capacity)
    attended = F.scaled_dot_product_attention(
        grouped, keys.transpose(1, 2), values.transpose(1, 2), attn_mask=bias, scale=scale
    )
    return attended.reshape(query.shape)
