"""Losses, predictions and gradient of a chunk of logits in one kernel, in place and without a float32 copy.

The softmax's maximum and sum are found in one pass (Milakov and Gimelshein 2018, arXiv 1805.02867); a second one, which
mostly reads from the card's cache, writes the gradient over the logits. All sums are float32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from types import ModuleType

TYPES = (torch.bfloat16, torch.float16, torch.float32)
"""Types of logits that the kernel takes."""

# Logits that a program takes at a time; a row of 156,940 goes through it 39 times.
_BLOCK = 4096
_WARPS = 8


@torch.library.custom_op("tts_train::cross_entropy", mutates_args=("logits",))
def cross_entropy(logits: Tensor, targets: Tensor, scale: float, slopes: bool) -> tuple[Tensor, Tensor]:
    """Return each row's loss and most likely column; turn the logits into their gradient.

    Args:
        logits: (N, V), rows contiguous but possibly further apart than V. With ``slopes`` they become softmax minus
            one-hot, times ``scale``, in their own type.
        targets: (N,) int64, in [0, V).
        scale: Factor on the gradient.
        slopes: Whether the gradient is wanted; without it the logits stay as they are.

    Returns:
        Losses in nats (N,), float32, and predictions (N,), int64, the first of equal ones.
    """
    rows, columns = logits.shape
    losses = logits.new_empty(rows, dtype=torch.float32)
    predictions = torch.empty_like(targets)
    if rows:
        # Small vocabularies of tests get the next power of two, which Triton asks for.
        block = min(_BLOCK, 1 << (columns - 1).bit_length())
        _kernels().step[(rows,)](
            logits, targets, losses, predictions, logits.stride(0), scale,
            COLUMNS=columns, SLOPES=slopes, BLOCK=block, num_warps=_WARPS,
        )  # fmt: skip
    return losses, predictions


@cross_entropy.register_fake
def _(logits: Tensor, targets: Tensor, scale: float, slopes: bool) -> Any:  # noqa: ANN401
    return logits.new_empty(logits.shape[0], dtype=torch.float32), torch.empty_like(targets)


def _kernels() -> ModuleType:
    from tts_train.nn.kernels import triton_cross_entropy

    return triton_cross_entropy
