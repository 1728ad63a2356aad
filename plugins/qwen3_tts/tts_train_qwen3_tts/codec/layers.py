"""What encoder and decoder are made of: causal convolutions, attention by position, and layers of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tts_train.nn import kept_table

BLOCK = 512
"""Positions that attend at once where there is a window: memory grows with the length, not with its square."""


class CausalConv(nn.Module):
    """A convolution of [B, C, T] to [B, C', ceil(T / stride)] that reads nothing after a step's own samples.

    ``fill`` is what ``F.pad`` puts at both ends: before the first step, and after the last to make it whole.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, fill: str = "constant", **others: int
    ) -> None:
        super().__init__()
        self.conv = nn.Conv1d(inputs, outputs, kernel, stride, **others)  # type: ignore[arg-type]
        self.past, self.stride, self.fill = (kernel - 1) * others.get("dilation", 1) + 1 - stride, stride, fill

    def forward(self, x: Tensor) -> Tensor:
        """Convolve."""
        y: Tensor = self.conv(F.pad(x, (self.past, -x.shape[-1] % self.stride), mode=self.fill))
        return y


class CausalUpsampling(nn.Module):
    """A transposed convolution of [B, C, T] to [B, C', T * stride]; what it says of later steps is cut off."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose1d(inputs, outputs, kernel, stride)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """Upsample."""
        y: Tensor = self.conv(x)
        # The last step's kernel goes on where only later steps would complete the sum.
        return y[..., : x.shape[-1] * self.stride]


class LayerStack(nn.Module):
    """Layers one after another, under the name ``layers``."""

    def __init__(self, layers: Iterable[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Pass through all."""
        y: Tensor = self.layers(x)
        return y


class BranchScale(nn.Module):
    """A learnt factor for each channel of a residual branch."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((width,), 0.01))

    def forward(self, x: Tensor) -> Tensor:
        """Scale [B, T, width]."""
        return self.scale * x


class RotaryAttention(nn.Module):
    """Causal attention with rotary positions (Su et al. 2021, arXiv 2104.09864), the halves of a head turned together.

    ``window`` is how many positions each one sees, itself included; None lets it see all before it.
    """

    def __init__(self, width: int, heads: int, head_dim: int, theta: float, window: int | None) -> None:
        super().__init__()
        self.heads, self.theta, self.window = heads, theta, window
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(width, heads * head_dim, bias=False) for _ in range(3))
        self.o_proj = nn.Linear(heads * head_dim, width, bias=False)

    def forward(self, x: Tensor, first: int = 0) -> Tensor:
        """Take and return [B, T, width], of which the first stands at position ``first``."""
        projected = (self.q_proj(x), self.k_proj(x), self.v_proj(x))
        q, k, v = (each.unflatten(-1, (self.heads, -1)).transpose(1, 2) for each in projected)
        cos, sin = _turns(first, q.shape[-2], q.shape[-1], self.theta, q.dtype, q.device)
        seen = _attend(_turn(q, cos, sin), _turn(k, cos, sin), v, self.window)
        y: Tensor = self.o_proj(seen.transpose(1, 2).flatten(2))
        return y


# Every layer turns by the same angles.
@kept_table
def _turns(
    first: int, count: int, width: int, theta: float, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return cosine and sine, [count, width], of the angles by which positions from ``first`` are turned."""
    # In float32 whatever the weights are in: the released models were made with such angles.
    steps = torch.arange(0, width, 2, dtype=torch.float32, device=device) / width
    places = torch.arange(first, first + count, dtype=torch.float32, device=device)
    angles = (places[:, None] / theta**steps).repeat(1, 2)
    return angles.cos().to(dtype), angles.sin().to(dtype)


def _turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    low, high = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-high, low), dim=-1) * sin


def _attend(q: Tensor, k: Tensor, v: Tensor, window: int | None) -> Tensor:
    """Return what [B, heads, T, head_dim] see of themselves and before."""
    if window is None:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)
    parts = []
    # With one mask of T x T, ten minutes would take gigabytes.
    for start in range(0, q.shape[2], BLOCK):
        end, oldest = min(start + BLOCK, q.shape[2]), max(0, start - window + 1)
        back = torch.arange(start, end, device=q.device)[:, None] - torch.arange(oldest, end, device=q.device)
        near = (back >= 0) & (back < window)
        keys, values = k[:, :, oldest:end], v[:, :, oldest:end]
        parts.append(F.scaled_dot_product_attention(q[:, :, start:end], keys, values, attn_mask=near))
    return torch.cat(parts, dim=2)


class CausalLayer(nn.Module):
    """Attention and a network for each position, each normalised before and scaled after."""

    def __init__(self, attention: RotaryAttention, mlp: nn.Module, width: int, norm: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.self_attn, self.mlp = attention, mlp
        self.input_layernorm, self.post_attention_layernorm = norm(), norm()
        self.self_attn_layer_scale, self.mlp_layer_scale = BranchScale(width), BranchScale(width)

    def forward(self, x: Tensor, first: int = 0) -> Tensor:
        """Take and return [B, T, width], of which the first stands at position ``first``."""
        x = x + self.self_attn_layer_scale(self.self_attn(self.input_layernorm(x), first))
        changed: Tensor = self.mlp_layer_scale(self.mlp(self.post_attention_layernorm(x)))
        return x + changed
