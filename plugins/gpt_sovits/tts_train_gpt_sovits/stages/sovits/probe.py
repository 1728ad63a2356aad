"""What the stages ``sovits`` and ``cfm`` state of their training: gradients, and that a batch changes no utterance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from tts_train.contract import Probe, StageData
from tts_train_gpt_sovits.stages.sovits.batch import FRAMES_PER_CODE, HOP, SovitsBatch, SovitsUtterance

_ROWS = 3


class SoundProbe(Probe):
    """Measures on utterances of the data, whose chance follows from their ids."""

    module: Any
    rounding = 2e-5  # spectrograms and convolutions are summed in another order in a batch

    def rows(self) -> Sequence[SovitsUtterance]:
        """Return the first utterances, cut to one length, for the style reads two frames of padding, as upstream's."""
        rows: Any = self.data.train_set
        # Three are enough for a batch with something beside an utterance, and the critics are slow.
        first = [rows[number] for number in range(min(_ROWS, len(rows)))]
        codes = min(len(row.wave) // HOP // FRAMES_PER_CODE for row in first)
        return [_cut(row, codes) for row in first]

    @contextmanager
    def still(self) -> Iterator[None]:
        """Drop nothing: the network drops in training mode alone, and differs in nothing else."""
        network = self.module.network
        training = network.training
        network.eval()
        try:
            yield
        finally:
            network.train(training)

    def weight(self, batch: SovitsBatch) -> float:
        """Return the utterances."""
        return float(len(batch["ids"]))


class CfmProbe(SoundProbe):
    """The distance of the flow's velocity from the straight way, for each utterance."""

    without_gradient: Mapping[str, str] = MappingProxyType(
        {
            "network.style_encoder.": "Only the refinement reads the style, and passes no gradient on, as upstream's.",
            "network.mel_projection.": "Nothing reads it; the released files hold it.",
        }
    )

    def total(self, batch: SovitsBatch) -> Tensor:
        """Return its sum, with noise, time and prompt of the utterances."""
        losses: Tensor = self.module.losses(batch, fixed=True)
        return losses.sum()


class SovitsProbe(SoundProbe):
    """The generator's losses: the reconstruction of a slice, what critics say of it, and the divergence."""

    def __init__(self, module: Any, data: StageData) -> None:  # noqa: ANN401 - a SovitsModule
        super().__init__(module, data)
        if module.freeze_quantizer:
            self.without_gradient = {"network.feature_projection.": "The codes that are made of it are in the data."}

    def total(self, batch: SovitsBatch) -> Tensor:
        """Return their sum, with slice and noise of the utterances; the divergence is a mean over frames."""
        parts = dict(self.module.fixed_losses(batch))
        self.module.critics.requires_grad_(True)
        divergence = parts.pop("kl") * batch["frames"].sum()
        total: Tensor = torch.stack(list(parts.values())).sum() * self.weight(batch) + divergence
        return total


def _cut(row: SovitsUtterance, codes: int) -> SovitsUtterance:
    """Return the beginning of an utterance, with its whole text."""
    frames = FRAMES_PER_CODE * codes
    features = None if row.features is None else row.features[:, :frames]
    return replace(row, codes=row.codes[:codes], wave=row.wave[: frames * HOP], features=features)
