"""Rotary positions of queries and keys in one pass (Su et al. 2021, arXiv 2104.09864), halves rotated as in Llama.

Tokens come first, as packed attention takes them, and no argument is written over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tts_train.nn.kernels import fused

if TYPE_CHECKING:
    from types import ModuleType


def rope(query: Tensor, key: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    """Rotate queries and keys by their positions' angles; in float32 inside, rounded once.

    Args:
        query: (T, heads, head_dim).
        key: (T, key_heads, head_dim).
        cos: Cosines (T, head_dim / 2), float32.
        sin: Sines (T, head_dim / 2), float32.

    Returns:
        Both, contiguous, in the inputs' types.
    """
    if not fused(query):
        return _rotated(query, cos, sin), _rotated(key, cos, sin)
    both: tuple[Tensor, Tensor] = _Rope.apply(query, key, cos, sin)  # type: ignore[no-untyped-call]
    return both


def _rotated(states: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    # Llama rotates the halves of a head (x[i], x[i + d/2]), not neighbouring pairs as in the paper.
    first, second = states.to(torch.promote_types(states.dtype, cos.dtype)).chunk(2, dim=-1)
    cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1).to(states.dtype)


class _Rope(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ANN401
        ctx.save_for_backward(cos, sin)
        made: tuple[Tensor, Tensor] = rope_rotated(query.contiguous(), key.contiguous(), cos, sin, False)
        return made

    @staticmethod
    def backward(ctx: Any, query: Tensor, key: Tensor) -> tuple[Tensor, Tensor, None, None]:  # noqa: ANN401
        # A rotation's transpose is the rotation back, so nothing but the angles is saved.
        back = rope_rotated(query.contiguous(), key.contiguous(), *ctx.saved_tensors, True)
        return *back, None, None


@torch.library.custom_op("tts_train::rope", mutates_args=())
def rope_rotated(query: Tensor, key: Tensor, cos: Tensor, sin: Tensor, backwards: bool) -> tuple[Tensor, Tensor]:
    """Return queries and keys turned forward, or backwards by the same angles, which is the gradient."""
    made = torch.empty_like(query), torch.empty_like(key)
    kernels = _kernels()
    tokens, heads, width = query.shape
    kernels.rotate[(tokens,)](
        query,
        key,
        *made,
        cos,
        sin,
        heads,
        key.shape[1],
        width // 2,
        BACKWARDS=backwards,
        **kernels.settings(heads, key.shape[1], width // 2),
    )
    return made


@rope_rotated.register_fake
def _(query: Tensor, key: Tensor, cos: Tensor, sin: Tensor, backwards: bool) -> tuple[Tensor, Tensor]:
    return torch.empty_like(query), torch.empty_like(key)


def _kernels() -> ModuleType:
    from tts_train.nn.kernels import triton_rope

    return triton_rope
