"""Which type each tensor of a GGUF file gets, how it is rounded to it, and how far it may be off then."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Kind
from numpy.typing import NDArray
from torch import Tensor

from tts_train.errors import ConfigError
from tts_train.families.token_lm.export.k_quants import pack_q4_k, pack_q6_k

Floats: TypeAlias = NDArray[np.float32]

FILE_TYPES = {
    "f16": gguf.LlamaFileType.MOSTLY_F16,
    "bf16": gguf.LlamaFileType.MOSTLY_BF16,
    "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
    "q4_k": gguf.LlamaFileType.MOSTLY_Q4_K_M,
}

_WHOLE = {"f16": Kind.F16, "bf16": Kind.BF16, "q8_0": Kind.Q8_0}
_PACK = {Kind.Q4_K: pack_q4_k, Kind.Q6_K: pack_q6_k}
_NARROWER = {Kind.Q4_K: Kind.Q5_0, Kind.Q6_K: Kind.Q8_0}
"""What llama.cpp takes where rows are no multiple of 256; both want a multiple of 32, and then it takes f16."""

FALLBACKS = {kind.name for kind in (*_NARROWER.values(), Kind.F16)}

_FARTHEST = {Kind.Q5_0: 1 / 15, Kind.Q6_K: 1 / 12, Kind.Q4_K: 1 / 4}
"""How far a weight may be off, as a share of its block's range with zero. Rounding a group of n weights by steps s
leaves a squared error of n s² / 4 at most, all of which may be in one weight; the steps' own rounding comes on top."""
_ERROR = 0.25
"""How much of a matrix may be lost, root mean square to root mean square; Q4_K loses 0.07 of normal weights."""

_AT_A_TIME = 1 << 24
"""Weights that are read back at a time, so that memory does not grow with a matrix."""


def kind_of(name: str, shape: tuple[int, ...], dtype: str, *, layers: int, tied: bool) -> Kind:
    """Return a tensor's type.

    Args:
        name: Its name in the file.
        shape: Rows and columns; vectors stay float32.
        dtype: ``f16``, ``bf16``, ``q8_0``, or ``q4_k``, which is the mixture that llama.cpp calls Q4_K_M.
        layers: Number of layers.
        tied: Whether the embedding is the output matrix as well.

    Raises:
        ConfigError: if ``q8_0`` is asked of rows that it cannot hold.
    """
    if len(shape) == 1:
        return Kind.F32
    if dtype == "q8_0" and shape[-1] % 32:
        raise ConfigError(f"q8_0 needs rows of a multiple of 32, and {name} has {shape[-1]}. Use --dtype f16.")
    if dtype != "q4_k":
        return _WHOLE[dtype]
    wanted = _mixed(name, layers, tied)
    if shape[-1] % 256 == 0:
        return wanted
    return _NARROWER[wanted] if shape[-1] % 32 == 0 else Kind.F16


def _mixed(name: str, layers: int, tied: bool) -> Kind:
    """Return the type that Q4_K_M means for a matrix: six bits for the output and for half of the sensitive ones."""
    if name == ("token_embd.weight" if tied else "output.weight"):
        return Kind.Q6_K
    if not name.endswith((".attn_v.weight", ".ffn_down.weight")):
        return Kind.Q4_K
    layer, eighth = int(name.split(".")[1]), layers // 8
    first_or_last = layer < eighth or layer >= 7 * layers // 8
    return Kind.Q6_K if first_or_last or (layer - eighth) % 3 == 2 else Kind.Q4_K


def rounded(tensor: Tensor, kind: Kind) -> NDArray[Any]:
    """Return a float32 tensor in the bytes of a type."""
    if kind in _PACK:
        return _PACK[kind](tensor)
    values: NDArray[Any] = gguf.quants.quantize(tensor.numpy(), kind)
    return values


def differences(tensor: Tensor, found: gguf.ReaderTensor) -> Iterator[tuple[Floats, Floats, bool]]:
    """Compare a tensor with what a file has for it, some rows at a time.

    Yields:
        The rows as they should be, as they were read, and whether that is what the type's rounding can leave.
    """
    rows = tensor if tensor.ndim > 1 else tensor[None]
    data = found.data if tensor.ndim > 1 else found.data[None]
    step = max(1, _AT_A_TIME // rows.shape[-1])
    lost = total = 0.0
    for start in range(0, len(rows), step):
        wanted = rows[start : start + step].numpy()
        values = gguf.quants.dequantize(data[start : start + step], found.tensor_type).reshape(wanted.shape)
        yield wanted, values, _near(wanted, values, found.tensor_type)
        lost += float(np.square(wanted - values, dtype=np.float64).sum())
        total += float(np.square(wanted, dtype=np.float64).sum())
    # float16 has nothing below 6e-8: steps of matrices smaller than that are zero, as in llama.cpp.
    if lost > _ERROR**2 * total + tensor.numel() * 1e-12:
        yield wanted, values, False


def _near(wanted: Floats, values: Floats, kind: Kind) -> bool:
    """Compare by arithmetic that shares no code with the writer's."""
    if kind in _FARTHEST or kind == Kind.Q8_0:
        size = gguf.GGML_QUANT_SIZES[kind][0]
        blocks = wanted.reshape(-1, size)
        off = np.abs(blocks - values.reshape(-1, size))
        if kind == Kind.Q8_0:
            largest = np.abs(blocks).max(axis=1, keepdims=True)
            # Half a step of amax / 127, and the scale's own rounding to float16 (relative 2^-11, absolute 2^-25).
            bound = largest / 254 * 1.001 + largest * 2.0**-11 + 127 * 2.0**-25
        else:
            reach = blocks.max(axis=1, keepdims=True).clip(min=0) - blocks.min(axis=1, keepdims=True).clip(max=0)
            bound = reach * _FARTHEST[kind] + 1e-5
        return bool((off <= bound).all())
    dtypes = {Kind.F16: torch.float16, Kind.BF16: torch.bfloat16}
    exact = torch.from_numpy(wanted).to(dtypes.get(kind, torch.float32)).float()
    return bool(torch.isfinite(exact).all()) and np.array_equal(exact.numpy(), values)
