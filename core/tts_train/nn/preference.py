"""Preference objectives over the log-probabilities of pairs of sequences, one better than the other.

A sequence's log-probability is a sum over its tokens. Definitions and numbers are those of TRL 1.16.0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

Objective: TypeAlias = Literal["sigmoid", "robust", "sigmoid_norm", "ipo", "orpo"]
"""``sigmoid`` is Direct Preference Optimization (Rafailov et al. 2023, arXiv 2305.18290, equation 7), whose label
smoothing assumes that a share of the pairs is swapped (Mitchell 2023); ``robust`` corrects the loss for that share, so
that it is unbiased (Chowdhury et al. 2024, arXiv 2403.00409); ``sigmoid_norm`` compares means over tokens in place of
sums; ``ipo`` is a squared loss that brings the difference of such means to 1 / (2 beta) (Azar et al. 2023, arXiv
2310.12036, equation 17); ``orpo`` compares odds and needs no reference (Hong et al. 2024, arXiv 2403.07691, equation
7)."""

OBJECTIVES: tuple[Objective, ...] = get_args(Objective)
WITHOUT_REFERENCE: tuple[Objective, ...] = ("orpo",)
"""Objectives that a reference has no part in."""
SMOOTHED: tuple[Objective, ...] = ("sigmoid", "robust", "sigmoid_norm")
"""Objectives that label smoothing is defined for."""

Pairwise: TypeAlias = "tuple[Tensor, Tensor]"
"""A value for each chosen sequence (P,) and one for each rejected (P,)."""


@dataclass(frozen=True, kw_only=True)
class Preference:
    """An objective over P pairs; all but the losses without a gradient."""

    losses: Tensor
    """Of each pair (P,), in nats but for ``ipo``."""
    chosen_rewards: Tensor
    """Beta times what each chosen sequence gained on the reference (P,)."""
    rejected_rewards: Tensor
    """The same of the rejected ones."""
    margins: Tensor
    """Reward of each chosen sequence less that of the rejected (P,)."""

    @property
    def loss(self) -> Tensor:
        """Mean over the pairs."""
        return self.losses.mean()

    @property
    def accuracy(self) -> Tensor:
        """Share of pairs whose chosen sequence has the larger reward."""
        return (self.margins > 0).float().mean()


def in_pairs(sequences: Tensor) -> Pairwise:
    """Split values (2 P,) in the order chosen, rejected of pair after pair."""
    chosen, rejected = sequences.view(-1, 2).unbind(1)
    return chosen, rejected


def prefer(
    chosen: Tensor,
    rejected: Tensor,
    *,
    beta: float,
    objective: Objective = "sigmoid",
    label_smoothing: float = 0.0,
    reference: Pairwise | None = None,
    counts: Pairwise | None = None,
) -> Preference:
    """Return an objective over pairs, without a wait for the device.

    Args:
        chosen: Log-probability of each chosen sequence under the network (P,).
        rejected: The same of the rejected ones.
        beta: How strongly the network is held to the reference; for ``ipo`` the target difference is 1 / (2 beta), and
            ``orpo`` weighs the odds by it.
        objective: Which one.
        label_smoothing: Share of pairs assumed to be swapped, from 0 to below 0.5.
        reference: Log-probabilities under the reference network, without which rewards are of the network alone.
        counts: Tokens of each sequence, which all but ``sigmoid`` and ``robust`` need.

    Raises:
        ValueError: if the objective lacks what it needs, or has no use for what is given.
    """
    _refuse(objective, label_smoothing, reference, counts)
    scores = [chosen, rejected]
    if objective == "orpo":
        scores = _means(scores, counts)
    # Difference by difference: at the start, where both networks are one, all of them are exactly 0.
    gains = scores[0] - scores[1]
    if reference is not None:
        gains = gains - (reference[0] - reference[1]).detach()
        scores = [score - held.detach() for score, held in zip(scores, reference, strict=True)]
    return Preference(
        losses=_losses(objective, gains, scores, counts, beta, label_smoothing),
        chosen_rewards=beta * scores[0].detach(),
        rejected_rewards=beta * scores[1].detach(),
        margins=beta * gains.detach(),
    )


def mean_loss(logps: Tensor, counts: Tensor) -> Tensor:
    """Return the mean loss of a token in nats: the ordinary objective, beside a preference or within ``orpo``.

    Args:
        logps: Log-probability of each sequence (S,).
        counts: Its tokens (S,).
    """
    return -logps.sum() / counts.sum()


def divergence(logps: Tensor, reference: Tensor, counts: Tensor) -> Tensor:
    """Estimate the Kullback-Leibler divergence of the reference from the network, in nats a token, without a gradient.

    It is one where the sequences were drawn from the reference; of others it is how much less likely they became.

    Args:
        logps: Log-probability of each sequence under the network (S,).
        reference: The same under the reference.
        counts: Tokens of each sequence (S,).
    """
    return (reference - logps.detach()).sum() / counts.sum()


def _refuse(objective: str, smoothing: float, reference: Pairwise | None, counts: Pairwise | None) -> None:
    if objective not in OBJECTIVES:
        raise ValueError(f"The objective is one of {', '.join(OBJECTIVES)}, not {objective!r}.")
    if not 0 <= smoothing < 0.5 or (smoothing and objective not in SMOOTHED):
        raise ValueError(f"Label smoothing is from 0 to below 0.5 and for {', '.join(SMOOTHED)}, not {smoothing}.")
    if reference is not None and objective in WITHOUT_REFERENCE:
        raise ValueError(f"{objective} has no reference.")
    if counts is None and objective not in ("sigmoid", "robust"):
        raise ValueError(f"{objective} needs the numbers of tokens.")


def _losses(
    objective: Objective, gains: Tensor, scores: list[Tensor], counts: Pairwise | None, beta: float, smoothing: float
) -> Tensor:
    if objective == "orpo":
        # Log odds are the log-probability less the log of its complement.
        log_odds = gains - (_log_complement(scores[0]) - _log_complement(scores[1]))
        return -beta * logsigmoid(log_odds)
    if objective in ("sigmoid_norm", "ipo"):
        chosen, rejected = _means(scores, counts)
        gains = chosen - rejected
    if objective == "ipo":
        return (gains - 1 / (2 * beta)).square()
    rewards = beta * gains
    right, wrong = -logsigmoid(rewards), -logsigmoid(-rewards)
    if objective == "robust":
        return ((1 - smoothing) * right - smoothing * wrong) / (1 - 2 * smoothing)
    return (1 - smoothing) * right + smoothing * wrong


def _means(scores: list[Tensor], counts: Pairwise | None) -> list[Tensor]:
    assert counts is not None, "_refuse() was asked before"
    return [score / count for score, count in zip(scores, counts, strict=True)]


def _log_complement(logps: Tensor) -> Tensor:
    """Return log(1 - exp(logps)) for logps of at most 0."""
    # A probability that rounds to 1 has no odds; the smallest number below keeps them finite, and their slopes.
    below = logps.clamp(max=-torch.finfo(logps.dtype).eps)
    return torch.log(-torch.expm1(below))
