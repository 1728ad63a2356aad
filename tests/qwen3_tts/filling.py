"""The deterministic weights that the reference figures of Qwen3-TTS were computed with; inputs are GPT-SoVITS's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from tests.gpt_sovits.filling import fill as fill_common, hash_u, inputs, integers, wave

__all__ = ["fill", "fill_all", "hash_u", "inputs", "integers", "wave"]


def fill(name: str, shape: Sequence[int], *, salt: str = "", dtype: torch.dtype = torch.float64) -> Tensor | None:
    """Return the weight of an upstream key (``talker.…``, ``speaker_encoder.…``, ``encoder.…``, ``decoder.…``).

    Four rules for the codec come before those of GPT-SoVITS, or scale what they give.
    """
    last, shape = name.rpartition(".")[2], tuple(shape)
    if (centre := _codec_rule(name, last, shape)) is not None:
        middle, spread = centre
        u = hash_u(salt + name, int(np.prod(shape, dtype=np.int64)))
        return torch.from_numpy((middle + spread * u).reshape(shape)).to(dtype)
    made = fill_common(name, shape, salt=salt)
    if made is None:
        return None
    return (made * (0.3 if _is_tamed(name, shape) else 1.0)).to(dtype)


def fill_all(
    names: Iterable[tuple[str, Sequence[int]]], *, prefix: str = "", salt: str = "", dtype: torch.dtype = torch.float64
) -> dict[str, Tensor]:
    """Return the weights of (key, shape) pairs by key; ``prefix`` is hashed but left out of the keys."""
    made = {name: fill(prefix + name, shape, salt=salt, dtype=dtype) for name, shape in names}
    return {name: value for name, value in made.items() if value is not None}


def _codec_rule(name: str, last: str, shape: tuple[int, ...]) -> tuple[float, float] | None:
    if name.startswith("decoder.decoder.") and last == "alpha":
        return 0.0, 0.1
    if last == "scale" and len(shape) == 1:
        return 0.3, 0.1
    if name.startswith("decoder.upsample.") and last == "gamma":
        return 0.3, 0.1
    return None


def _is_tamed(name: str, shape: tuple[int, ...]) -> bool:
    # The wave would leave [-1, 1] everywhere, and a clamped wave shows no difference.
    if not name.startswith("decoder.decoder.") or len(shape) < 2:
        return False
    return ".conv2." in name or (name.count(".") == 4 and shape[0] == 1)
