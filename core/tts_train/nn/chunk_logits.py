"""Memory for a chunk of logits, laid out as the products of each device want it, and searches in it."""

from __future__ import annotations

import torch
from torch import Tensor

from tts_train.nn.devices import runs_on

# Rows of the output matrix whose gradient is added at a time: 16,384 x 3,072 in float32 are 192 MiB.
_ROW_BLOCK = 16_384
_SEARCH_BLOCK = 256
_BY_COLUMN_FROM = 128
# Logits; in half precision 128 bytes, a cache line.
_ALIGNED = 64


def row_stride(columns: int) -> int:
    """Return how far apart rows of ``columns`` logits lie on a card: a multiple of 64.

    A row of 156,940 in bfloat16 is no multiple of 16 bytes, which the fast products of a GPU ask of every matrix.
    """
    return -(-columns // _ALIGNED) * _ALIGNED


class LogitsBuffers:
    """Room for one chunk's logits, used again by every chunk: on a CPU, fresh pages cost a tenth of it all.

    Logits are (N, V) for every user. On a CPU those of many tokens lie in memory as (V, N): all three products are
    then plain ones of contiguous rows, which its libraries compute faster. On a card rows begin at aligned addresses.

    Args:
        chunks: The most tokens of a chunk and the logits of each, for every kind of chunk that there is.
        matrix: What the states are multiplied with; its type is that of the products.
        wide: Type of the softmax.
        fused: Whether a kernel turns logits into slopes in their own type, so that no wide copy is needed.
    """

    def __init__(self, chunks: list[tuple[int, int]], matrix: Tensor, wide: torch.dtype, *, fused: bool) -> None:
        device = runs_on(matrix.device)
        self._by_columns = device == "cpu" and not fused
        self._aligned = device == "cuda" or fused
        size = max((tokens * self._stride(columns) for tokens, columns in chunks), default=0)
        self._narrow = matrix.new_empty(size)
        self._wide = self._narrow if matrix.dtype == wide or fused else matrix.new_empty(size, dtype=wide)

    def product(self, states: Tensor, matrix: Tensor) -> Tensor:
        """Return ``states @ matrix.T``, in the wide type unless fused; the last product is overwritten."""
        shape = (states.shape[0], matrix.shape[0])
        made = self._view(self._narrow, *shape)
        # (V, N) = W h^T: both operands are read along their contiguous rows.
        if self._by_column(shape[0]):
            torch.mm(matrix, states.T, out=made.T)
        else:
            torch.mm(states, matrix.T, out=made)
        return made if self._narrow is self._wide else self._view(self._wide, *shape).copy_(made)

    def narrow(self, logits: Tensor) -> Tensor:
        """Return the wide buffer's values in the type of the products."""
        return logits if self._narrow is self._wide else self._view(self._narrow, *logits.shape).copy_(logits)

    def _view(self, buffer: Tensor, tokens: int, rows: int) -> Tensor:
        stride = self._stride(rows)
        used = buffer[: tokens * stride]
        return used.view(stride, tokens).T if self._by_column(tokens) else used.view(tokens, stride)[:, :rows]

    def _stride(self, rows: int) -> int:
        return row_stride(rows) if self._aligned else rows

    def _by_column(self, tokens: int) -> bool:
        return self._by_columns and tokens >= _BY_COLUMN_FROM


def highest_logits(logits: Tensor) -> tuple[Tensor, Tensor]:
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


def add_product(total: Tensor, slopes: Tensor, states: Tensor, *, scale: float) -> None:
    """Add ``slopes.T @ states / scale`` to ``total``, by blocks of rows where a wide copy would be made."""
    alpha = 1 / scale
    if total.dtype == states.dtype:
        total.addmm_(slopes.T, states, alpha=alpha)
        return
    wide = _multiplies_wide(states, total.dtype)
    # A block's product is half as wide in memory where it is of the narrow type.
    rows = _ROW_BLOCK // 2 if wide else _ROW_BLOCK
    for start in range(0, total.shape[0], rows):
        block = slice(start, start + rows)
        if wide:
            total[block].add_(torch.mm(slopes[:, block].T, states, out_dtype=total.dtype), alpha=alpha)
        elif scale == 1:
            total[block].add_(slopes[:, block].T @ states)
        else:  # scaled sums may be too large for the narrow type
            total[block].addmm_(slopes[:, block].T.to(total.dtype), states.to(total.dtype), alpha=alpha)


def product_in(dtype: torch.dtype, slopes: Tensor, matrix: Tensor) -> Tensor:
    """Return ``slopes @ matrix`` in ``dtype``, without rounding between where the device can."""
    if slopes.dtype != dtype and _multiplies_wide(slopes, dtype):
        return torch.mm(slopes, matrix, out_dtype=dtype)
    return (slopes @ matrix).to(dtype)


def _multiplies_wide(tensor: Tensor, dtype: torch.dtype) -> bool:
    """Tell whether products of half precision can be written in float32 as they were summed: on CUDA."""
    half = tensor.dtype in (torch.float16, torch.bfloat16)
    return half and dtype == torch.float32 and runs_on(tensor.device) == "cuda" and torch.version.hip is None
