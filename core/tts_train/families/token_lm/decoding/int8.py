"""A frozen linear layer of 8 bits whose product keeps nothing for backward and asks the host for nothing."""

from __future__ import annotations

from typing import Any

import bitsandbytes
import torch
from torch import Tensor
from torch.nn import functional as F


class Int8Linear(bitsandbytes.nn.Linear8bitLt):  # type: ignore[misc]
    """bitsandbytes' layer, multiplying in the input's type with the matrix made from its 8 bits each time.

    bitsandbytes' own product rounds the input to 8 bits too. It keeps input and rounded input for backward out of the
    reach of gradient checkpointing, and waits for the GPU to tell whether there are values above a threshold. The
    gradient of the input needs the matrix only. On a CPU bitsandbytes trains as here, by the same numbers.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return (..., out_features) in the type of ``x``, in autocast's where that is on."""
        product: Tensor = _Product.apply(x, self)  # type: ignore[no-untyped-call]
        return product if self.bias is None else product + self.bias.to(product.dtype)

    def matrix(self, dtype: torch.dtype) -> Tensor:
        """Return the matrix (out_features, in_features) that the 8 bits stand for."""
        made = torch.empty(self.weight.shape, dtype=dtype, device=self.weight.device)
        # One pass: whole numbers up to 127 times the rows' scales in float32, rounded once.
        return torch.mul(self.weight.data, self.weight.SCB.unsqueeze(1).mul(1.0 / 127.0), out=made)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, linear: Int8Linear) -> Tensor:  # noqa: ANN401 - autograd's context
        ctx.linear, ctx.dtype = linear, x.dtype
        return F.linear(x, linear.matrix(x.dtype))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401
        return grad.to(ctx.dtype) @ ctx.linear.matrix(ctx.dtype), None
