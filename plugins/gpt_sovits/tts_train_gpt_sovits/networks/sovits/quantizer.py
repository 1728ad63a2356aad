"""The codebook that turns speech features into semantic tokens (van den Oord et al. 2017, arXiv 1711.00937)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F

from tts_train.nn import deterministic_kernels, runs_on


class Quantized(NamedTuple):
    """Features replaced by their nearest entries."""

    values: Tensor
    """(B, C, T)."""
    codes: Tensor
    """int64 (B, T)."""
    commitment: Tensor
    """Mean squared distance of the features from their entries; 0 where the codebook is not trained."""


class Quantizer(nn.Module):
    """One codebook, looked up by distance and, when trained, moved by running means rather than by an optimiser.

    In eval mode it only looks up. In train mode gradients pass straight through to the features, and every forward
    moves the entries towards what was assigned to them.

    Args:
        entries: Entries of the codebook.
        channels: Channels of an entry.
        decay: Share of the running means kept at each forward.
        epsilon: Laplace smoothing of the counts.
        dead_below: Entries whose running count is less are replaced by features of the batch; 0 keeps them.
        iterations: Rounds of k-means that place the entries of an uninitialised codebook.
    """

    initialised: Tensor
    counts: Tensor
    embedding: Tensor
    sums: Tensor

    def __init__(
        self,
        entries: int = 1024,
        channels: int = 768,
        *,
        decay: float = 0.99,
        epsilon: float = 1e-5,
        dead_below: float = 2.0,
        iterations: int = 50,
    ) -> None:
        super().__init__()
        self.decay = decay
        self.epsilon = epsilon
        self.dead_below = dead_below
        self.iterations = iterations
        self.register_buffer("initialised", torch.zeros(1))
        self.register_buffer("counts", torch.zeros(entries))
        self.register_buffer("embedding", torch.zeros(entries, channels))
        self.register_buffer("sums", torch.zeros(entries, channels))
        self._placed = False  # what `initialised` says, so that the host waits for it once and not in every forward
        self.register_load_state_dict_post_hook(_ask_again)  # type: ignore[no-untyped-call]

    def forward(self, features: Tensor) -> Quantized:
        """Replace features (B, C, T); in train mode also move the entries."""
        rows = features.transpose(1, 2).flatten(0, 1)
        if self.training and not self._placed:
            if not self.initialised.item():
                self._place(rows.detach())
            self._placed = True
        codes = self._nearest(rows).view(len(features), -1)
        values = self.decode(codes)
        if not self.training:
            return Quantized(values, codes, features.new_zeros(()))
        self._move(rows.detach(), codes.flatten())
        commitment = F.mse_loss(features, values)
        # Straight through: the values go on, and gradients reach the features as if nothing had been replaced.
        return Quantized(features + (values - features).detach(), codes, commitment)

    @torch.no_grad()
    def encode(self, features: Tensor) -> Tensor:
        """Return the codes (B, T) of features (B, C, T)."""
        return self._nearest(features.transpose(1, 2).flatten(0, 1)).view(len(features), -1)

    def decode(self, codes: Tensor) -> Tensor:
        """Return the entries (B, C, T) of codes (B, T)."""
        return F.embedding(codes, self.embedding).transpose(1, 2)

    @torch.no_grad()
    def _nearest(self, rows: Tensor) -> Tensor:
        # Written out rather than by cdist: the codes must be those of the released networks to the last tie.
        squared = rows.square().sum(1, keepdim=True) - 2 * rows @ self.embedding.t()
        codes: Tensor = (squared + self.embedding.square().sum(1)).argmin(dim=1)
        return codes

    @torch.no_grad()
    def _move(self, rows: Tensor, codes: Tensor) -> None:
        """Move counts and sums towards this batch's, and each entry to its smoothed mean."""
        if self.dead_below > 0:
            self._replace_dead(rows)
        counts, sums = self._assigned(rows, codes)
        self.counts.lerp_(counts, 1.0 - self.decay)
        self.sums.lerp_(sums, 1.0 - self.decay)
        total = self.counts.sum()
        # Laplace smoothing, which keeps the total: an entry without a member divides by a little instead of by 0.
        smoothed = (self.counts + self.epsilon) / (total + self.epsilon * len(self.counts)) * total
        self.embedding.copy_(self.sums / smoothed[:, None])

    def _assigned(self, rows: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Return how many rows each entry got and their sum, over all processes."""
        with deterministic_kernels():  # CUDA adds in any order otherwise
            counts = torch.zeros_like(self.counts).index_add_(0, codes, torch.ones_like(rows[:, 0]))
            sums = torch.zeros_like(self.sums).index_add_(0, codes, rows)
        if distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(counts)
            distributed.all_reduce(sums)
        return counts, sums

    def _replace_dead(self, rows: Tensor) -> None:
        dead = self.counts < self.dead_below
        # A device is not asked, since the host would wait for the answer: it draws in every forward.
        if runs_on(rows.device) == "cpu" and not dead.any():
            return
        drawn = _draw(rows, len(self.counts))
        # Counts and sums with it: the next running mean would bring the dead entry back otherwise.
        self.embedding.copy_(torch.where(dead[:, None], drawn, self.embedding))
        self.sums.copy_(torch.where(dead[:, None], drawn * self.dead_below, self.sums))
        self.counts.masked_fill_(dead, self.dead_below)

    @torch.no_grad()
    def _place(self, rows: Tensor) -> None:
        """Place the entries by k-means over the first batch; an entry that nothing is nearest to stays."""
        self.embedding.copy_(_draw(rows, len(self.counts)))
        for _ in range(self.iterations):
            counts, sums = self._assigned(rows, self._nearest(rows))
            means = sums / counts.clamp(min=1)[:, None]
            self.embedding.copy_(torch.where(counts[:, None] > 0, means, self.embedding))
        counts, _ = self._assigned(rows, self._nearest(rows))
        self.counts.copy_(counts)
        self.sums.copy_(self.embedding * counts[:, None])
        self.initialised.fill_(1.0)


def _ask_again(module: nn.Module, _: object) -> None:
    """Forget what the codebook before a loaded one was."""
    assert isinstance(module, Quantizer)
    module._placed = False


def _draw(rows: Tensor, count: int) -> Tensor:
    """Return ``count`` rows at random, each at most once where there are enough; the first process's everywhere."""
    if len(rows) >= count:
        index = torch.randperm(len(rows), device=rows.device)[:count]
    else:
        index = torch.randint(len(rows), (count,), device=rows.device)
    drawn = rows[index]
    if distributed.is_available() and distributed.is_initialized():
        distributed.broadcast(drawn, 0)
    return drawn
