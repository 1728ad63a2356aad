"""What trains the network: the only file here that knows Lightning, besides the data."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from tts_train.contract import Probe, StageData, StageModule, Work
from tts_train_toy.network import ToyNetwork, tone


class ToyProbe(Probe):
    """What ``check_backend`` measures the training by."""

    def rows(self) -> list[Tensor]:
        """Lines that it trains on; all of one length here."""
        return list(self.data.train_set)

    def weight(self, batch: Tensor) -> float:
        """The loss is a mean over lines of one length, so that with their number it is a sum."""
        return float(len(batch))


class ToyModule(StageModule):
    """Learns each letter's spectrum.

    Args:
        bins: Points of a spectrum between 0 and 1000 Hz.
        width: Size of the embedding.
        lr: Learning rate of AdamW.
    """

    def __init__(self, bins: int = 64, width: int = 32, lr: float = 0.01) -> None:
        super().__init__()
        self.bins, self.lr = bins, lr
        self.network = ToyNetwork(bins, width)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        """Mean squared error of the spectra."""
        loss = mse_loss(self.network(batch), tone(batch, self.bins))
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        """Log the same error on letters held out of training order, not of the alphabet."""
        self.log("val/loss", mse_loss(self.network(batch), tone(batch, self.bins)), sync_dist=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW at a constant rate."""
        return torch.optim.AdamW(self.parameters(), lr=self.lr)

    def work_in(self, batch: Tensor) -> Work:
        """How much a batch is, for the throughput figures: letters as tokens, and 0.1 s of sound each."""
        return Work(tokens=batch.numel(), audio_seconds=batch.numel() * 0.1)

    def probe(self, data: StageData) -> ToyProbe:
        """State that every weight gets a gradient, and that no line's loss depends on the lines beside it."""
        return ToyProbe(self, data)
