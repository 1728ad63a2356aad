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

from tts_train.nn.target import planned_device

IGNORE = -100
"""Targets with this value carry no loss."""

_ROW_BLOCK = 16_384
_SEARCH_BLOCK = 256
_BY_COLUMN_FROM = 128


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

    Raises:
        ValueError: if the groups hold more or fewer tokens than are kept.
    """
    kept = (targets != IGNORE).nonzero().squeeze(1) if kept is None else kept
    targets = targets.index_select(0, kept)
    plan = _plan(kept.numel(), row_groups, weight.shape[0])
    loss_sum, losses, predictions = _FusedHead.apply(  # type: ignore[no-untyped-call]
        hidden, weight, targets, kept, chunk_tokens, plan, torch.is_grad_enabled()
    )
    return HeadOutput(loss_sum=loss_sum, targets=targets, losses=losses, predictions=predictions)


_Plan = list[tuple["Tensor | None", tuple[tuple[int, int], ...]]]


def _plan(kept: int, row_groups: Sequence[RowGroup], vocabulary: int) -> _Plan:
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
        plan: _Plan,
        grad_enabled: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        compute = _compute_dtype(weight)
        wide = torch.promote_types(compute, torch.float32)
        # needs_input_grad looks at the tensors only and is true under no_grad too.
        needs_hidden, needs_weight = (grad_enabled and needed for needed in ctx.needs_input_grad[:2])
        losses = torch.empty(targets.shape, dtype=wide, device=hidden.device)
        predictions = torch.empty_like(targets)
        grad_hidden = torch.zeros_like(hidden) if needs_hidden else None
        grad_weight = torch.zeros_like(weight) if needs_weight else None
        with torch.autocast(hidden.device.type, enabled=False):
            matrix = weight.detach().to(compute)
            buffers = _Buffers(_largest_chunk(plan, targets.numel(), chunk_tokens), matrix, wide)
            for index, rows in plan:
                part = _Part(matrix, rows, grad_weight, buffers)
                for chunk in _chunks(targets.numel() if index is None else index, chunk_tokens):
                    states = hidden.detach()[kept[chunk]].to(compute)
                    losses[chunk], predictions[chunk], gradient = part.step(
                        states, targets[chunk], need_hidden=needs_hidden
                    )
                    if grad_hidden is not None and gradient is not None:
                        grad_hidden[kept[chunk]] = gradient.to(hidden.dtype)
                part.close()
        ctx.gradients = (grad_hidden, grad_weight)
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
            grad_hidden.mul_(grad_loss)
        if grad_weight is not None:
            grad_weight.mul_(grad_loss)
        return grad_hidden, grad_weight, None, None, None, None, None


def _chunks(tokens: Tensor | int, size: int) -> Iterator[Tensor | slice]:
    """Cut indices, or a number of tokens, into pieces of ``size``."""
    if isinstance(tokens, int):
        yield from (slice(start, min(start + size, tokens)) for start in range(0, tokens, size))
    else:
        yield from torch.split(tokens, size)


class _Part:
    """The rows of the output matrix that one group of tokens sees, and their gradient."""

    def __init__(
        self, matrix: Tensor, rows: tuple[tuple[int, int], ...], grad_weight: Tensor | None, buffers: _Buffers
    ) -> None:
        self.rows = rows
        self.buffers = buffers
        self.views = [] if grad_weight is None else [grad_weight[start:end] for start, end in rows]
        self.matrix = matrix[rows[0][0] : rows[0][1]]
        self.gradient = self.views[0] if self.views else None
        if len(rows) > 1:
            self.matrix = torch.cat([matrix[start:end] for start, end in rows])
            self.gradient = None if grad_weight is None else torch.zeros_like(self.matrix, dtype=grad_weight.dtype)

    def step(self, states: Tensor, targets: Tensor, *, need_hidden: bool) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return one chunk's losses, predictions and gradient of its states; add to the weight's gradient."""
        local = self._to_local(targets).unsqueeze(1)
        logits = self.buffers.product(states, self.matrix)
        highest, predicted = _highest(logits)
        target_logits = logits.gather(1, local)
        # From here on the one buffer is in turn exp(logits), softmax and softmax minus one-hot.
        total = logits.sub_(highest).exp_().sum(dim=1, keepdim=True)
        losses = total.log().add_(highest).sub_(target_logits).squeeze(1)
        predictions = self._to_global(predicted.squeeze(1))
        if not need_hidden and self.gradient is None:
            return losses, predictions, None
        logits.div_(total).scatter_add_(1, local, torch.full_like(target_logits, -1.0))
        slopes = self.buffers.narrow(logits)
        if self.gradient is not None:
            _add_product(self.gradient, slopes, states)
        return losses, predictions, slopes @ self.matrix if need_hidden else None

    def close(self) -> None:
        """Put the gathered rows' gradient where it belongs."""
        if len(self.rows) > 1 and self.gradient is not None:
            sizes = [end - start for start, end in self.rows]
            for view, piece in zip(self.views, torch.split(self.gradient, sizes), strict=True):
                view.add_(piece)

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


class _Buffers:
    """Room for one chunk's logits, used again by every chunk: on a CPU, fresh pages cost a tenth of it all.

    Logits are (N, V) for every user. On a CPU those of many tokens lie in memory as (V, N): all three products are
    then plain ones of contiguous rows, which its libraries compute faster.
    """

    def __init__(self, size: int, matrix: Tensor, wide: torch.dtype) -> None:
        self._on_cpu = matrix.device.type == "cpu" and planned_device() != "cuda"
        self._wide = matrix.new_empty(size, dtype=wide)
        self._narrow = self._wide if matrix.dtype == wide else matrix.new_empty(size)

    def product(self, states: Tensor, matrix: Tensor) -> Tensor:
        """Return ``states @ matrix.T`` in the wide type; the last product is overwritten."""
        shape = (states.shape[0], matrix.shape[0])
        made = self._view(self._narrow, *shape)
        if self._by_column(shape[0]):
            torch.mm(matrix, states.T, out=made.T)
        else:
            torch.mm(states, matrix.T, out=made)
        return made if self._narrow is self._wide else self._view(self._wide, *shape).copy_(made)

    def narrow(self, logits: Tensor) -> Tensor:
        """Return the wide buffer's values in the type of the products."""
        return logits if self._narrow is self._wide else self._view(self._narrow, *logits.shape).copy_(logits)

    def _view(self, buffer: Tensor, tokens: int, rows: int) -> Tensor:
        used = buffer[: tokens * rows]
        return used.view(rows, tokens).T if self._by_column(tokens) else used.view(tokens, rows)

    def _by_column(self, tokens: int) -> bool:
        return self._on_cpu and tokens >= _BY_COLUMN_FROM


def _largest_chunk(plan: _Plan, tokens: int, chunk_tokens: int) -> int:
    """Return the most logits that exist at a time."""
    sizes = [tokens if index is None else index.numel() for index, _ in plan]
    widths = [sum(end - start for start, end in rows) for _, rows in plan]
    return max((min(size, chunk_tokens) * width for size, width in zip(sizes, widths, strict=True)), default=0)


def _highest(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return each token's highest logit and the row that it is in, both (N, 1); of equal ones the first.

    Down the columns of a CPU's layout a search for the place costs as much as a product, a search for the value next
    to nothing: so the best of every block of rows is found by value, and only the winning block is searched.
    """
    if logits.stride(1) == 1:
        return logits.max(dim=1, keepdim=True)
    tokens, rows = logits.shape
    block = min(rows, _SEARCH_BLOCK)
    columns = logits.T
    whole = columns[: rows // block * block].view(rows // block, block, tokens).amax(dim=1)
    # The last block ends with the last row and may overlap the one before.
    best = torch.cat([whole, columns[rows - block :].amax(dim=0, keepdim=True)])
    start = (best.argmax(dim=0) * block).clamp_(max=rows - block)
    within = (start + torch.arange(block).unsqueeze(1), torch.arange(tokens))
    return best.amax(dim=0).unsqueeze(1), (start + columns[within].argmax(dim=0)).unsqueeze(1)


def _add_product(total: Tensor, slopes: Tensor, states: Tensor) -> None:
    """Add ``slopes.T @ states`` to ``total``, by blocks of rows where the types differ and a copy would be made."""
    if total.dtype == states.dtype:
        total.addmm_(slopes.T, states)
        return
    for start in range(0, total.shape[0], _ROW_BLOCK):
        block = slice(start, start + _ROW_BLOCK)
        total[block].add_(slopes[:, block].T @ states)


def _compute_dtype(weight: Tensor) -> torch.dtype:
    device = weight.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
