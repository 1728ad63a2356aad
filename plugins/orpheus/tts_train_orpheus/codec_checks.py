"""What every codec refuses: clips that are no sound, and codes that do not fit together."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from tts_train.contract import DataError


def check_clip(index: int, clip: Tensor) -> None:
    """Check that a clip is 1-D float32, not empty, and finite.

    Raises:
        DataError: if it is not, naming it by its index.
    """
    if clip.ndim != 1 or clip.dtype != torch.float32:
        raise DataError(f"Clip {index} must be 1-D float32, not {clip.dtype} of shape {list(clip.shape)}.")
    if not clip.numel():
        raise DataError(f"Clip {index} is empty: there is nothing to encode.")
    if not bool(torch.isfinite(clip).all()):
        raise DataError(f"Clip {index} has samples that are not finite.")


def check_levels(
    levels: Sequence[ArrayLike], strides: Sequence[int], size: int, device: torch.device | str
) -> list[Tensor]:
    """Return the codes of each level as [1, n] int64 on the device.

    Raises:
        DataError: if the levels do not fit together or a code is outside [0, size).
    """
    codes = [torch.as_tensor(level, dtype=torch.int64).reshape(1, -1).to(device) for level in levels]
    sizes = [code.shape[-1] for code in codes]
    due = [sizes[0] * strides[0] // stride for stride in strides] if sizes else []
    if sizes != due or not sizes:
        raise DataError(f"This codec needs {len(strides)} levels of sizes like {due}, and these have {sizes}.")
    if any(bool(((code < 0) | (code >= size)).any()) for code in codes):
        raise DataError(f"Codes must lie in [0, {size}).")
    return codes
