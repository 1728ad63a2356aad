"""What is learnt from groups of sequences with rewards: advantages, the clipped ratio, and what holds to a reference.

Group Relative Policy Optimization (Shao et al. 2024, arXiv 2402.03300, equation 3). Definitions and numbers are those
of TRL 1.16.0, whose means over a group this module's are, with sequences one behind the other and no padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

Aggregation: TypeAlias = Literal["grpo", "dr_grpo", "dapo"]
"""``grpo`` is the mean over sequences of the mean over their tokens; ``dapo`` the mean over all tokens, so that long
sequences count as much a token as short ones (Yu et al. 2025, arXiv 2503.14476); ``dr_grpo`` divides by a fixed length
(Liu et al. 2025, arXiv 2503.20783)."""
Scale: TypeAlias = Literal["group", "batch", "none"]
"""What differences of rewards are divided by: their deviation in the group, over all groups of a step, or nothing."""

AGGREGATIONS: tuple[Aggregation, ...] = get_args(Aggregation)
SCALES: tuple[Scale, ...] = get_args(Scale)
_LEAST = 1e-4
"""What is added to a deviation, so that none is 0."""


def advantages(rewards: Tensor, scale: Scale = "group") -> Tensor:
    """Return by how much each sequence (G, n) is better than its group; 0 where it has no reward.

    Args:
        rewards: Rewards (G, n) of n sequences in each of G groups; NaN where there is none.
        scale: What differences are divided by.
    """
    # NaN would pass through every product, also through one with 0.
    there = ~torch.isnan(rewards)
    counts = there.sum(dim=1, keepdim=True)
    known = torch.where(there, rewards, 0.0)
    gaps = torch.where(there, rewards - known.sum(dim=1, keepdim=True) / counts.clamp(min=1), 0.0)
    if scale == "group":
        gaps = gaps / ((gaps.square().sum(dim=1, keepdim=True) / (counts - 1).clamp(min=1)).sqrt() + _LEAST)
    elif scale == "batch":
        mean = known.sum() / counts.sum().clamp(min=1)
        squares = torch.where(there, rewards - mean, 0.0).square().sum()
        gaps = gaps / ((squares / (counts.sum() - 1).clamp(min=1)).sqrt() + _LEAST)
    return gaps


@dataclass(frozen=True, kw_only=True)
class PolicyLoss:
    """An objective over N tokens; all but the losses without a gradient."""

    losses: Tensor
    """Of each token (N,)."""
    kl: Tensor
    """Estimated divergence from the reference at each token (N,) in nats, 0 or more; zeros without a reference."""
    clipped: Tensor
    """Whether the ratio of each token (N,) is beyond its bound, so that the token teaches nothing."""


def policy_loss(
    logps: Tensor,
    old: Tensor,
    gains: Tensor,
    *,
    low: float = 0.2,
    high: float = 0.2,
    reference: Tensor | None = None,
    kl_weight: float | Tensor = 0.0,
) -> PolicyLoss:
    """Return the clipped objective of each token, without a wait for the device.

    The divergence is estimated as exp(r) - r - 1, where r is by how much likelier the token is under the reference:
    it is right on average over tokens that the network draws, and never below 0 (Schulman 2020, estimator k3). What is
    trained is its product with the ratio, whose gradient is that of the divergence on average (DeepSeek-V3.2, arXiv
    2512.02556).

    Args:
        logps: Log-probability of each token under the network (N,).
        old: The same under the network that drew them.
        gains: Advantage of each token's sequence (N,).
        low: How far the ratio may fall below 1 before it counts no further.
        high: How far it may rise above 1.
        reference: Log-probabilities under the reference (N,).
        kl_weight: Weight of the divergence.
    """
    ratio = torch.exp(logps - old.detach())
    bounded = ratio.clamp(1 - low, 1 + high)
    # The smaller of both: a bound takes gain away, and never the fault of having gone too far the wrong way.
    losses = -torch.minimum(ratio * gains, bounded * gains)
    kl = torch.zeros_like(logps)
    if reference is not None:
        gap = reference.detach() - logps
        kl = torch.exp(gap) - gap - 1
        losses = losses + kl_weight * kl * ratio
    beyond = ((ratio < 1 - low) & (gains < 0)) | ((ratio > 1 + high) & (gains > 0))
    return PolicyLoss(losses=losses, kl=kl.detach(), clipped=beyond)


def aggregated(losses: Tensor, sizes: Sequence[int], how: Aggregation, *, weights: Tensor, whole: float) -> Tensor:
    """Return the loss of some sequences as their part of a step's, in sums of a fixed order.

    Args:
        losses: Of each token, sequence by sequence (N,).
        sizes: Tokens of each sequence (S,).
        how: How they are joined.
        weights: 1 for each sequence (S,) that counts, 0 for others.
        whole: What the sum is divided by: sequences of the step that count for ``grpo``, their tokens for ``dapo``, and
            for ``dr_grpo`` sequences times the longest that one may be.
    """
    # Split, not scattered: on a card sums of a fixed order are the same in every run.
    sums = torch.stack([piece.sum() for piece in torch.split(losses, list(sizes))])
    if how == "grpo":
        sums = sums / torch.tensor(sizes, dtype=sums.dtype).clamp(min=1).to(sums.device, non_blocking=True)
    return (sums * weights).sum() / whole


def next_kl_weight(weight: float, kl: float, target: float) -> float:
    """Return the weight of the divergence for the next step, up to 2 % larger or smaller, so that it nears a target.

    Args:
        weight: The weight of this step.
        kl: Mean divergence of this step.
        target: What it is to be.
    """
    # Ziegler et al. 2019 (arXiv 1909.08593), section 2.2: a controller in proportion to the error, which is bounded.
    error = min(max(kl / target - 1, -0.2), 0.2)
    return weight * (1 + 0.1 * error)
