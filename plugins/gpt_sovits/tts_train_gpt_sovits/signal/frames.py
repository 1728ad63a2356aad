"""Operations on frames: masks, upsampling, mirrored edges, full precision, and attention with a mask.

Gradients are the same in every run, on a GPU too, which those of torch's own operations are not.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.nn import functional as F

from tts_train.nn import deterministic_kernels


def length_mask(lengths: Tensor, frames: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return the mask (B, 1, frames) of utterances of ``lengths`` (B,) frames."""
    positions = torch.arange(frames, device=lengths.device)
    return (positions < lengths[:, None])[:, None].to(dtype)


def full_precision(x: Tensor) -> torch.autocast:
    """Return a context in which what is computed of ``x`` keeps its types under autocast."""
    # For distances, spectrograms and codebooks, whose differences 16 bits would lose.
    return torch.autocast(x.device.type, enabled=False)


def upsample(x: Tensor, factor: float) -> Tensor:
    """Return ``x`` with each frame repeated, int(T * factor) frames in all."""
    return F.interpolate(x, scale_factor=factor, mode="nearest")


def reflect(x: Tensor, before: int, after: int) -> Tensor:
    """Return (..., T) with both edges mirrored, as ``F.pad`` with ``mode="reflect"`` gives it.

    Put together of slices, since the gradient of that padding has no deterministic kernel on CUDA.

    Raises:
        ValueError: if there are not more frames than are to be mirrored.
    """
    if max(before, after) >= x.shape[-1]:
        raise ValueError(
            f"{x.shape[-1]} frames cannot be mirrored by {before} and {after}: there must be more of them."
        )
    if not before and not after:
        return x
    mirrored: Tensor = _Reflect.apply(x, before, after)  # type: ignore[no-untyped-call]
    return mirrored


class _Reflect(torch.autograd.Function):
    """One gradient for all of it, which is added to others in the order of torch's own padding."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, before: int, after: int) -> Tensor:  # noqa: ANN401 - torch adds the attributes
        ctx.sizes = before, after
        return torch.cat([x[..., 1 : before + 1].flip(-1), x, x[..., -after - 1 : -1].flip(-1)], dim=-1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:  # noqa: ANN401 - torch adds the attributes
        (before, after), (given,) = ctx.sizes, gradients
        frames = given.shape[-1] - before - after
        moved = given[..., before : before + frames].clone()
        moved[..., 1 : before + 1] += given[..., :before].flip(-1)
        moved[..., frames - after - 1 : frames - 1] += given[..., before + frames :].flip(-1)
        return moved, None, None


_aten = torch.ops.aten

_ALIGNMENT = 8
"""The memory-efficient kernel wants rows of the mask this many numbers apart, and copies the mask otherwise."""


def additive_mask(seen: Tensor, like: Tensor) -> Tensor:
    """Return what is added to scores: 0 where ``seen`` is True, minus infinity elsewhere; made once for all layers.

    Args:
        seen: bool, of any shape, the keys last.
        like: States that queries will be made of; the mask has the type that attention computes in.
    """
    keys = seen.shape[-1]
    # A view of a wider table: the rows lie apart as the kernel wants them, and nothing is copied.
    room = -(-keys // _ALIGNMENT) * _ALIGNMENT
    added = torch.zeros(*seen.shape[:-1], room, dtype=_computed(like), device=seen.device)[..., :keys]
    return added.masked_fill_(~seen, -torch.inf)


def attend(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor, *, dropout: float = 0.0, scale: float | None = None
) -> Tensor:
    """Return ``F.scaled_dot_product_attention`` with an additive mask.

    On CUDA the backward pass of the memory-efficient kernel adds the queries' gradients in any order unless it is told
    otherwise, which is done here, for this operator alone.

    Args:
        query: (B, heads, queries, channels of a head).
        key: (B, heads, keys, channels of a head), as is ``value``.
        value: Values.
        mask: Of :func:`additive_mask`; its shape spreads to (B, heads, queries, keys). It gets no gradient.
        dropout: Share of the weights that is dropped.
        scale: Factor of the scores; None for one by the root of a head's channels.
    """
    # Only sums of the backward pass come in any order; without gradients every kernel will do.
    if query.is_cuda and torch.is_grad_enabled() and any(each.requires_grad for each in (query, key, value)):
        query, key, value = (each.to(_computed(each)) for each in (query, key, value))
        asked = torch.backends.cuda.SDPAParams(query, key, value, mask, dropout, False, False)
        if torch.backends.cuda.can_use_efficient_attention(asked):
            # The kernel takes no broadcast mask; an expanded one costs no memory.
            spread = mask.expand(*query.shape[:-1], key.shape[-2])
            done: Tensor = _Efficient.apply(query, key, value, spread, dropout, scale)  # type: ignore[no-untyped-call]
            return done
    # Looked up here and now: a plan puts the kernel of another device in its place.
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout, scale=scale)


class _Efficient(torch.autograd.Function):
    """The memory-efficient kernel, its backward pass without key splits, whose sums are atomic additions."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, dropout: float, scale: float | None
    ) -> Tensor:
        done, sums, seed, offset = _aten._scaled_dot_product_efficient_attention(
            query, key, value, mask, True, dropout, False, scale=scale
        )
        ctx.save_for_backward(query, key, value, mask, done, sums, seed, offset)
        ctx.dropout, ctx.scale = dropout, scale  # type: ignore[attr-defined]
        made: Tensor = done
        return made

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401 - torch adds the tensors
        query, key, value, mask, done, sums, seed, offset = ctx.saved_tensors
        wanted = [*ctx.needs_input_grad[:3], False]
        with deterministic_kernels():
            moves = _aten._scaled_dot_product_efficient_attention_backward(
                gradients[0],
                query,
                key,
                value,
                mask,
                done,
                sums,
                seed,
                offset,
                ctx.dropout,
                wanted,
                False,
                scale=ctx.scale,
            )
        asked = zip(moves[:3], wanted[:3], strict=True)
        return *(move if needed else None for move, needed in asked), None, None, None


def _computed(states: Tensor) -> torch.dtype:
    """Return the type that attention computes in: under autocast its own, except for float64."""
    kind = states.device.type
    if states.dtype != torch.float64 and torch.is_autocast_enabled(kind):
        return torch.get_autocast_dtype(kind)
    return states.dtype
