"""The output layer and its cross-entropy in one step, a chunk of tokens at a time.

A language model's logits are its largest tensor by far: 8,192 tokens over 156,940 entries are 4.8 GiB in float32, and
plain autograd keeps several copies. Here a chunk's logits become its losses, its predictions and its gradients at
once and are dropped, so that the peak is one chunk; backward only scales what forward stored. The idea is that of
Wijmans et al. 2024 (arXiv 2411.09009) and Hsu et al. 2024 (arXiv 2410.10989), here with plain matrix products.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tts_train.nn import kernels
from tts_train.nn.chunk_logits import LogitsBuffers, add_product, highest_logits, product_in
from tts_train.nn.kernels.cross_entropy import TYPES, cross_entropy

IGNORE = -100
"""Targets with this value carry no loss."""

# Factor on slopes in float16, whose smallest ones would be rounded away before a loss scale is applied. Without their
# signs a token's slopes add up to no more than 2, so that its product with a matrix of weights stays in range.
_HALF_SCALE = 1024.0


@dataclass(frozen=True, kw_only=True)
class RowGroup:
    """Tokens whose softmax runs over some rows of the output matrix only."""

    tokens: Tensor
    """Indices (m,) into the tokens that carry a loss, int64, ascending."""
    rows: tuple[tuple[int, int], ...]
    """Half-open row ranges, ascending and disjoint. The targets of the group's tokens must lie in them."""


@dataclass(frozen=True, kw_only=True)
class HeadOutput:
    """Loss and by-products over the M tokens whose target is not ignored, in their original order."""

    loss_sum: Tensor
    """Sum of the token losses in nats; the only field with a gradient."""
    targets: Tensor
    """Target ids (M,)."""
    losses: Tensor
    """Loss of each token (M,), detached, float32 (float64 for float64 input)."""
    predictions: Tensor
    """Most likely id of each token (M,) among the rows that its softmax saw."""

    @property
    def count(self) -> int:
        """Number of tokens that carry a loss."""
        return self.targets.numel()


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    kept: Tensor | None = None,
    chunk_tokens: int = 1024,
    row_groups: Sequence[RowGroup] = (),
    fused: bool = True,
) -> HeadOutput:
    """Sum the cross-entropy of ``softmax(hidden @ weight.T)`` against ``targets`` without the whole logits.

    Gradients are made in forward, for those of ``hidden`` and ``weight`` that need one, and can be used once: a second
    backward through the same result raises. Under autocast the products run in autocast's type. The softmax is always
    float32 or wider; the weight's gradient is summed over chunks in the weight's own type.

    Args:
        hidden: Hidden states (N, H).
        weight: Output matrix (V, H), tied to the embedding or not.
        targets: Target ids (N,), ``IGNORE`` where there is no loss.
        kept: Indices (M,) of the targets that are not ``IGNORE``, int64, ascending. Who knows them on the CPU already
            gives them, so that no step waits for the device to count; None looks for them.
        chunk_tokens: Tokens whose logits exist at a time.
        row_groups: Tokens with a restricted softmax; the ids of targets and predictions stay those of all rows. Where
            there are groups, each kept token is in exactly one, if need be in one of all rows.
        fused: Use the kernel that makes losses and gradients in one pass, where there is one.

    Raises:
        ValueError: if the groups hold more or fewer tokens than are kept.
    """
    # Compact rows first: prompts and padding carry no loss, and their logits would be most of the work.
    kept = (targets != IGNORE).nonzero().squeeze(1) if kept is None else kept
    targets = targets.index_select(0, kept)
    softmaxes = _softmaxes(kept.numel(), row_groups, weight.shape[0])
    loss_sum, losses, predictions = _FusedHead.apply(  # type: ignore[no-untyped-call]
        hidden, weight, targets, kept, chunk_tokens, softmaxes, fused, torch.is_grad_enabled()
    )
    return HeadOutput(loss_sum=loss_sum, targets=targets, losses=losses, predictions=predictions)


_Softmaxes = list[tuple["Tensor | None", tuple[tuple[int, int], ...]]]


def _softmaxes(kept: int, row_groups: Sequence[RowGroup], vocabulary: int) -> _Softmaxes:
    """Return (the kept tokens' indices, their row ranges) of each group with tokens; None stands for all tokens."""
    if not row_groups:
        return [(None, ((0, vocabulary),))]
    grouped = sum(group.tokens.numel() for group in row_groups)
    if grouped != kept:
        raise ValueError(f"The row groups hold {grouped} tokens and {kept} carry a loss; each must be in one group.")
    return [(group.tokens, group.rows) for group in row_groups if group.tokens.numel()]


class _FusedHead(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - autograd's context takes any attribute
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        kept: Tensor,
        chunk_tokens: int,
        softmaxes: _Softmaxes,
        fused: bool,
        grad_enabled: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        compute = _compute_dtype(weight)
        # A sum of exp over 150,000 entries loses too much in bfloat16, whose step at 1 is 1/128.
        wide = torch.promote_types(compute, torch.float32)
        fused = fused and compute in TYPES and kernels.fused(hidden)
        scale = _HALF_SCALE if compute == torch.float16 else 1.0
        # needs_input_grad looks at the tensors only and is true under no_grad too.
        needs_hidden, needs_weight = (grad_enabled and needed for needed in ctx.needs_input_grad[:2])
        losses = torch.empty(targets.shape, dtype=wide, device=hidden.device)
        predictions = torch.empty_like(targets)
        grad_hidden = torch.zeros_like(hidden) if needs_hidden else None
        grad_weight = torch.zeros_like(weight) if needs_weight else None
        # The types are chosen above; autocast would cast the products of the plain branch again, each chunk.
        with torch.autocast(hidden.device.type, enabled=False):
            matrix = weight.detach().to(compute)
            buffers = LogitsBuffers(
                _largest_chunks(softmaxes, targets.numel(), chunk_tokens), matrix, wide, fused=fused
            )
            for index, rows in softmaxes:
                part = _Part(matrix, rows, grad_weight, buffers, fused=fused, scale=scale)
                for chunk in _chunks(targets.numel() if index is None else index, chunk_tokens):
                    states = hidden.detach()[kept[chunk]].to(compute)
                    losses[chunk], predictions[chunk], slopes = part.step(
                        states, targets[chunk], need_slopes=needs_hidden
                    )
                    if grad_hidden is not None and slopes is not None:
                        grad_hidden[kept[chunk]] = product_in(hidden.dtype, slopes, part.matrix)
                # Groups may share rows of the matrix, so each group's sum is added when it is complete.
                part.close()
        ctx.gradients = (grad_hidden, grad_weight)
        ctx.scale = scale
        ctx.mark_non_differentiable(losses, predictions)
        return losses.sum(), losses, predictions

    @staticmethod
    def backward(
        ctx: Any,  # noqa: ANN401
        grad_loss: Tensor,
        *_: Tensor,
    ) -> tuple[Tensor | None, ...]:
        if ctx.gradients is None:
            raise RuntimeError("linear_cross_entropy: its gradients were already used; a second backward cannot be.")
        grad_hidden, grad_weight = ctx.gradients
        # Dropped here so that autograd may take the buffers over instead of copying them.
        ctx.gradients = None
        if grad_hidden is not None:
            # The slopes were made larger by the scale for float16 only, and are made smaller with the loss's own
            # factor.
            grad_hidden.mul_(grad_loss if ctx.scale == 1 else grad_loss / ctx.scale)
        if grad_weight is not None:
            grad_weight.mul_(grad_loss)
        return grad_hidden, grad_weight, None, None, None, None, None, None


def _chunks(tokens: Tensor | int, size: int) -> Iterator[Tensor | slice]:
    """Cut indices, or a number of tokens, into pieces of ``size``."""
    if isinstance(tokens, int):
        yield from (slice(start, min(start + size, tokens)) for start in range(0, tokens, size))
    else:
        yield from torch.split(tokens, size)


class _Part:
    """The rows of the output matrix that one group of tokens sees, and their gradient."""

    def __init__(
        self,
        matrix: Tensor,
        rows: tuple[tuple[int, int], ...],
        grad_weight: Tensor | None,
        buffers: LogitsBuffers,
        *,
        fused: bool,
        scale: float,
    ) -> None:
        self.rows = rows
        self.buffers = buffers
        self.fused = fused
        self.scale = scale
        self.views = [] if grad_weight is None else [grad_weight[start:end] for start, end in rows]
        self.matrix = matrix[rows[0][0] : rows[0][1]]
        self.gradient = self.views[0] if self.views else None
        if len(rows) > 1:
            # One product for scattered rows is faster than one for each range, for a copy of few rows.
            self.matrix = torch.cat([matrix[start:end] for start, end in rows])
            self.gradient = None if grad_weight is None else torch.zeros_like(self.matrix, dtype=grad_weight.dtype)

    def step(self, states: Tensor, targets: Tensor, *, need_slopes: bool) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return one chunk's losses, predictions and scaled slopes of its logits; add to the weight's gradient."""
        need_slopes = need_slopes or self.gradient is not None
        logits = self.buffers.product(states, self.matrix)
        local = self._to_local(targets)
        make = self._fused if self.fused else self._plain
        losses, predicted, slopes = make(logits, local, need_slopes=need_slopes)
        if self.gradient is not None and slopes is not None:
            add_product(self.gradient, slopes, states, scale=self.scale)
        return losses, self._to_global(predicted), slopes

    def _fused(self, logits: Tensor, targets: Tensor, *, need_slopes: bool) -> tuple[Tensor, Tensor, Tensor | None]:
        losses, predicted = cross_entropy(logits, targets, self.scale, need_slopes)
        return losses, predicted, logits if need_slopes else None

    def _plain(self, logits: Tensor, targets: Tensor, *, need_slopes: bool) -> tuple[Tensor, Tensor, Tensor | None]:
        local = targets.unsqueeze(1)
        highest, predicted = highest_logits(logits)
        target_logits = logits.gather(1, local)
        # From here on the one buffer is in turn exp(logits), softmax and softmax minus one-hot.
        # The maximum is taken off first: exp of a logit above 88 overflows float32.
        total = logits.sub_(highest).exp_().sum(dim=1, keepdim=True)
        losses = total.log().add_(highest).sub_(target_logits).squeeze(1)
        if not need_slopes:
            return losses, predicted.squeeze(1), None
        logits.div_(total).scatter_add_(1, local, torch.full_like(target_logits, -1.0))
        if self.scale != 1:
            logits.mul_(self.scale)
        return losses, predicted.squeeze(1), self.buffers.narrow(logits)

    def close(self) -> None:
        """Put the gathered rows' gradient where it belongs."""
        if len(self.rows) > 1 and self.gradient is not None:
            sizes = [end - start for start, end in self.rows]
            for view, piece in zip(self.views, torch.split(self.gradient, sizes), strict=True):
                view.add_(piece)

    # Ids are mapped by arithmetic with the ranges' bounds: a table of the vocabulary would have to lie on the device.
    def _to_local(self, ids: Tensor) -> Tensor:
        local, offset = ids - self.rows[0][0], self.rows[0][1] - self.rows[0][0]
        for start, end in self.rows[1:]:
            local = torch.where(ids >= start, ids - start + offset, local)
            offset += end - start
        return local

    def _to_global(self, local: Tensor) -> Tensor:
        ids, offset = local + self.rows[0][0], self.rows[0][1] - self.rows[0][0]
        for start, end in self.rows[1:]:
            ids = torch.where(local >= offset, local - offset + start, ids)
            offset += end - start
        return ids


def _largest_chunks(softmaxes: _Softmaxes, tokens: int, chunk_tokens: int) -> list[tuple[int, int]]:
    """Return each group's most tokens at a time, and the logits of each."""
    sizes = [tokens if index is None else index.numel() for index, _ in softmaxes]
    widths = [sum(end - start for start, end in rows) for _, rows in softmaxes]
    return [(min(size, chunk_tokens), width) for size, width in zip(sizes, widths, strict=True)]


def _compute_dtype(weight: Tensor) -> torch.dtype:
    device = weight.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
