"""The training loops of the stages ``gpt`` and ``dpo``; each argument is a flag below ``--model``."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from lightning import LightningModule
from torch import Tensor

from tts_train.errors import ConfigError
from tts_train.optim import OptimizerOptions, ScheduleOptions, build_optimizer, build_schedule
from tts_train_gpt_sovits.files import read_s1
from tts_train_gpt_sovits.gpt.dpo import UPSTREAM_BETA, Preference, preference
from tts_train_gpt_sovits.gpt.names import config_from_upstream, config_to_upstream, from_upstream
from tts_train_gpt_sovits.gpt.network import GptConfig, GptNetwork, GptOutput
from tts_train_gpt_sovits.gpt.packing import PackedBatch
from tts_train_gpt_sovits.gpt.padded import padded_forward, unpack, unpack_rejected
from tts_train_gpt_sovits.gpt.scaled_adam import ScaledAdam
from tts_train_gpt_sovits.gpt.schedule import build_upstream_schedule

if TYPE_CHECKING:
    from lightning.pytorch.utilities.types import OptimizerLRScheduler

logger = logging.getLogger(__name__)

TINY = "tiny"
"""The value of ``init_from`` that makes a small network of chance."""

DESCRIPTION = "gpt_config"
"""The key of a checkpoint that holds the network's sizes, as upstream writes them."""


@dataclass(frozen=True)
class ScaledAdamOptions:
    """Upstream's optimiser; its rate is ``lr`` on the first step and 0.002 on every later one."""

    lr: float = 0.01
    """Rate of the first step, relative to a tensor's root mean square."""
    clip_update: bool = False
    """Clip the main step too, which upstream means to and does not."""


@dataclass(frozen=True)
class TinyOptions:
    """Sizes of the network that ``init_from: tiny`` makes."""

    phonemes: int = 732
    """Rows of the phoneme table."""
    width: int = 32
    """Channels; a multiple of twice ``heads``."""
    heads: int = 2
    """Attention heads."""
    layers: int = 2
    """Layers."""

    def __post_init__(self) -> None:
        if min(self.phonemes, self.width, self.heads, self.layers) < 1 or self.width % (2 * self.heads):
            raise ConfigError(f"--model.tiny needs sizes of 1 or more, width a multiple of twice heads; it is {self}.")


class GptModule(LightningModule):
    """Train the text-to-semantic network.

    Args:
        init_from: A GPT file of GPT-SoVITS (a base, or one from ``GPT_weights*``), or ``tiny``.
        optimizer_kind: ``scaled_adam`` as upstream, or ``standard``: ``optimizer`` and ``schedule``.
        scaled_adam: The numbers of the first.
        optimizer: The second.
        schedule: Its learning rate over the run.
        padding: ``none`` computes and trains real tokens only; ``upstream`` mirrors its padded batches, fault included.
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
        tiny: TinyOptions = TinyOptions(),
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


class DpoModule(GptModule):
    """Train the text-to-semantic network on pairs, chosen over rejected.

    Args:
        beta: How strongly the network is held to the reference.
        label_smoothing: Share of pairs thought to be the wrong way round.
        reference: ``none`` as upstream; ``start`` holds the network to a frozen copy of itself as it began.
        sft_weight: Weight of the ordinary loss beside the preference.
        **gpt: As for the stage ``gpt``. With ``padding: upstream`` the loss is upstream's: the sum of the ordinary
            losses and the preference, both over padded rows; reference, smoothing and weight must be left alone.
    """

    def __init__(
        self,
        beta: float = UPSTREAM_BETA,
        label_smoothing: float = 0.0,
        reference: Literal["none", "start"] = "none",
        sft_weight: float = 1.0,
        **gpt: Any,  # noqa: ANN401 - GptModule's own
    ) -> None:
        super().__init__(**gpt)
        if beta <= 0 or sft_weight < 0 or not 0 <= label_smoothing < 0.5:
            raise ConfigError(
                "--model.beta must be above 0, --model.sft_weight 0 or more and --model.label_smoothing from 0 to "
                f"below 0.5; {beta}, {sft_weight} and {label_smoothing} were given."
            )
        if self.padding == "upstream" and (reference, sft_weight, label_smoothing) != ("none", 1.0, 0.0):
            raise ConfigError(
                "--model.padding upstream is upstream's objective, which has no reference, sft_weight or "
                "label_smoothing; leave them out, or use --model.padding none."
            )
        self.beta = beta
        self.label_smoothing = label_smoothing
        self.reference = reference
        self.sft_weight = sft_weight
        # In a list, so that the frozen copy is neither trained nor saved: it is made again from init_from.
        self._frozen: list[GptNetwork] = []

    def configure_model(self) -> None:
        """Build the network and its reference, once."""
        built = self.network is not None
        super().configure_model()
        if self.reference == "start" and not built:
            self._frozen = [deepcopy(self._built).requires_grad_(False).eval()]

    def training_step(self, batch: PackedBatch, batch_idx: int) -> Tensor:
        """Return the preference and the weighted ordinary loss."""
        if self.padding == "upstream":
            chosen, rejected = (padded_forward(self._built, of) for of in (unpack(batch), unpack_rejected(batch)))
            prefers = preference(chosen.logps, rejected.logps, beta=self.beta)
            sft, loss = chosen.losses.mean(), chosen.loss_sum + prefers.loss
        else:
            output = self._forward(batch)
            prefers, sft = self._preference(output, batch), output.losses.mean()
            loss = prefers.loss + self.sft_weight * sft
        figures = {"loss": sft, "preference": prefers.loss, "margin": prefers.margins.mean()}
        figures["pair_accuracy"] = prefers.accuracy
        self.log_dict({f"train/{name}": value.detach() for name, value in figures.items()}, batch_size=1)
        return loss

    def validation_step(self, batch: PackedBatch, batch_idx: int) -> None:
        """Add a batch to the sums, with its pairs."""
        super().validation_step(batch, batch_idx)
        prefers = self._preference(self._forward(batch), batch)
        count = len(prefers.margins)
        self._add("preference", prefers.loss * count, count)
        self._add("margin", prefers.margins.sum(), count)
        self._add("pair_accuracy", prefers.accuracy * count, count)

    def _preference(self, output: GptOutput, batch: PackedBatch) -> Preference:
        held = None
        if self._frozen:
            with torch.no_grad():
                start = self._frozen[0].to(self.device)(batch)
            held = (start.chosen_logps, start.rejected_logps)
        return preference(
            output.chosen_logps,
            output.rejected_logps,
            beta=self.beta,
            label_smoothing=self.label_smoothing,
            reference=held,
        )


def load_network(source: str, *, tiny: TinyOptions, dropout: float) -> GptNetwork:
    """Return the network of a GPT file in float32, or a small one of chance for ``tiny``.

    Raises:
        ConfigError: if the file's sizes or tensors are not those of this network.
        DataError: if it is no GPT file.
        UnsafeFileError: if it could run code.
    """
    if source == TINY:
        sizes = GptConfig(tiny.phonemes, width=tiny.width, heads=tiny.heads, layers=tiny.layers, dropout=dropout)
        return GptNetwork(sizes)
    file = read_s1(Path(source))
    model = file.config.get("model", {})
    if not isinstance(model, Mapping):
        raise ConfigError(f"{source} does not say its sizes. Give a GPT file of GPT-SoVITS.")
    with torch.device("meta"):
        network = GptNetwork(replace(config_from_upstream(model), dropout=dropout))
    network.to_empty(device="cpu")
    network.load_state_dict(
        {name: tensor.float() for name, tensor in from_upstream(file.weights, network.state_dict()).items()}
    )
    logger.info(
        "GPT %s from %s, %s parameters.", file.recognised.version, source, sum(p.numel() for p in network.parameters())
    )
    return network
