"""The training loop of the stage ``gpt``; each argument is a flag below ``--model``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from lightning import LightningModule
from torch import Tensor

from tts_train.errors import ConfigError
from tts_train.optim import OptimizerOptions, ScheduleOptions, build_optimizer, build_schedule
from tts_train_gpt_sovits.gpt.base import TINY, TinyOptions, load_network
from tts_train_gpt_sovits.gpt.names import config_to_upstream
from tts_train_gpt_sovits.gpt.network import GptNetwork, GptOutput
from tts_train_gpt_sovits.gpt.packing import PackedBatch
from tts_train_gpt_sovits.gpt.padded import padded_forward, unpack
from tts_train_gpt_sovits.gpt.scaled_adam import ScaledAdam
from tts_train_gpt_sovits.gpt.schedule import build_upstream_schedule

if TYPE_CHECKING:
    from lightning.pytorch.utilities.types import OptimizerLRScheduler

DESCRIPTION = "gpt_config"
"""The key of a checkpoint that holds the network's sizes, as upstream writes them."""


@dataclass(frozen=True)
class ScaledAdamOptions:
    """Upstream's optimiser; its rate is ``lr`` on the first step and 0.002 on every later one."""

    lr: float = 0.01
    """Rate of the first step, relative to a tensor's root mean square."""
    clip_update: bool = False
    """Clip the main step too, which upstream means to and does not."""


class GptModule(LightningModule):
    """Train the text-to-semantic network.

    Args:
        init_from: A GPT file of GPT-SoVITS (a base, or one from ``GPT_weights*``), or ``tiny``.
        optimizer_kind: ``scaled_adam`` as upstream, or ``standard``: ``optimizer`` and ``schedule``.
        scaled_adam: The numbers of the first.
        optimizer: The second.
        schedule: Its learning rate over the run.
        padding: ``none`` computes and trains real tokens only; ``upstream`` mirrors its padded batches, fault included,
            while validation stays without padding.
        dropout: Share dropped in training.
        gradient_checkpointing: Recompute each layer in backward: more arithmetic for a fraction of the memory.
        tiny: Sizes of the network that ``init_from: tiny`` makes.
    """

    def __init__(
        self,
        init_from: str = TINY,
        optimizer_kind: Literal["scaled_adam", "standard"] = "scaled_adam",
        scaled_adam: ScaledAdamOptions = ScaledAdamOptions(),
        optimizer: OptimizerOptions = OptimizerOptions(lr=1e-4),
        schedule: ScheduleOptions = ScheduleOptions(),
        padding: Literal["none", "upstream"] = "none",
        dropout: float = 0.1,
        gradient_checkpointing: bool = False,
        tiny: TinyOptions = TinyOptions(),  # noqa: B008 - frozen
    ) -> None:
        super().__init__()
        if not 0 <= dropout < 1:
            raise ConfigError(f"--model.dropout must be from 0 to below 1, and {dropout} was given.")
        self.init_from = init_from
        self.optimizer_kind = optimizer_kind
        self.scaled_adam = scaled_adam
        self.optimizer_options = optimizer
        self.schedule_options = schedule
        self.padding = padding
        self.dropout = dropout
        self.gradient_checkpointing = gradient_checkpointing
        self.tiny = tiny
        self.network: GptNetwork | None = None
        self._sums: dict[str, Tensor] = {}

    def configure_model(self) -> None:
        """Build the network, once."""
        if self.network is None:
            self.network = load_network(self.init_from, tiny=self.tiny, dropout=self.dropout)
            self.network.checkpointing = self.gradient_checkpointing

    def training_step(self, batch: PackedBatch, batch_idx: int) -> Tensor:
        """Return the mean loss of a token; with upstream's padding its sum, as upstream."""
        if self.padding == "upstream":
            output = padded_forward(self._built, unpack(batch))
            loss, mean = output.loss_sum, output.losses.mean()
            self.log("train/top3", output.top3(self._built.config.end), batch_size=1)
        else:
            packed = self._forward(batch)
            loss = mean = packed.losses.mean()
            self.log("train/top3", packed.top3(self._built.config.end), batch_size=1)
        self.log("train/loss", mean.detach(), prog_bar=True, batch_size=1)
        return loss

    def on_validation_epoch_start(self) -> None:
        """Begin new sums."""
        self._sums = {}

    def validation_step(self, batch: PackedBatch, batch_idx: int) -> None:
        """Add a batch to the sums: each token counts the same, and each utterance for ``val/utterance_loss``."""
        output = self._forward(batch)
        spoken = output.targets != self._built.config.end
        self._add("loss", output.losses.sum(), len(output.losses))
        self._add("top3", (output.hits & spoken).sum(), int(spoken.sum()))
        self._add("utterance_loss", -(output.chosen_logps / self._counts(output)).sum(), len(output.counts))

    def on_validation_epoch_end(self) -> None:
        """Log the figures over the whole set, whatever batch and process a token was in."""
        for name in sorted(self._sums):
            total = self.trainer.strategy.reduce(self._sums[name], reduce_op="sum")
            assert isinstance(total, Tensor)
            self.log(f"val/{name}", (total[0] / total[1].clamp(min=1)).float(), batch_size=1)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Build the optimiser and its schedule, stepped once an optimiser step."""
        if self.optimizer_kind == "scaled_adam":
            scaled = ScaledAdam(
                self._built.parameters(), lr=self.scaled_adam.lr, clip_update=self.scaled_adam.clip_update
            )
            return {
                "optimizer": scaled,
                "lr_scheduler": {"scheduler": build_upstream_schedule(scaled), "interval": "step"},
            }
        optimizer = build_optimizer(self, self.optimizer_options)
        schedule = build_schedule(optimizer, self.schedule_options, self.trainer.estimated_stepping_batches)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def count_work(self, batch: PackedBatch) -> dict[str, float]:
        """Return the real tokens and the seconds of audio in a batch, for throughput."""
        codes = sum(batch["counts"]) - len(batch["counts"])
        return {"tokens": codes + batch["phonemes"].numel(), "audio_seconds": codes / 25}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the network's sizes."""
        checkpoint[DESCRIPTION] = config_to_upstream(self._built.config)

    @property
    def _built(self) -> GptNetwork:
        assert self.network is not None
        return self.network

    def _forward(self, batch: PackedBatch) -> GptOutput:
        output: GptOutput = self._built(batch)
        return output

    def _add(self, name: str, total: Tensor, count: int) -> None:
        pair = torch.stack([total.detach().double(), total.new_tensor(count).double()])
        self._sums[name] = self._sums[name] + pair if name in self._sums else pair

    @staticmethod
    def _counts(output: GptOutput) -> Tensor:
        return output.losses.new_tensor(output.counts)
