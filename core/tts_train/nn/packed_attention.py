"""Causal attention over packed documents, registered with transformers under the name ``tts_packed``.

A model whose configuration says ``attn_implementation="tts_packed"`` takes three more keyword arguments in
``forward``: ``cu_seqlens`` (IntTensor (D + 1,), cumulative document lengths of a batch of one row), ``max_seqlen`` and
``lengths`` (the documents' lengths as a list). No token attends to another document and no mask is ever made. Without
them it is plain causal attention, also with a cache.

Documents that begin alike may share those positions, which everything but attention then computes once: ``expand``
brings the states to whole documents, which any kernel takes, and ``collapse`` brings the result back.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

from tts_train.nn.devices import runs_on
from tts_train.nn.kernels.varlen_attention import has_flash_kernel, varlen_attention

SHORT = 32
"""Positions of a row up to which plain products take less memory, and on a card less time, than a kernel."""
NAME = "tts_packed"
"""The value for ``attn_implementation``."""


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
    lengths: Sequence[int] | None = None,
    expand: Tensor | None = None,
    collapse: Tensor | None = None,
    dropout: float = 0.0,
    scale: float | None = None,
) -> Tensor:
    """Attend as ``packed_attention_thd`` does, in transformers' order: (1, heads, T, head_dim) in and out.

    With ``expand`` (tokens of all documents,), int64, a document's token is the position it points at, and with
    ``collapse`` (T,) each position's result is that of the token it points at. The gradient of a position is the sum
    over its tokens, in the same order in every run.
    """
    tokens_first = [_autocast(tensor).squeeze(0).transpose(0, 1) for tensor in (query, key, value)]
    if expand is not None:
        tokens_first = [_expanded(tensor, expand) for tensor in tokens_first]
    output = packed_attention_thd(
        *tokens_first, cu_seqlens=cu_seqlens, max_seqlen=max_seqlen, lengths=lengths, dropout=dropout, scale=scale
    )
    if collapse is not None:
        output = output.index_select(0, collapse)
    return output.transpose(0, 1).unsqueeze(0)


def _expanded(tensor: Tensor, expand: Tensor) -> Tensor:
    """Return the rows (N, heads, head_dim) of a tensor (T, heads, head_dim) at the positions ``expand`` (N,)."""
    # As a table of embeddings, whose backward sorts. That of index_select adds in any order on CUDA, so that the last
    # bits would differ from run to run where three documents or more share a position.
    return F.embedding(expand, tensor.flatten(1)).view(-1, *tensor.shape[1:])


def packed_attention_thd(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    cu_seqlens: Tensor,
    max_seqlen: int,
    lengths: Sequence[int] | None = None,
    dropout: float = 0.0,
    scale: float | None = None,
) -> Tensor:
    """Attend causally inside each document, tokens first, which is the order that projections leave.

    One kernel for all documents where there is one (CUDA, half precision), whose backward is deterministic; a loop
    over documents elsewhere.

    Args:
        query: (T, heads, head_dim).
        key: (T, key_heads, head_dim); ``heads`` is a multiple of ``key_heads``.
        value: (T, key_heads, head_dim).
        cu_seqlens: Cumulative lengths (D + 1,), int32, from 0 to T.
        max_seqlen: Longest document.
        lengths: The documents' lengths. The loop needs them, and reading them from ``cu_seqlens``, as None does, waits
            for the device.
        dropout: Dropout of the attention weights; above 0 the loop is used.
        scale: Factor on the scores, ``head_dim ** -0.5`` when None.

    Returns:
        (T, heads, head_dim), contiguous.
    """
    query, key, value = _autocast(query), _autocast(key), _autocast(value)
    if has_flash_kernel(query) and not dropout:
        query, key, value = (_rows(tensor) for tensor in (query, key, value))
        return varlen_attention(query, key, value, cu_seqlens.to(torch.int32), max_seqlen, scale)
    # Reads from the device, which callers avoid by bringing the lengths with the batch.
    lengths = cu_seqlens.diff().tolist() if lengths is None else lengths
    heads_first = (tensor.transpose(0, 1).unsqueeze(0) for tensor in (query, key, value))
    return _one_by_one(*heads_first, lengths=lengths, dropout=dropout, scale=scale).squeeze(0)


def _one_by_one(
    query: Tensor, key: Tensor, value: Tensor, *, lengths: Sequence[int], dropout: float, scale: float | None
) -> Tensor:
    """Attend in one document at a time; tensors as in ``packed_attention``, the result (1, T, heads, head_dim)."""
    pieces = zip(*(torch.split(tensor, list(lengths), dim=2) for tensor in (query, key, value)), strict=True)
    done = [causal_attention(q, k, v, dropout=dropout, scale=scale).transpose(1, 2) for q, k, v in pieces]
    return torch.cat(done, dim=1)


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
    lengths: Sequence[int] | None = None,
    expand: Tensor | None = None,
    collapse: Tensor | None = None,
    **_: object,
) -> tuple[Tensor, None]:
    """Answer transformers' attention call; the result is (B, T, heads, head_dim)."""
    if cu_seqlens is not None and max_seqlen is not None:
        documents = {"cu_seqlens": cu_seqlens, "max_seqlen": max_seqlen, "lengths": lengths}
        shared = {"expand": expand, "collapse": collapse}
        output = packed_attention(query, key, value, **documents, **shared, dropout=dropout, scale=scaling)  # type: ignore[arg-type]
        return output.transpose(1, 2).contiguous(), None
    queries, keys = query.shape[2], key.shape[2]
    if attention_mask is None and 1 < queries < keys:
        # Several new tokens after a cached prefix: is_causal would align the triangle with the wrong corner.
        attention_mask = torch.ones(queries, keys, dtype=torch.bool, device=query.device).tril(keys - queries)
    # One new token sees all keys; is_causal with one query would let it see the first only.
    causal = attention_mask is None and queries > 1
    # Utterances come with their lengths, whatever form they are in: what has none is frames, thousands of one size.
    if causal and max_seqlen is None and queries == keys <= SHORT and len(query) > 1 and not dropout:
        states = (_autocast(query), _autocast(key), _autocast(value))
        return short_attention(*states, scale=scaling).transpose(1, 2).contiguous(), None
    output = causal_attention(query, key, value, mask=attention_mask, dropout=dropout, is_causal=causal, scale=scaling)
    return output.transpose(1, 2).contiguous(), None


def short_attention(query: Tensor, key: Tensor, value: Tensor, *, scale: float | None = None) -> Tensor:
    """Attend causally in many rows of a few positions each, such as the codes of frames, by plain products.

    Flash attention's backward keeps a float32 sum for every 128 positions of a row begun: for rows of 16 that is eight
    times as much as there is to sum, and was a third of the memory of a step on an H200.

    Args:
        query: (B, heads, T, head_dim), T at most :data:`SHORT`.
        key: (B, key_heads, T, head_dim); ``heads`` is a multiple of ``key_heads``.
        value: (B, key_heads, T, head_dim).
        scale: Factor on the scores, ``head_dim ** -0.5`` when None.

    Returns:
        (B, heads, T, head_dim).
    """
    rows, heads, positions, width = query.shape
    groups = heads // key.shape[1]
    scale = width**-0.5 if scale is None else scale
    if query.dtype == torch.float16:
        # Its largest number is 65504, which unscaled scores pass. A power of two rounds nothing.
        early = 2.0 ** round(math.log2(scale))
        query, scale = query * early, scale / early
    # The queries of a group stand one below the other, so that its keys need no copy for each.
    scores = query.reshape(rows, -1, groups * positions, width) @ key.transpose(-1, -2)
    places = torch.arange(positions, device=query.device)
    later = places > places.repeat(groups)[:, None]
    # The softmax in float32 or wider, as the kernels have it; the scores were rounded to the states' type.
    wide = scores.to(torch.promote_types(scores.dtype, torch.float32)) * scale
    weights = wide.masked_fill(later, -torch.inf).softmax(dim=-1).to(value.dtype)
    return (weights @ value).view(rows, heads, positions, width)


def causal_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    mask: Tensor | None = None,
    dropout: float = 0.0,
    is_causal: bool = True,
    scale: float | None = None,
) -> Tensor:
    """Attend in rows of one length, or under a mask, with PyTorch's own choice of kernel.

    It is looked up late: a plan puts its own in the place.

    Args:
        query: (B, heads, T, head_dim).
        key: (B, key_heads, S, head_dim); ``heads`` is a multiple of ``key_heads``.
        value: (B, key_heads, S, head_dim).
        mask: Broadcast to (B, heads, T, S), True or 0 where a query looks; not with ``is_causal``.
        dropout: Dropout of the attention weights.
        is_causal: Whether a position sees none that follow it.
        scale: Factor on the scores, ``head_dim ** -0.5`` when None.

    Returns:
        (B, heads, T, head_dim).
    """
    grouped = query.shape[1] != key.shape[1]
    if grouped and runs_on(query.device) == "cuda" and (mask is not None or not has_flash_kernel(query)):
        # Only flash attention groups heads on CUDA, and it takes neither a mask nor float32. Without it the scores of
        # grouped heads would be computed whole, in memory.
        repeats, grouped = query.shape[1] // key.shape[1], False
        key, value = key.repeat_interleave(repeats, dim=1), value.repeat_interleave(repeats, dim=1)
    return F.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, dropout_p=dropout, is_causal=is_causal, scale=scale, enable_gqa=grouped
    )


def _mask(*args: object, attention_mask: Tensor | None = None, **kwargs: object) -> Tensor | None:
    """Make no mask unless the caller brought padding of its own (generation with left padding)."""
    return None if attention_mask is None else sdpa_mask(*args, attention_mask=attention_mask, **kwargs)


def _autocast(tensor: Tensor) -> Tensor:
    """Cast as autocast casts for SDPA: rotary embeddings leave float32 behind, and values are bfloat16 already."""
    device = tensor.device.type
    return tensor.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else tensor


def _rows(tensor: Tensor) -> Tensor:
    """Return a tensor whose last dimension is contiguous, which is all that the kernel asks for."""
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()
