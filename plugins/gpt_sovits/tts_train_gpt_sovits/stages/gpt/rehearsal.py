"""Rehearsal: batches of a second prepared set among those of the first, so that other languages are not forgotten."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tts_train.contract import ConfigError
from tts_train.datasets import Batches, batches_for, pack, shuffled

_LAP = 1_000_003
_TURNS = 7_919


@dataclass(frozen=True)
class RehearsalOptions:
    """A second prepared set, such as a few hours in the languages that the voice shall keep."""

    path: str | None = None
    """Folder that ``tts-train prepare`` wrote, by the same version as ``--data.path``; none for no rehearsal."""
    share: float = 0.2
    """Share of the batches that come from it, above 0 and below 1."""
    val_share: float = 0.05
    """Share of its utterances kept for validation; they count in the figures by language alone."""

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise ConfigError(f"--data.rehearsal.share must be above 0 and below 1, and {self.share} was given.")


def mix(
    own: Batches,
    lengths: NDArray[np.int64],
    share: float,
    *,
    offset: int,
    max_tokens: int,
    seed: int,
    epoch: int,
) -> Batches:
    """Put rehearsal batches among an epoch's own, in shuffled order, as many in every epoch.

    The epochs go through the second set one after another: each takes up where the one before left off, and no row
    comes again before all have come.

    Args:
        own: The epoch's own batches.
        lengths: Tokens of each rehearsal row.
        share: Share of the batches that are rehearsal.
        offset: Index of the first rehearsal row.
        max_tokens: Budget of a batch.
        seed: One seed, one sequence of epochs.
        epoch: From 0.
    """
    count = max(1, round(len(own) * share / (1 - share)))
    in_a_lap = batches_for(lengths, max_tokens, seed=seed + _LAP)
    batches = list(own)
    laps: dict[int, Batches] = {}
    for number in range(epoch * count, (epoch + 1) * count):
        lap, place = divmod(number, in_a_lap)
        if lap not in laps:
            laps[lap] = pack(lengths, max_tokens, seed=seed + _LAP, epoch=lap, batches=in_a_lap)
        batches.append([offset + row for row in laps[lap][place]])
    # By chance rather than at even distances, which could fall in with those at which figures are logged.
    return [batches[place] for place in shuffled(len(batches), seed=seed + _TURNS, epoch=epoch).tolist()]
