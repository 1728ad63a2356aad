"""Weights for SNAC from a hash of their names: the same on every machine, with no file to download."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import nn

_STEP, _MIX_1, _MIX_2 = np.uint32(0x9E3779B1), np.uint32(0x85EBCA6B), np.uint32(0xC2B2AE35)


def hash_uniform(count: int, seed: int) -> NDArray[np.float64]:
    """Return ``count`` numbers in [0, 1): a 32-bit hash of 0, 1, 2… that begins at ``seed`` (murmur3's finaliser)."""
    h = np.arange(count, dtype=np.uint32) * _STEP + np.uint32(seed)
    h ^= h >> np.uint32(16)
    h *= _MIX_1
    h ^= h >> np.uint32(13)
    h *= _MIX_2
    h ^= h >> np.uint32(16)
    return np.asarray(h / 2.0**32, dtype=np.float64)


def hash_signed(name: str, count: int) -> NDArray[np.float64]:
    """Return ``count`` numbers in [-1, 1) that depend on a name."""
    return 2.0 * hash_uniform(count, zlib.crc32(name.encode())) - 1.0


def fill_snac(network: nn.Module, *, salt: str = "") -> None:
    """Fill a SNAC, as the ``snac`` package builds it, so that its codes are well spread and its sound stays finite.

    Another ``salt`` gives other weights. Rotary frequencies stay as they are.
    """
    import torch

    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if not name.endswith("inv_freq"):
                values = _scaled(name, tensor.ndim, hash_signed(salt + name, tensor.numel()))
                tensor.copy_(torch.from_numpy(values).reshape(tensor.shape))


def _scaled(name: str, dims: int, r: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give each kind of weight its size; a weight-normed convolution keeps its gain in ``original0``."""
    if name.endswith("original0"):
        return 0.7 * (1 + 0.25 * r)
    if name.endswith(("original1", "codebook.weight")):
        return r
    if name.endswith("alpha"):
        return 1 + 0.3 * r
    if name.endswith("bias"):
        return 0.02 * r
    return 1 + 0.1 * r if dims == 1 else 0.08 * r
