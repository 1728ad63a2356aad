"""Stand-ins for layers of 4 and 8 bits, whose kernels cannot run on shapes: what they keep and briefly make."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from tts_train.nn.kernels.left_out import left_out

_NF4_BLOCK, _NESTED_BLOCK = 64, 256


class QuantisedShape(nn.Linear):
    """A frozen linear layer as bitsandbytes keeps it, of shapes only.

    Of 4 bits (NF4 with double quantisation, Dettmers et al. 2023, arXiv 2305.14314): half a byte a weight, a byte for
    64 of them and four for 16,384; the matrix exists in the type of the products while one is computed, forward and
    backward. Of 8 bits (Dettmers et al. 2022, arXiv 2208.07339): a byte a weight and four a row; the matrix is made
    likewise.

    Args:
        linear: The layer that it stands for.
        bits: 4 or 8.
    """

    def __init__(self, linear: nn.Linear, bits: Literal[4, 8]) -> None:
        super().__init__(linear.in_features, linear.out_features, bias=False, device="meta")
        self.bits = bits
        self.compute = linear.weight.dtype
        size, meta = linear.weight.numel(), torch.device("meta")
        self.weight = nn.Parameter(torch.empty(size * bits // 8, 1, dtype=torch.uint8, device=meta), False)
        scales = {"absmax": (size // _NF4_BLOCK, torch.uint8), "nested": (size // _NF4_BLOCK // _NESTED_BLOCK, None)}
        self.bias = linear.bias
        for name, (count, dtype) in (scales if bits == 4 else {"rows": (self.out_features, None)}).items():
            self.register_buffer(name, torch.empty(count, dtype=dtype or torch.float32, device=meta), persistent=False)

    def forward(self, input: Tensor) -> Tensor:
        """Return (..., out_features) in the type that the layer computes in."""
        states = input.to(self.compute)
        product: Tensor = _Product.apply(states, self)  # type: ignore[no-untyped-call]
        if self.bias is not None:
            product = product + self.bias
        # PEFT copies the result of 4 bits before it adds the adapter's; a fused adapter, without gradients, does not.
        return product.clone() if self.bits == 4 and torch.is_grad_enabled() else product

    def matrix(self, dtype: torch.dtype) -> Tensor:
        """Return the matrix (out_features, in_features) that the bits stand for."""
        made = self.weight.new_empty(self.out_features, self.in_features, dtype=dtype)
        left_out("bitsandbytes::dequantize", [self.weight, *self.buffers()], [made])
        return made


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, linear: QuantisedShape) -> Tensor:  # noqa: ANN401 - autograd's context
        ctx.linear = linear
        return states @ linear.matrix(states.dtype).T

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401
        return grad @ ctx.linear.matrix(grad.dtype), None
