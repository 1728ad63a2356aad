"""Direct Preference Optimization of the text-to-semantic network: what is preferred to what, and the objective."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

UPSTREAM_BETA = 0.2


class Corruption(NamedTuple):
    """How a rejected sequence is made of codes ``y``."""

    kind: Literal["repeat", "lost"]
    """``repeat`` says ``y[start:end]`` twice; ``lost`` leaves it out."""
    start: int
    end: int


@dataclass(frozen=True, kw_only=True)
class Preference:
    """The objective over a batch of pairs; all but the loss without a gradient."""

    loss: Tensor
    """Mean over the pairs, in nats."""
    margins: Tensor
    """Reward of each chosen sequence less that of the rejected (B,)."""

    @property
    def accuracy(self) -> Tensor:
        """Share of pairs whose chosen sequence has the larger reward."""
        return (self.margins > 0).float().mean()


def draw_corruption(length: int, generator: torch.Generator | None = None) -> Corruption:
    """Draw a corruption of ``length`` codes as upstream draws it: a coin, then two places in any order.

    Equal places, which upstream allows although they change nothing, are drawn again if there are two to choose from.
    """
    kind: Literal["repeat", "lost"] = "repeat" if _draw(2, generator) == 0 else "lost"
    start, end = sorted((_draw(length, generator), _draw(length, generator)))
    while start == end and length > 1:
        start, end = sorted((_draw(length, generator), _draw(length, generator)))
    return Corruption(kind, start, end)


def corrupt(codes: Tensor, corruption: Corruption) -> Tensor:
    """Return codes (Y,) with a part said twice or left out."""
    kind, start, end = corruption
    return torch.cat([codes[:end], codes[start:]]) if kind == "repeat" else torch.cat([codes[:start], codes[end:]])


def preference(
    chosen: Tensor,
    rejected: Tensor,
    *,
    beta: float = UPSTREAM_BETA,
    label_smoothing: float = 0.0,
    reference: tuple[Tensor, Tensor] | None = None,
) -> Preference:
    """Return the objective of Rafailov et al. 2023 (arXiv 2305.18290), equation 7.

    Args:
        chosen: Log-probability of each chosen sequence under the network (B,).
        rejected: The same of the rejected ones.
        beta: How strongly the network is held to the reference.
        label_smoothing: Share of pairs thought to be the wrong way round, from 0 to below 0.5.
        reference: Log-probabilities of chosen and rejected under the reference network; None leaves them out, as
            upstream does: the network then moves away from rejected sequences with nothing that holds it back but the
            loss on the chosen ones.
    """
    gains = chosen - rejected
    if reference is not None:
        gains = gains - (reference[0] - reference[1]).detach()
    rewards = beta * gains
    losses = -(1 - label_smoothing) * F.logsigmoid(rewards) - label_smoothing * F.logsigmoid(-rewards)
    return Preference(loss=losses.mean(), margins=rewards.detach())


def _draw(high: int, generator: torch.Generator | None) -> int:
    return int(torch.randint(0, high, (1,), generator=generator))
