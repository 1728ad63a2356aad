"""The invertible path between the posterior's latents and the prior's (Dinh et al. 2014, arXiv 1410.8516)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tts_train_gpt_sovits.networks.sovits.layers import GatedStack


class Coupling(nn.Module):
    """Shift one half of the channels by what the other half says; volume is kept."""

    def __init__(self, latent: int, *, channels: int, kernel: int, layers: int, condition: int) -> None:
        super().__init__()
        self.input = nn.Conv1d(latent // 2, channels, 1)
        self.stack = GatedStack(channels, kernel=kernel, layers=layers, condition=condition)
        self.output = nn.Conv1d(channels, latent // 2, 1)
        nn.init.zeros_(self.output.weight)  # a fresh flow is the identity
        if self.output.bias is not None:
            nn.init.zeros_(self.output.bias)

    def forward(self, x: Tensor, mask: Tensor, style: Tensor, *, reverse: bool = False) -> Tensor:
        """Return (B, latent, T) with the upper half shifted, or shifted back."""
        lower, upper = x.chunk(2, dim=1)
        shift = self.output(self.stack(self.input(lower) * mask, mask, style)) * mask
        upper = (upper - shift) * mask if reverse else upper * mask + shift
        return torch.cat([lower, upper], dim=1)


class Flow(nn.Module):
    """Couplings with the order of the channels turned round between them.

    Args:
        latent: Channels of the latents, even.
        channels: Channels inside the couplings.
        kernel: Kernel of their gated stacks.
        layers: Layers of their gated stacks.
        couplings: How many couplings.
        condition: Channels of the style.
    """

    def __init__(
        self, latent: int, *, channels: int, condition: int, kernel: int = 5, layers: int = 4, couplings: int = 4
    ) -> None:
        super().__init__()
        self.couplings = nn.ModuleList(
            Coupling(latent, channels=channels, kernel=kernel, layers=layers, condition=condition)
            for _ in range(couplings)
        )

    def forward(self, x: Tensor, mask: Tensor, style: Tensor, *, reverse: bool = False) -> Tensor:
        """Return the prior's latents of the posterior's (B, latent, T), or with ``reverse`` the other way."""
        if reverse:
            for coupling in reversed(self.couplings):
                x = coupling(x.flip(1), mask, style, reverse=True)
            return x
        for coupling in self.couplings:
            x = coupling(x, mask, style).flip(1)
        return x
