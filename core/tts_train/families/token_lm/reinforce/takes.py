"""The takes of a step: what was drawn, what it is worth, and how it goes into a batch; kept while passes are left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor

from tts_train.families.token_lm.preference.batch import GroupBatch, IdGroup, group_batch

if TYPE_CHECKING:
    from tts_train.families.token_lm.layout import TokenLayout


class TakenBatch(GroupBatch):
    """Takes of one text as a batch."""

    sizes: list[int]
    """Log-probabilities of each take."""
    gains: Tensor
    """(D,) by how much each take is better than its group."""
    counts: Tensor
    """(D,) 1 for takes that could be judged, 0 for others, which teach nothing."""


@dataclass
class TakenGroup:
    """The takes of one text."""

    ids: IdGroup
    gains: Tensor
    """(D,) by how much each take is better than its group, on the CPU."""
    counts: Tensor
    """(D,) 1 for takes that could be judged, else 0."""
    old: Tensor | None = None
    """Log-probabilities (N,) of the first pass, there after it where more follow."""
    reference: Tensor | None = None
    """Those under the reference (N,)."""

    def batch(self, layout: TokenLayout) -> TakenBatch:
        """Return the takes as a batch on the CPU."""
        return taken_batch([self.ids], layout, self.gains, self.counts)


@dataclass
class StepTakes:
    """The takes of all texts of a step."""

    step: int
    groups: list[TakenGroup]
    figures: dict[str, float]
    """What is logged of them."""
    seconds: tuple[float, float] = (0.0, 0.0)
    """Time that drawing and measuring them took; not kept in a checkpoint."""

    @property
    def judged(self) -> int:
        """Takes that could be judged."""
        return int(sum(float(group.counts.sum()) for group in self.groups))

    def tokens(self, layout: TokenLayout) -> int:
        """Return the log-probabilities of all takes that could be judged."""
        # Counted by packing: an end is one log-probability, and a frame has one for each of its codes.
        batches = ((group.batch(layout), group.counts) for group in self.groups)
        return sum(int((batch["said"] * counts).sum()) for batch, counts in batches)

    def state(self) -> dict[str, Any]:
        """Return them for a checkpoint, in plain types and tensors."""
        return {
            "step": self.step,
            # They are logged again with every pass.
            "figures": dict(self.figures),
            "groups": [
                {
                    "id": group.ids.id,
                    "seconds": group.ids.seconds,
                    "prompt": torch.from_numpy(np.asarray(group.ids.prompt, np.int64)),
                    "answers": [torch.from_numpy(np.asarray(ids, np.int64)) for ids in group.ids.answers],
                    **{name: _on_cpu(getattr(group, name)) for name in ("gains", "counts", "old", "reference")},
                }
                for group in self.groups
            ],
        }

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> StepTakes:
        """Return the takes of :meth:`state`."""
        groups = [
            TakenGroup(
                IdGroup(
                    kept["id"], kept["prompt"].numpy(), tuple(ids.numpy() for ids in kept["answers"]), kept["seconds"]
                ),
                **{name: kept[name] for name in ("gains", "counts", "old", "reference")},
            )
            for kept in state["groups"]
        ]
        return cls(state["step"], groups, dict(state["figures"]))


def taken_batch(groups: Sequence[IdGroup], layout: TokenLayout, gains: Tensor, counts: Tensor) -> TakenBatch:
    """Return takes of texts as a batch on the CPU."""
    packed = group_batch(groups, layout)
    # As a list: sizes that lie on a card would be waited for.
    return cast("TakenBatch", {**packed, "sizes": packed["said"].tolist(), "gains": gains, "counts": counts})


def made_up_batch(groups: Sequence[IdGroup], layout: TokenLayout) -> TakenBatch:
    """Return takes as a batch of which every second one is worse than the one before."""
    gains = torch.ones(sum(len(group.answers) for group in groups))
    gains[1::2] = -1
    return taken_batch(groups, layout, gains, torch.ones_like(gains))


def _on_cpu(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.detach().cpu()


def in_place(values: Sequence[float | None]) -> Tensor:
    """Return rewards (n,) in float32 with NaN where there is none."""
    return torch.tensor([float("nan") if value is None else value for value in values])
