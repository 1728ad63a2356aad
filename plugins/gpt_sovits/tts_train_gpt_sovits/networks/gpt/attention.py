"""Attention over packed utterances, span by span on a CPU, in one padded call elsewhere; and a dropout for CPUs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.nn import functional as F

from tts_train.nn import kept_table, runs_on
from tts_train_gpt_sovits.networks.gpt.packing import Grid, Span
from tts_train_gpt_sovits.signal.frames import additive_mask, attend


def attend_spans(query: Tensor, key: Tensor, value: Tensor, spans: Sequence[Span], dropout: float = 0.0) -> Tensor:
    """Attend span by span.

    Args:
        query: (N, heads, channels of a head), as are ``key`` and ``value``.
        key: Keys.
        value: Values.
        spans: What attends to what; they follow one another and cover all tokens.
        dropout: Share of the attention weights that is dropped.

    Returns:
        (N, heads * channels).
    """
    if dropout and runs_on(query.device) == "cpu":
        # Only with dropout: without it torch has a fused kernel for CPUs.
        done: Tensor = _Dropped.apply(query, key, value, spans, dropout)  # type: ignore[no-untyped-call]
        return done.flatten(1)
    pieces = []
    for span in spans:
        keys, values = (_heads(each, span.seen_and_own) for each in (key, value))
        mask = _later(span.end - span.start, keys.shape[1], query.dtype, query.device) if span.causal else None
        own = _heads(query, [(span.start, span.end)])
        pieces.append(
            F.scaled_dot_product_attention(own[None], keys[None], values[None], attn_mask=mask, dropout_p=dropout)[0]
        )
    return torch.cat(pieces, dim=1).transpose(0, 1).flatten(1)


class PaddedRows:
    """How a batch's packed tokens lie in the grid, and what each sees: made once a step for all layers.

    Args:
        grid: The grid.
        like: States that queries will be made of.
    """

    def __init__(self, grid: Grid, like: Tensor) -> None:
        self.shape = grid.tokens.shape
        self.tokens = grid.tokens.flatten()
        self.cells = grid.cells
        # Padding repeats token 0, whose own cell is the first.
        self.filler = self.tokens == 0
        # The first cell is token 0 itself and not padding; its gradient must stay.
        self.filler[:1] = False
        self.mask = additive_mask(grid_mask(grid), like)

    def spread(self, packed: Tensor) -> Tensor:
        """Lay packed tokens (N, heads, channels) into (B, heads, S, channels)."""
        cells: Tensor = _Spread.apply(packed, self)  # type: ignore[no-untyped-call]
        return cells.view(*self.shape, *packed.shape[1:]).transpose(1, 2)

    def collect(self, padded: Tensor) -> Tensor:
        """Return the packed tokens (N, heads, channels) of (B, heads, S, channels)."""
        packed: Tensor = _Collect.apply(padded.transpose(1, 2).flatten(0, 1), self)  # type: ignore[no-untyped-call]
        return packed


def attend_grid(query: Tensor, key: Tensor, value: Tensor, rows: PaddedRows, dropout: float = 0.0) -> Tensor:
    """Attend row by row of the grid, in one call; the same result as ``attend_spans`` where nothing is dropped."""
    query, key, value = (rows.spread(each) for each in (query, key, value))
    return rows.collect(attend(query, key, value, rows.mask, dropout=dropout)).flatten(1)


def grid_mask(grid: Grid) -> Tensor:
    """Return which column each cell sees, (B, 1, S, S)."""
    column = torch.arange(grid.tokens.shape[1], device=grid.tokens.device)
    seen = (column <= grid.reach[..., None]) & ((column < grid.gap[..., None]) | (column >= grid.resume[..., None]))
    return seen[:, None]


class _Spread(torch.autograd.Function):
    """Packed tokens to cells. Each token has one cell that counts, so its gradient is read there and nothing is added.

    What padding repeats gets no gradient: nothing reads what padding asks, and no token sees it.
    """

    @staticmethod
    def forward(ctx: Any, packed: Tensor, rows: PaddedRows) -> Tensor:  # noqa: ANN401 - torch adds the attributes
        ctx.rows = rows
        # Autograd's own gradient of this adds rows in any order on CUDA; that of this class only reads them.
        return packed.index_select(0, rows.tokens)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401 - torch adds the attributes
        return gradients[0].index_select(0, ctx.rows.cells), None


class _Collect(torch.autograd.Function):
    """Cells to packed tokens; in backward padding gets zeros."""

    @staticmethod
    def forward(ctx: Any, padded: Tensor, rows: PaddedRows) -> Tensor:  # noqa: ANN401 - torch adds the attributes
        ctx.rows = rows
        return padded.index_select(0, rows.cells)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401 - torch adds the attributes
        rows = ctx.rows
        return gradients[0].index_select(0, rows.tokens).masked_fill_(rows.filler[:, None, None], 0.0), None


class _Dropped(torch.autograd.Function):
    """Attention whose weights are dropped, for CPUs, which have no fused kernel of it.

    By hand, since what stands in for the kernel goes over the weights many times and keeps five copies of them; this
    keeps two. The gradient of the softmax needs the sum over a row of weights times their gradients, which is that of
    the output times its own (Dao et al. 2022, arXiv 2205.14135, section B.2).
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx, query: Tensor, key: Tensor, value: Tensor, spans: Sequence[Span], share: float
    ) -> Tensor:
        done = torch.empty_like(query, memory_format=torch.contiguous_format)
        kept = []
        # Products and softmax in float32, whatever autocast says: 16-bit scores would be rounded before the softmax.
        with torch.autocast("cpu", enabled=False):
            for span in spans:
                own, keys, values = _operands(query, key, value, span)
                weights = _weights(own, keys, causal=span.causal)
                dropped = gates(weights, share).mul_(weights)
                done[span.start : span.end] = (dropped @ values).transpose(0, 1)
                kept += [weights, dropped]
        ctx.save_for_backward(query, key, value, done, *kept)
        ctx.spans = spans  # type: ignore[attr-defined]
        return done

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401 - torch adds the tensors
        query, key, value, done, *kept = ctx.saved_tensors
        wide = _wide(query)
        moves = [torch.zeros(each.shape, dtype=wide) for each in (query, key, value)]
        for span, weights, dropped in zip(ctx.spans, kept[::2], kept[1::2], strict=True):
            own, keys, values = _operands(query, key, value, span)
            after = _heads(gradients[0].to(wide), [(span.start, span.end)])
            sums = (after * _heads(done.to(wide), [(span.start, span.end)])).sum(-1, keepdim=True)
            scores = (after @ values.transpose(1, 2)).mul_(dropped).addcmul_(weights, sums, value=-1)
            moves[0][span.start : span.end] = (scores @ keys).transpose(0, 1)
            _scatter(moves[1], scores.transpose(1, 2) @ own, span.seen_and_own)
            _scatter(moves[2], dropped.transpose(1, 2) @ after, span.seen_and_own)
        # The queries were scaled on the way in, so their gradient is scaled on the way out.
        moves[0] *= query.shape[2] ** -0.5
        return *(move.to(query.dtype) for move in moves), None, None


def _operands(query: Tensor, key: Tensor, value: Tensor, span: Span) -> tuple[Tensor, Tensor, Tensor]:
    """Return a span's scaled queries and what they see (heads, tokens, channels), in float32 or wider."""
    wide = _wide(query)
    own = _heads(query, [(span.start, span.end)]).to(wide) * query.shape[2] ** -0.5
    keys, values = (_heads(each, span.seen_and_own).to(wide) for each in (key, value))
    return own, keys, values


def _weights(own: Tensor, keys: Tensor, *, causal: bool) -> Tensor:
    if not causal:
        return (own @ keys.transpose(1, 2)).softmax(-1)
    later = _later(own.shape[1], keys.shape[1], own.dtype, own.device)
    return torch.baddbmm(later, own, keys.transpose(1, 2)).softmax(-1)


def _wide(tensor: Tensor) -> torch.dtype:
    return torch.promote_types(tensor.dtype, torch.float32)


def _heads(tensor: Tensor, ranges: Sequence[tuple[int, int]]) -> Tensor:
    """Return some tokens of (N, heads, channels) as (heads, tokens, channels)."""
    pieces = [tensor[start:end] for start, end in ranges]
    return (pieces[0] if len(pieces) == 1 else torch.cat(pieces)).transpose(0, 1)


def _scatter(total: Tensor, added: Tensor, ranges: Sequence[tuple[int, int]]) -> None:
    """Add (heads, tokens, channels) to the tokens that `_heads` took."""
    sizes = [end - start for start, end in ranges]
    for (start, end), piece in zip(ranges, torch.split(added.transpose(0, 1), sizes), strict=True):
        total[start:end] += piece


def _later(queries: int, keys: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return what is added to scores (queries, keys): minus infinity for keys after a query; the last one sees all."""
    # Kept tables of few sizes, of which each call reads a corner, rather than one made for every span.
    size = -(-keys // 512) * 512
    return _triangle(size, dtype, device)[keys - queries : keys, :keys]


@kept_table
def _triangle(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.full((size, size), -torch.inf, dtype=dtype, device=device).triu(1)


_STEPS = 65_536


def dropout(states: Tensor, share: float, *, training: bool = True) -> Tensor:
    """Set a share of the elements to 0 and scale the others so that the expectation stays.

    On a CPU the share is a multiple of 1/65536, the nearest to the one given, and the scale is that of the share drawn.
    """
    if not training or share <= 0:
        return states
    if runs_on(states.device) != "cpu" or share >= 1:
        return F.dropout(states, share)
    return states * gates(states, share)


def relu_dropout(states: Tensor, share: float, *, training: bool = True) -> Tensor:
    """Return ``dropout`` of the positive part; on a CPU in one product, which keeps one tensor for backward."""
    if not training or share <= 0 or runs_on(states.device) != "cpu" or share >= 1:
        return dropout(F.relu(states), share, training=training)
    return states * gates(states, share, positive=True)


def gates(states: Tensor, share: float, *, positive: bool = False) -> Tensor:
    """Draw what ``dropout`` multiplies a CPU's states by: 0 for a share of them, for the others what makes up for it.

    Args:
        states: Only shape and type count.
        share: Share to drop, below 1.
        positive: Also drop what is not above 0.
    """
    dropped = round(share * _STEPS)
    count = states.numel()
    # 64 random bits are four numbers of 16.
    draws = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(2**63), None).view(torch.int16)
    # Whole numbers, so that what lies between 0 and 1 is none; a comparison would take several times as long.
    drawn = draws[:count].view(states.shape).to(torch.promote_types(states.dtype, torch.float32))
    kept = drawn.sub_(dropped - _STEPS // 2 - 1).clamp_(0, 1)
    if positive:
        kept.mul_(states.detach().to(kept.dtype, copy=True).gt_(0))
    return kept.mul_(_STEPS / max(_STEPS - dropped, 1)).to(states.dtype)
