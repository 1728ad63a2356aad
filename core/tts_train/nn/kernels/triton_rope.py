"""The Triton kernel of :mod:`tts_train.nn.kernels.rope`; imported where it runs."""
# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl


def settings(heads: int, key_heads: int, half: int) -> dict[str, int]:
    """Return the compile-time options: all heads of a token in a program."""
    sizes = {"HEADS": heads, "KEY_HEADS": key_heads, "HALF": half}
    return {name: triton.next_power_of_2(size) for name, size in sizes.items()} | {"num_warps": 4}


@triton.jit
def _rotate_heads(source, target, token, heads, half, cosine, sine, HEADS: tl.constexpr, HALF: tl.constexpr):
    """Rotate one token's heads; ``cosine`` and ``sine`` are (1, HALF)."""
    row, column = tl.arange(0, HEADS), tl.arange(0, HALF)
    place = token * heads * half * 2 + row[:, None] * half * 2 + column[None, :]
    used = (row < heads)[:, None] & (column < half)[None, :]
    first = tl.load(source + place, mask=used, other=0.0).to(tl.float32)
    second = tl.load(source + place + half, mask=used, other=0.0).to(tl.float32)
    tl.store(target + place, (first * cosine - second * sine).to(target.dtype.element_ty), mask=used)
    tl.store(target + place + half, (second * cosine + first * sine).to(target.dtype.element_ty), mask=used)


@triton.jit
def rotate(
    query,
    key,
    query_out,
    key_out,
    cos,
    sin,
    heads,
    key_heads,
    half,
    BACKWARDS: tl.constexpr,
    HEADS: tl.constexpr,
    KEY_HEADS: tl.constexpr,
    HALF: tl.constexpr,
):
    """Rotate one token's queries and keys."""
    token = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, HALF)
    inside = column < half
    cosine = tl.load(cos + token * half + column, mask=inside, other=0.0).to(tl.float32)[None, :]
    sine = tl.load(sin + token * half + column, mask=inside, other=0.0).to(tl.float32)[None, :]
    if BACKWARDS:
        # The gradient is turned by the same angle the other way.
        sine = -sine
    _rotate_heads(query, query_out, token, heads, half, cosine, sine, HEADS, HALF)
    _rotate_heads(key, key_out, token, key_heads, half, cosine, sine, KEY_HEADS, HALF)
