"""The output layer and its cross-entropy in one step, a chunk of tokens at a time.

A language model's logits are its largest tensor by far: 8,192 tokens over 156,940 entries are 4.8 GiB in float32, and
plain autograd keeps several copies. Here a chunk's logits become its losses, its predictions and its gradients at
once and are dropped, so that the peak is one chunk; backward only scales what forward stored. The idea is that of
Wijmans et al. 2024 (arXiv 2411.09009) and Hsu et al. 2024 (arXiv 2410.10989), here with plain matrix products.

Where each token's loss is to have a gradient of its own, backward scales the rows of the states' gradient. The weight's
gradient is a sum over tokens that cannot be taken apart again, so where it is wanted the logits are made anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tts_train.nn.head_chunks import HeadChunks, Rows, Softmaxes, has_kernel, product_type

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
    rows: Rows
    """Half-open row ranges, ascending and disjoint. The targets of the group's tokens must lie in them."""


@dataclass(frozen=True, kw_only=True)
class HeadOutput:
    """Loss and by-products over the M tokens whose target is not ignored, in their original order."""

    loss_sum: Tensor
    """Sum of the token losses in nats, with a gradient."""
    targets: Tensor
    """Target ids (M,)."""
    losses: Tensor
    """Loss of each token (M,), float32 (float64 for float64 input); with a gradient only where it was asked for."""
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
    tokenwise: bool = False,
) -> HeadOutput:
    """Sum the cross-entropy of ``softmax(hidden @ weight.T)`` against ``targets`` without the whole logits.

    Gradients can be used once: they are made in forward, for those of ``hidden`` and ``weight`` that need one, and a
    second backward through the same result raises. Under autocast the products run in autocast's type. The softmax is
    always float32 or wider; the weight's gradient is summed over chunks in the weight's own type.

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
        tokenwise: Give ``losses`` a gradient, so that each token may have a weight of its own, of any sign. A frozen
            ``weight`` costs nothing more; with one that needs a gradient, backward computes the logits again.

    Raises:
        ValueError: if the groups hold more or fewer tokens than are kept.
    """
    # Compact rows first: prompts and padding carry no loss, and their logits would be most of the work.
    kept = (targets != IGNORE).nonzero().squeeze(1) if kept is None else kept
    targets = targets.index_select(0, kept)
    compute = product_type(weight)
    chunks = HeadChunks(
        kept=kept,
        targets=targets,
        softmaxes=_softmaxes(kept.numel(), row_groups, weight.shape[0]),
        chunk_tokens=chunk_tokens,
        compute=compute,
        fused=fused and has_kernel(hidden, compute),
        scale=_HALF_SCALE if compute == torch.float16 else 1.0,
    )
    # Inside of a function of autograd nothing tells whether gradients are on.
    if tokenwise:
        losses, predictions = _TokenLosses.apply(hidden, weight, chunks, torch.is_grad_enabled())  # type: ignore[no-untyped-call]
        return HeadOutput(loss_sum=losses.sum(), targets=targets, losses=losses, predictions=predictions)
    loss_sum, losses, predictions = _LossSum.apply(hidden, weight, chunks, torch.is_grad_enabled())  # type: ignore[no-untyped-call]
    return HeadOutput(loss_sum=loss_sum, targets=targets, losses=losses, predictions=predictions)


def _softmaxes(kept: int, row_groups: Sequence[RowGroup], vocabulary: int) -> Softmaxes:
    if not row_groups:
        return [(None, ((0, vocabulary),))]
    grouped = sum(group.tokens.numel() for group in row_groups)
    if grouped != kept:
        raise ValueError(f"The row groups hold {grouped} tokens and {kept} carry a loss; each must be in one group.")
    return [(group.tokens, group.rows) for group in row_groups if group.tokens.numel()]


def _forward(
    hidden: Tensor, weight: Tensor, chunks: HeadChunks, *, to_hidden: bool, grad_weight: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return losses, predictions and the gradient of ``hidden``; add the weight's where there is one."""
    losses = torch.empty(chunks.targets.shape, dtype=chunks.wide, device=hidden.device)
    predictions = torch.empty_like(chunks.targets)
    grad_hidden = torch.zeros_like(hidden) if to_hidden else None
    for made in chunks.walk(hidden.detach(), weight.detach(), to_hidden=to_hidden, grad_weight=grad_weight):
        losses[made.where], predictions[made.where] = made.losses, made.predictions
        if grad_hidden is not None and made.to_hidden is not None:
            grad_hidden[chunks.kept[made.where]] = made.to_hidden
    return losses, predictions, grad_hidden


def _used_once(ctx: Any) -> Any:  # noqa: ANN401 - autograd's context takes any attribute
    """Return the gradients that forward made, and forget them."""
    if ctx.gradients is None:
        raise RuntimeError("linear_cross_entropy: its gradients were already used; a second backward cannot be.")
    # Dropped here so that autograd may take the buffers over instead of copying them.
    gradients, ctx.gradients = ctx.gradients, None
    return gradients


class _LossSum(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        hidden: Tensor,
        weight: Tensor,
        chunks: HeadChunks,
        grad_enabled: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        # needs_input_grad looks at the tensors only and is true under no_grad too.
        needs_hidden, needs_weight = (grad_enabled and needed for needed in ctx.needs_input_grad[:2])
        grad_weight = torch.zeros_like(weight) if needs_weight else None
        losses, predictions, grad_hidden = _forward(
            hidden, weight, chunks, to_hidden=needs_hidden, grad_weight=grad_weight
        )
        ctx.gradients = (grad_hidden, grad_weight)
        ctx.scale = chunks.scale
        ctx.mark_non_differentiable(losses, predictions)
        return losses.sum(), losses, predictions

    @staticmethod
    def backward(
        ctx: Any,  # noqa: ANN401
        grad_loss: Tensor,
        *_: Tensor,
    ) -> tuple[Tensor | None, ...]:
        grad_hidden, grad_weight = _used_once(ctx)
        if grad_hidden is not None:
            # The slopes were made larger by the scale for float16 only, and are made smaller with the loss's own
            # factor.
            grad_hidden.mul_(grad_loss if ctx.scale == 1 else grad_loss / ctx.scale)
        if grad_weight is not None:
            grad_weight.mul_(grad_loss)
        return grad_hidden, grad_weight, None, None


class _TokenLosses(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        hidden: Tensor,
        weight: Tensor,
        chunks: HeadChunks,
        grad_enabled: bool,
    ) -> tuple[Tensor, Tensor]:
        needs_hidden, needs_weight = (grad_enabled and needed for needed in ctx.needs_input_grad[:2])
        losses, predictions, ctx.gradients = _forward(
            hidden, weight, chunks, to_hidden=needs_hidden and not needs_weight, grad_weight=None
        )
        if needs_weight:
            ctx.save_for_backward(hidden, weight)
        ctx.chunks, ctx.again = chunks, needs_weight
        ctx.mark_non_differentiable(predictions)
        return losses, predictions

    @staticmethod
    def backward(
        ctx: Any,  # noqa: ANN401
        grad_losses: Tensor,
        *_: Tensor,
    ) -> tuple[Tensor | None, ...]:
        if ctx.again:
            hidden, weight = ctx.saved_tensors
            return (
                *_recomputed(hidden, weight, ctx.chunks, grad_losses, to_hidden=ctx.needs_input_grad[0]),
                None,
                None,
            )
        grad_hidden = _used_once(ctx)
        return _weighed(grad_hidden, ctx.chunks, grad_losses), None, None, None


def _recomputed(
    hidden: Tensor, weight: Tensor, chunks: HeadChunks, grad_losses: Tensor, *, to_hidden: bool
) -> tuple[Tensor | None, Tensor]:
    """Return the gradients of ``hidden`` and ``weight`` from logits that are made once more."""
    # Divided by the largest and multiplied in the end: a float16 holds no loss scale times a state.
    largest = grad_losses.abs().amax() if grad_losses.numel() else grad_losses.sum()
    shares = grad_losses / torch.where(largest > 0, largest, 1.0)
    grad_hidden = torch.zeros_like(hidden) if to_hidden else None
    grad_weight = torch.zeros_like(weight)
    walk = chunks.walk(
        hidden.detach(), weight.detach(), to_hidden=to_hidden, grad_weight=grad_weight, token_weights=shares
    )
    for made in walk:
        if grad_hidden is not None and made.to_hidden is not None:
            grad_hidden[chunks.kept[made.where]] = made.to_hidden
    grad_weight.mul_(largest)
    return None if grad_hidden is None else _weighed(grad_hidden, chunks, grad_losses), grad_weight


def _weighed(grad_hidden: Tensor, chunks: HeadChunks, grad_losses: Tensor) -> Tensor:
    """Multiply each token's row in place by what its loss counts."""
    factors = grad_losses.new_zeros(grad_hidden.shape[0]).index_copy(0, chunks.kept, grad_losses / chunks.scale)
    return grad_hidden.mul_(factors[:, None])
