"""The Triton kernels of :mod:`tts_train.nn.kernels.swiglu`; imported where they run."""
# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def forward(gate, up, product, size, BLOCK: tl.constexpr):
    """Compute one block."""
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = place < size
    given = tl.load(gate + place, mask=inside, other=0.0)
    wide = given.to(tl.float32)
    # silu is rounded to the input's type before the product, as two operators of Llama would.
    opened = (wide / (1.0 + tl.exp(-wide))).to(given.dtype).to(tl.float32)
    value = tl.load(up + place, mask=inside, other=0.0).to(tl.float32)
    tl.store(product + place, (opened * value).to(product.dtype.element_ty), mask=inside)


@triton.jit
def backward(grad, gate, up, for_gate, for_up, size, BLOCK: tl.constexpr):
    """Compute one block's two gradients."""
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = place < size
    given = tl.load(gate + place, mask=inside, other=0.0)
    incoming = tl.load(grad + place, mask=inside, other=0.0).to(tl.float32)
    value = tl.load(up + place, mask=inside, other=0.0).to(tl.float32)
    wide = given.to(tl.float32)
    share = 1.0 / (1.0 + tl.exp(-wide))
    opened = (wide * share).to(given.dtype).to(tl.float32)
    tl.store(for_up + place, (incoming * opened).to(for_up.dtype.element_ty), mask=inside)
    # d silu(x) / dx = s (1 + x (1 - s)), s the sigmoid of x.
    slope = share * (1.0 + wide * (1.0 - share))
    tl.store(for_gate + place, (incoming * value * slope).to(for_gate.dtype.element_ty), mask=inside)
