"""Figures of a model of frames: the first codebook, which the backbone says, beside those of the depth network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from torch import Tensor

from tts_train.families.token_lm.metrics import TokenMetrics


class FrameMetrics(TokenMetrics):
    """Sums over any number of batches, to which each part of the loss is added.

    ``loss`` is the mean over first codes plus the mean over all others, as in training.
    """

    kinds: ClassVar[Mapping[str, int]] = {"first": 0, "depth": 1}

    def kind_of(self, targets: Tensor) -> Tensor:
        """Return which network says each target."""
        return (self.layout.slot_of(targets) > 0).long()

    def compute(self, *, codes: bool = True) -> dict[str, float]:
        """Return the figures of a token model but ``wrong_slot``: each codebook has an output of its own."""
        figures = super().compute(codes=codes)
        figures.pop("wrong_slot", None)
        return figures

    def mean_loss(self, loss: Sequence[float], count: Sequence[float]) -> float:
        """Return the sum of both means."""
        return sum(total / number for total, number in zip(loss, count, strict=True) if number)
