"""The output matrix over the tokens that carry a loss, a chunk at a time: losses, predictions and slopes of logits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from tts_train.nn import kernels
from tts_train.nn.chunk_logits import LogitsBuffers, add_product, highest_logits, product_in
from tts_train.nn.kernels.cross_entropy import TYPES, cross_entropy

Rows: TypeAlias = "tuple[tuple[int, int], ...]"
"""Half-open ranges of rows, ascending and disjoint."""
Softmaxes: TypeAlias = "list[tuple[Tensor | None, Rows]]"
"""The kept tokens' indices and the rows that they see, for each group with tokens; None stands for all tokens."""


class Chunk(NamedTuple):
    """What one chunk gives."""

    where: Tensor | slice
    """Which of the kept tokens they are."""
    losses: Tensor
    predictions: Tensor
    to_hidden: Tensor | None
    """Slopes of the losses by the states, times the scale, in the states' type; None where they are not wanted."""


@dataclass(frozen=True, kw_only=True)
class HeadChunks:
    """Tokens, the matrix that they meet and in which types; the same in forward and where backward computes again."""

    kept: Tensor
    """Indices (M,) of the tokens into the hidden states."""
    targets: Tensor
    """Their ids (M,)."""
    softmaxes: Softmaxes
    chunk_tokens: int
    compute: torch.dtype
    """Type of the products."""
    fused: bool
    """Whether one kernel makes losses and slopes."""
    scale: float
    """Factor on the slopes."""

    @property
    def wide(self) -> torch.dtype:
        """Type of the softmax."""
        # A sum of exp over 150,000 entries loses too much in bfloat16, whose step at 1 is 1/128.
        return torch.promote_types(self.compute, torch.float32)

    def walk(
        self,
        hidden: Tensor,
        weight: Tensor,
        *,
        to_hidden: bool,
        grad_weight: Tensor | None = None,
        token_weights: Tensor | None = None,
    ) -> Iterator[Chunk]:
        """Yield each chunk, whose logits are gone when the next one is asked for.

        Args:
            hidden: Hidden states (N, H), detached.
            weight: Output matrix (V, H), detached.
            to_hidden: Whether slopes by the states are wanted.
            grad_weight: What the weight's gradient is added to (V, H), if it is wanted.
            token_weights: What each token counts in it (M,), at most 1 in size; None for 1.
        """
        # The types are chosen above; autocast would cast the products of the plain branch again, each chunk.
        with torch.autocast(hidden.device.type, enabled=False):
            matrix = weight.to(self.compute)
            buffers = LogitsBuffers(self._largest(), matrix, self.wide, fused=self.fused)
            for index, rows in self.softmaxes:
                part = _Part(matrix, rows, grad_weight, buffers, fused=self.fused, scale=self.scale)
                for where in _chunks(self.targets.numel() if index is None else index, self.chunk_tokens):
                    states = hidden[self.kept[where]].to(self.compute)
                    counts = None if token_weights is None else token_weights[where]
                    losses, predictions, slopes = part.step(states, self.targets[where], counts, need_slopes=to_hidden)
                    back = None
                    if to_hidden and slopes is not None:
                        back = product_in(hidden.dtype, slopes, part.matrix)
                    yield Chunk(where, losses, predictions, back)
                # Groups may share rows of the matrix, so each group's sum is added when it is complete.
                part.close()

    def _largest(self) -> list[tuple[int, int]]:
        """Return each group's most tokens at a time, and the logits of each."""
        sizes = [self.targets.numel() if index is None else index.numel() for index, _ in self.softmaxes]
        widths = [sum(end - start for start, end in rows) for _, rows in self.softmaxes]
        return [(min(size, self.chunk_tokens), width) for size, width in zip(sizes, widths, strict=True)]


def product_type(weight: Tensor) -> torch.dtype:
    """Return the type that products with ``weight`` are made in: autocast's where it is on."""
    device = weight.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype


def has_kernel(hidden: Tensor, compute: torch.dtype) -> bool:
    """Tell whether one kernel makes losses and slopes of logits of this type."""
    return compute in TYPES and kernels.fused(hidden)


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
        rows: Rows,
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

    def step(
        self, states: Tensor, targets: Tensor, counts: Tensor | None, *, need_slopes: bool
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return one chunk's losses, predictions and scaled slopes of its logits; add to the weight's gradient."""
        need_slopes = need_slopes or self.gradient is not None
        logits = self.buffers.product(states, self.matrix)
        local = self._to_local(targets)
        make = self._fused if self.fused else self._plain
        losses, predicted, slopes = make(logits, local, need_slopes=need_slopes)
        if self.gradient is not None and slopes is not None:
            # A token counts by its state, which is narrower than its slopes by far.
            counted = states if counts is None else states * counts[:, None].to(states.dtype)
            add_product(self.gradient, slopes, counted, scale=self.scale)
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
