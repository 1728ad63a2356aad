"""Causal attention over packed documents, registered with transformers under the name ``tts_packed``.

A model whose configuration says ``attn_implementation="tts_packed"`` takes two more keyword arguments in ``forward``:
``cu_seqlens`` (IntTensor (D + 1,), cumulative document lengths of a batch of one row) and ``max_seqlen``. No token
attends to another document and no mask is ever made. Without them it is plain causal attention, also with a cache.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

from tts_train.nn.target import planned_device

NAME = "tts_packed"
"""The value for ``attn_implementation``."""

_FLASH_TYPES = (torch.float16, torch.bfloat16)
_FLASH_HEAD = 256


def register() -> str:
    """Make ``tts_packed`` known to transformers and return its name; calling it again changes nothing."""
    AttentionInterface.register(NAME, _attention)
    AttentionMaskInterface.register(NAME, _mask)
    return NAME


def packed_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    cu_seqlens: Tensor,
    max_seqlen: int,
    dropout: float = 0.0,
    scale: float | None = None,
) -> Tensor:
    """Attend causally inside each document.

    One kernel for all documents where there is one (CUDA, half precision), a loop over documents elsewhere.

    Args:
        query: (1, heads, T, head_dim).
        key: (1, key_heads, T, head_dim); ``heads`` is a multiple of ``key_heads``.
        value: (1, key_heads, T, head_dim).
        cu_seqlens: Cumulative lengths (D + 1,), int32, from 0 to T.
        max_seqlen: Longest document.
        dropout: Dropout of the attention weights; above 0 the loop is used.
        scale: Factor on the scores, ``head_dim ** -0.5`` when None.

    Returns:
        (1, heads, T, head_dim).
    """
    query, key, value = _autocast(query), _autocast(key), _autocast(value)
    if _has_kernel(query) and not dropout:
        return _one_kernel(query, key, value, cu_seqlens=cu_seqlens, max_seqlen=max_seqlen, scale=scale)
    lengths = cu_seqlens.diff().tolist()
    grouped = query.shape[1] != key.shape[1]
    pieces = zip(*(torch.split(tensor, lengths, dim=2) for tensor in (query, key, value)), strict=True)
    done = [
        scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True, scale=scale, enable_gqa=grouped)
        for q, k, v in pieces
    ]
    return torch.cat(done, dim=2)


def _attention(
    module: torch.nn.Module,  # noqa: ARG001 - transformers' calling convention
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    *,
    cu_seqlens: Tensor | None = None,
    max_seqlen: int | None = None,
    **_: object,
) -> tuple[Tensor, None]:
    """Answer transformers' attention call; the result is (B, T, heads, head_dim)."""
    if cu_seqlens is not None and max_seqlen is not None:
        output = packed_attention(
            query, key, value, cu_seqlens=cu_seqlens, max_seqlen=max_seqlen, dropout=dropout, scale=scaling
        )
        return output.transpose(1, 2).contiguous(), None
    queries, keys = query.shape[2], key.shape[2]
    if attention_mask is None and 1 < queries < keys:
        # Several new tokens after a cached prefix: is_causal would align the triangle with the wrong corner.
        attention_mask = torch.ones(queries, keys, dtype=torch.bool, device=query.device).tril(keys - queries)
    output = scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=attention_mask,
        dropout_p=dropout,
        is_causal=attention_mask is None and queries > 1,
        scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return output.transpose(1, 2).contiguous(), None


def _mask(*args: object, attention_mask: Tensor | None = None, **kwargs: object) -> Tensor | None:
    """Make no mask unless the caller brought padding of its own (generation with left padding)."""
    return None if attention_mask is None else sdpa_mask(*args, attention_mask=attention_mask, **kwargs)


def _autocast(tensor: Tensor) -> Tensor:
    """Cast as autocast casts for SDPA: rotary embeddings leave float32 behind, and values are bfloat16 already."""
    device = tensor.device.type
    return tensor.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else tensor


def _has_kernel(query: Tensor) -> bool:
    if planned_device() == "cuda" and query.dtype in _FLASH_TYPES:
        return query.shape[-1] <= _FLASH_HEAD  # only the shapes are asked for, and a card will have the kernel
    if query.device.type != "cuda" or query.dtype not in _FLASH_TYPES or query.shape[-1] > _FLASH_HEAD:
        return False
    # Flash attention needs Ampere or later; on ROCm the capability is another scale and the kernel is always there.
    return torch.version.hip is not None or torch.cuda.get_device_capability(query.device) >= (8, 0)


def _one_kernel(
    query: Tensor, key: Tensor, value: Tensor, *, cu_seqlens: Tensor, max_seqlen: int, scale: float | None
) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    known = inspect.signature(varlen_attn).parameters
    # torch 2.10 has is_causal, 2.11 a window instead; only later ones say that they group heads, so heads are repeated.
    options: dict[str, Any] = {"is_causal": True} if "is_causal" in known else {"window_size": (-1, 0)}
    if "enable_gqa" in known:
        options["enable_gqa"] = True
    else:
        repeats = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(repeats, dim=1), value.repeat_interleave(repeats, dim=1)
    if "scale" in known:
        options["scale"] = scale
    elif scale is not None:
        query = query * (scale * query.shape[-1] ** 0.5)
    q, k, v = (tensor[0].transpose(0, 1).contiguous() for tensor in (query, key, value))
    cumulative = cu_seqlens.to(torch.int32)
    output: Any = varlen_attn(q, k, v, cumulative, cumulative, max_seqlen, max_seqlen, **options)
    result: Tensor = output.transpose(0, 1).unsqueeze(0)
    return result
