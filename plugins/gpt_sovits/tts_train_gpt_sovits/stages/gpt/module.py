"""The training loop of the stage ``gpt``; each argument is a flag below ``--model``."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor

from tts_train.contract import ConfigError, StageModule, Work
from tts_train.optim import OptimizerOptions, ScheduleOptions
from tts_train_gpt_sovits.networks.gpt.network import GptNetwork, GptOutput
from tts_train_gpt_sovits.networks.gpt.packing import PackedBatch
from tts_train_gpt_sovits.networks.gpt.padded import padded_forward, unpack
from tts_train_gpt_sovits.released.bases import base_names
from tts_train_gpt_sovits.released.gpt_names import config_to_upstream
from tts_train_gpt_sovits.signal.versions import GptConfig
from tts_train_gpt_sovits.stages.gpt.data import V1_TABLES, GptData, check_phonemes
from tts_train_gpt_sovits.stages.gpt.optimizer import LOCKED_RATE, ScaledAdam, build_upstream_schedule
from tts_train_gpt_sovits.starts.adapters import GptLoraOptions, Method, adapt_gpt, trained_names
from tts_train_gpt_sovits.starts.gpt import DESCRIPTION, PREFIX, TINY, TinyGptOptions, load_initial, load_training

if TYPE_CHECKING:
    from lightning.pytorch.utilities.types import OptimizerLRScheduler

    from tts_train.contract import NoProbe, StageData
    from tts_train_gpt_sovits.stages.gpt.probe import GptProbe
    from tts_train_gpt_sovits.voice.listen import GptVoice

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ScaledAdamOptions:
    """Upstream's optimiser and its rates as they work: known recipes depend on them."""

    lr: float = 0.01
    """Rate of the first step, relative to a tensor's root mean square."""
    later_lr: float = LOCKED_RATE
    """Rate of every later step. Upstream's configuration writes down a warm-up and a cosine, and this is what runs."""
    clip_update: bool = False
    """Clip the main step too, which upstream means to and does not."""

    def __post_init__(self) -> None:
        if min(self.lr, self.later_lr) <= 0:
            raise ConfigError(
                f"--model.scaled_adam.lr and later_lr must be above 0, not {self.lr} and {self.later_lr}."
            )


class GptModule(StageModule):
    """Train the text-to-semantic network.

    Args:
        init_from: A GPT file of GPT-SoVITS (a base, one from ``GPT_weights*``, or a checkpoint of ``logs_s1*/ckpt``),
            a released version such as ``v2``, a run of ours, or ``tiny``.
        continue_optimizer: Also take up the optimiser and the schedule of a checkpoint of ``logs_s1*/ckpt``.
        method: ``full`` trains every weight, ``lora`` adapters over the frozen base.
        lora: The adapters.
        optimizer_kind: ``scaled_adam`` as upstream, or ``standard``: ``optimizer`` and ``schedule``. ``auto`` is the
            first for ``full`` and the second for ``lora``: steps relative to a tensor's size would hardly move
            adapters, which start at zero.
        scaled_adam: The numbers of the first.
        optimizer: The second.
        schedule: Its learning rate over the run.
        padding: ``none`` computes and trains real tokens only; ``upstream`` mirrors its padded batches, fault included,
            while validation stays without padding.
        dropout: Share dropped in training.
        gradient_checkpointing: Recompute each layer in backward: more arithmetic for a fraction of the memory.
        tiny: Sizes of the network that ``init_from: tiny`` makes.
    """

    description_key = DESCRIPTION
    names_decided_by = ("model.method", "model.lora", "model.init_from")
    FIGURES: ClassVar[tuple[str, ...]] = ("loss", "top3", "utterance_loss")
    """What a validation logs below ``val/``, besides ``loss/<language>``."""

    def __init__(
        self,
        init_from: str = TINY,
        continue_optimizer: bool = False,
        method: Method = "full",
        lora: GptLoraOptions = GptLoraOptions(),  # noqa: B008 - frozen
        optimizer_kind: Literal["auto", "scaled_adam", "standard"] = "auto",
        scaled_adam: ScaledAdamOptions = ScaledAdamOptions(),
        optimizer: OptimizerOptions = OptimizerOptions(lr=1e-4),
        schedule: ScheduleOptions = ScheduleOptions(),
        padding: Literal["none", "upstream"] = "none",
        dropout: float = 0.1,
        gradient_checkpointing: bool = False,
        tiny: TinyGptOptions = TinyGptOptions(),  # noqa: B008 - frozen
    ) -> None:
        super().__init__()
        if not 0 <= dropout < 1:
            raise ConfigError(f"--model.dropout must be from 0 to below 1, and {dropout} was given.")
        scaled = optimizer_kind == "scaled_adam" or (optimizer_kind == "auto" and method == "full")
        if method == "lora" and (scaled or continue_optimizer):
            raise ConfigError(
                "--model.method lora trains with --model.optimizer_kind standard: scaled_adam's steps are relative to "
                "a tensor's size and adapters start at zero. Leave out scaled_adam and --model.continue_optimizer."
            )
        if continue_optimizer and not scaled:
            raise ConfigError("--model.continue_optimizer takes up upstream's ScaledAdam; leave out optimizer_kind.")
        self.init_from = init_from
        self.continue_optimizer = continue_optimizer
        self.method = method
        self.lora = lora
        self.scaled_adam = scaled_adam if scaled else None
        self.optimizer_options = optimizer
        self.schedule_options = schedule
        self.padding = padding
        self.dropout = dropout
        self.gradient_checkpointing = gradient_checkpointing
        self.tiny = tiny
        self.network: GptNetwork | None = None

    def build(self) -> None:
        """Build the network from :attr:`init_from`.

        Raises:
            ConfigError: if the strategy shards what must be whole.
        """
        # Before a file of hundreds of megabytes is read.
        self._refuse_sharding()
        self._begin(load_initial(self.init_from, tiny=self.tiny, dropout=self.dropout))

    def build_shapes(self) -> None:
        """Build the network of a released version on ``meta`` without its file; any other as it is."""
        if self.init_from in base_names("s1") and not Path(self.init_from).exists():
            # The released v1 has 512 rows for phonemes, as upstream's configs/s1longer.yaml.
            tables = V1_TABLES if self.init_from == "v1" else (GptConfig.phonemes,)
            with torch.device("meta"):
                self._begin(GptNetwork(GptConfig(tables[-1], dropout=self.dropout)))
        else:
            self.build()

    @property
    def vocabulary(self) -> int:
        """Rows of the output matrix."""
        return GptConfig.codes

    def _begin(self, network: GptNetwork) -> None:
        self.network = network
        if self.method == "lora":
            adapt_gpt(self.network, self.lora)
        self.network.checkpointing = self.gradient_checkpointing

    def on_fit_start(self) -> None:
        """Refuse a set with phonemes that the network does not have, or takes where upstream's padding has no prompt.

        Raises:
            ConfigError: naming what to change.
        """
        data = self.stage_data
        if self.padding == "upstream" and isinstance(data, GptData) and data.sampled:
            raise ConfigError(
                f"{data.path} holds takes, which continue a spoken prompt, and upstream's padded batches have none. "
                "Leave --model.padding out."
            )
        check_phonemes(data, self._built.config.phonemes, self.init_from)

    def on_validation_start(self) -> None:
        """Do the same where nothing was trained before."""
        # Before a fit it was done already.
        if self.trainer.state.fn != "fit":
            self.on_fit_start()

    def on_train_start(self) -> None:
        """Warn where gradients are gathered over more batches than an epoch has."""
        batches, gathered = self.trainer.num_training_batches, self.trainer.accumulate_grad_batches
        if batches <= gathered and gathered > 1:
            logger.warning(
                "An epoch has %s batches and --trainer.accumulate_grad_batches is %s, so an epoch is one optimiser "
                "step. Lower it, or --data.max_tokens, for more.",
                batches,
                gathered,
            )

    def training_step(self, batch: PackedBatch, batch_idx: int) -> Tensor:
        """Return the mean loss of a token over all processes; with upstream's padding its sum here, as upstream."""
        if self.padding == "upstream":
            padded = padded_forward(self._built, unpack(batch))
            # A sum, not a mean: ScaledAdam does not care for the scale of a loss, and upstream's figures are of this
            # one.
            loss, mean, top3 = padded.loss_sum, padded.losses.mean(), padded.top3(self._built.config.end)
        else:
            output = self._forward(batch)
            (loss,), (mean,) = self.over_processes([output.losses.mean()], [len(output.losses)])
            top3 = output.top3(self._built.config.end)
        self.log("train/top3", top3, batch_size=1)
        self.log("train/loss", mean.detach(), batch_size=1)
        return loss

    def val_figures(self) -> list[str]:
        """Return the figures of a validation, one for each language of its set among them."""
        data = self.stage_data
        languages = data.val_languages if isinstance(data, GptData) else ()
        return [*self.FIGURES, *(f"loss/{language}" for language in languages)]

    def validation_step(self, batch: PackedBatch, batch_idx: int) -> None:
        """Add a batch to the sums."""
        self.add_figures(self._forward(batch), batch)

    def add_figures(self, output: GptOutput, batch: PackedBatch) -> None:
        """Add an output to the sums; rehearsal counts in the losses by language alone.

        Each token counts the same, and each utterance for ``val/utterance_loss``.
        """
        sums, counts = -output.chosen_logps, output.losses.new_tensor(output.counts)
        for language in set(batch["languages"]):
            here = [place for place, name in enumerate(batch["languages"]) if name == language]
            self.add_figure(f"loss/{language}", sums[here].sum(), counts[here].sum())
        if batch["rehearsed"]:
            return
        spoken = output.targets != self._built.config.end
        self.add_figure("loss", sums.sum(), counts.sum())
        self.add_figure("top3", (output.hits & spoken).sum(), spoken.sum())
        self.add_figure("utterance_loss", (sums / counts).sum(), len(sums))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Build the optimiser and its schedule, stepped once an optimiser step."""
        if self.scaled_adam is None:
            return self.standard_optimizer(self.optimizer_options, self.schedule_options)
        options = self.scaled_adam
        scaled = ScaledAdam(self._built.parameters(), lr=options.lr, clip_update=options.clip_update)
        done = self._continue(scaled) if self.continue_optimizer else 0
        locked = build_upstream_schedule(scaled, later=options.later_lr, done=done)
        return {"optimizer": scaled, "lr_scheduler": {"scheduler": locked, "interval": "step"}}

    def work_in(self, batch: PackedBatch) -> Work:
        """Return the codes and phonemes, and the seconds of speech in a batch."""
        codes = sum(batch["counts"]) - len(batch["counts"])
        return Work(tokens=codes + batch["phonemes"].numel(), audio_seconds=codes / 25)

    def voice(self) -> GptVoice:
        """Return what speaks with the weights as they are.

        Raises:
            ConfigError: if the data do not say which SoVITS made them, or it is not on this machine.
        """
        from tts_train_gpt_sovits.voice.listen import GptVoice, required
        from tts_train_gpt_sovits.voice.load import local_sovits
        from tts_train_gpt_sovits.voice.voice import GptSovitsVoice

        data = self.stage_data if isinstance(self.stage_data, GptData) else None
        found = data.held_out() if data else None
        if data and data.sampled and found is None:
            raise ConfigError(
                f"The recordings that the takes in {data.path} continue are not here any more, so there is nothing to "
                "speak. Give --listen.sentences 0."
            )
        held = required(found)
        sovits, version = local_sovits(held.data, self.device)
        return GptVoice(self, GptSovitsVoice(gpt=self._built, sovits=sovits, version=version), held)

    def check_listening(self, sentences: int | Sequence[str]) -> None:
        """Refuse texts that cannot be read."""
        from tts_train_gpt_sovits.voice.listen import check_texts

        if not isinstance(sentences, int):
            check_texts(sentences, self.stage_data.held_out() if isinstance(self.stage_data, GptData) else None)

    def probe(self, data: StageData) -> GptProbe | NoProbe:
        """Return what the training is measured by: codes that the network draws."""
        from tts_train_gpt_sovits.stages.gpt.probe import probe_of

        return probe_of(self, data, preferring=False)

    def describe(self) -> Mapping[str, Any]:
        """Return the network's sizes, as upstream writes them."""
        return config_to_upstream(self._built.config)

    def stored_names(self) -> set[str]:
        """Return the names of what is trained."""
        names = set(self._built.state_dict()) if self.method == "full" else set(trained_names(self._built))
        return {PREFIX + name for name in names}

    @property
    def _built(self) -> GptNetwork:
        assert self.network is not None
        return self.network

    def _forward(self, batch: PackedBatch) -> GptOutput:
        output: GptOutput = self._built(batch)
        return output

    def _refuse_sharding(self) -> None:
        needed = ["--model.optimizer_kind standard"] if self.scaled_adam is not None else []
        needed += ["--model.padding none"] if self.padding == "upstream" else []
        if needed and self.device_mesh is not None:
            raise ConfigError(
                "scaled_adam and upstream's padding need whole tensors, of which a process has only rows under "
                f"--trainer.strategy fsdp. Use {' and '.join(needed)}, or --trainer.strategy ddp."
            )

    def _continue(self, optimizer: ScaledAdam) -> int:
        """Give an optimiser the state of upstream's checkpoint and return the steps that were done."""
        file = load_training(self.init_from)
        groups = optimizer.state_dict()["param_groups"]
        # Its moments, and the rates that are configured here: upstream's file holds the rate of its last step.
        optimizer.load_state_dict({"state": file.optimizer["state"], "param_groups": groups})
        # Upstream's schedule counts its steps itself; the trainer's count stands in for a file without one.
        done = int(file.schedule.get("_current_step") or file.step or 0)
        logger.info("ScaledAdam goes on from %s, after %d steps.", self.init_from, done)
        return done
