"""The deterministic weights, inputs and waves that the reference figures of GPT-SoVITS were computed with."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_TAME = ("enc_p.proj.weight", "enc_q.proj.weight")  # a tenth of the usual spread keeps the KL term readable


def hash_u(name: str, count: int) -> NDArray[np.float64]:
    """Return ``count`` float64 numbers in [-1, 1) that depend on nothing but the name."""
    x = np.arange(count, dtype=np.uint64) * np.uint64(2654435761) + np.uint64(zlib.crc32(name.encode("utf-8")))
    x = x.astype(np.uint32)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        x ^= x >> np.uint32(shift)
        x = (x.astype(np.uint64) * np.uint64(factor)).astype(np.uint32)
    x ^= x >> np.uint32(16)
    u: NDArray[np.float64] = x.astype(np.float64) / 2.0**31 - 1.0
    return u


def fill(name: str, shape: Sequence[int], *, salt: str = "", dtype: torch.dtype = torch.float64) -> Tensor | None:
    """Return the weight of the state-dict key ``name``, or None for a table that keeps its own values.

    ``name`` carries the prefix of its network: ``model.`` for stage 1, none for the generator, ``D.``, ``cfm.`` or
    ``quantizer.`` for the others.
    """
    if name.rpartition(".")[2] == "inv_freq":
        return None
    count = int(np.prod(shape, dtype=np.int64))
    values = _shaped(name, tuple(shape), hash_u(salt + name, count))
    return torch.from_numpy(values.reshape(tuple(shape))).to(dtype)


def _shaped(name: str, shape: tuple[int, ...], u: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give the raw numbers the centre and spread of their kind of weight; the first rule that fits decides."""
    last = name.rpartition(".")[2]
    if last in ("inited", "cluster_size"):
        return np.ones_like(u)
    if last in ("embed", "embed_avg"):
        return u
    if last in ("weight_g", "alpha", "gamma"):
        return 1.0 + 0.1 * u
    if name.endswith("prelu.weight"):
        return 0.25 + 0.05 * u
    if last in ("bias", "beta") or last.endswith("_bias"):
        return 0.05 * u
    if "embedding" in name:
        return u
    if last in ("emb_rel_k", "emb_rel_v"):
        return 0.2 * u
    if len(shape) <= 1:
        return 1.0 + 0.1 * u
    return u * float(np.sqrt(3.0 * shape[0] / u.size)) * (0.1 if name in _TAME else 1.0)


def fill_all(
    names: Iterable[tuple[str, Sequence[int]]], *, prefix: str = "", salt: str = "", dtype: torch.dtype = torch.float64
) -> dict[str, Tensor]:
    """Return the weights of (key, shape) pairs by key; ``prefix`` is hashed but left out of the keys."""
    made = {name: fill(prefix + name, shape, salt=salt, dtype=dtype) for name, shape in names}
    return {name: value for name, value in made.items() if value is not None}


def inputs(name: str, shape: Sequence[int], *, salt: str = "", dtype: torch.dtype = torch.float64) -> Tensor:
    """Return the float input ``name``."""
    u = hash_u(f"{salt}input.{name}", int(np.prod(shape, dtype=np.int64)))
    return torch.from_numpy(u.reshape(tuple(shape))).to(dtype)


def integers(name: str, shape: Sequence[int], high: int, *, salt: str = "") -> Tensor:
    """Return the int64 input ``name``, at least 0 and less than ``high``."""
    u = hash_u(f"{salt}input.{name}", int(np.prod(shape, dtype=np.int64)))
    drawn = np.minimum(np.floor((u + 1.0) / 2.0 * high), high - 1).astype(np.int64)
    return torch.from_numpy(drawn.reshape(tuple(shape)))


def wave(count: int, rate: int, salt: str = "") -> NDArray[np.float64]:
    """Return ``count`` samples at ``rate`` Hz: two tones and noise under a slow swell, within about ±0.5."""
    t = np.arange(count, dtype=np.float64)
    tones = 0.30 * np.sin(2 * np.pi * 220 * t / rate) + 0.15 * np.sin(2 * np.pi * 1730 * t / rate + 0.7)
    noise = 0.05 * hash_u(f"{salt}wave.noise", count)
    swell: NDArray[np.float64] = 0.6 + 0.4 * np.sin(2 * np.pi * 1.5 * t / rate)
    return (tones + noise) * swell
