"""The training loop of the stage ``cfm``, flow matching of v3 and v4; each argument is a flag below ``--model``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from tts_train.contract import ConfigError
from tts_train_gpt_sovits.networks.sovits.cfm import PROMPT_SHARE, SHORTCUT_SHARE, FlowSovitsNetwork
from tts_train_gpt_sovits.signal.frames import length_mask
from tts_train_gpt_sovits.signal.mel import GAN_MEL, MelSettings, batch_spectrogram, log_mel, normalise
from tts_train_gpt_sovits.signal.versions import find_version
from tts_train_gpt_sovits.stages.sovits.batch import HOP, SovitsBatch, magnitudes, samples, seed_of
from tts_train_gpt_sovits.stages.sovits.data import check_data
from tts_train_gpt_sovits.stages.sovits.optimizer import adamw, by_epoch, scale_by_batch, scale_figures
from tts_train_gpt_sovits.stages.sovits.stage import SovitsStage
from tts_train_gpt_sovits.starts.adapters import adapt_estimator, trained_names
from tts_train_gpt_sovits.starts.sovits_base import TINY, LoadedGenerator, TinySovitsOptions, planned_generator
from tts_train_gpt_sovits.starts.sovits_restore import NETWORK, describe, load_generator

if TYPE_CHECKING:
    from lightning.pytorch.utilities.types import OptimizerLRScheduler

    from tts_train.contract import StageData
    from tts_train_gpt_sovits.stages.sovits.probe import CfmProbe

TINY_VERSION = "v4"
_SHORTCUTS = (2, 8)  # steps of 2^-k are doubled, k from the first to below the second


class CfmModule(SovitsStage[FlowSovitsNetwork]):
    """Train the flow matching of mel spectrograms: v3 and v4. A vocoder of upstream's makes sound of them.

    Args:
        init_from: A released version's name (``v3``, ``v4``), a SoVITS file, a ``G_*.pth``, a run of ours, or ``tiny``.
        version: v3 or v4; needed where a file does not say which, v4 for ``tiny``.
        method: ``lora`` trains adapters on the estimator's attention, and bridge and refinement whole; ``full`` trains
            the whole estimator too. The style encoder stays, for no gradient reaches it, as in upstream's training.
        lora_rank: Rank of the adapters; upstream's choices are 16, 32, 64 and 128.
        lr: Learning rate.
        lr_decay: Factor of the rate for each epoch.
        gradient_checkpointing: Recompute the estimator's blocks in backward: more arithmetic, less memory.
        gpt: GPT that makes tokens of the texts in ``--listen.sentences``: a run, a file, or a released version's name.
        tiny: Sizes of the network that ``init_from: tiny`` makes.
    """

    names_decided_by = ("model.method", "model.lora_rank", "model.init_from")

    def __init__(
        self,
        init_from: str = TINY,
        version: str | None = None,
        method: Literal["lora", "full"] = "lora",
        lora_rank: int = 32,
        lr: float = 1e-4,
        lr_decay: float = 0.999875,
        gradient_checkpointing: bool = False,
        gpt: str | None = None,
        tiny: TinySovitsOptions = TinySovitsOptions(),  # noqa: B008 - frozen
    ) -> None:
        super().__init__(gpt)
        if lr <= 0 or not 0 < lr_decay <= 1 or lora_rank < 1:
            raise ConfigError(
                "--model.lr and --model.lora_rank must be above 0 and --model.lr_decay above 0 and at most 1."
            )
        self.init_from = init_from
        self.version = version
        self.method = method
        self.lora_rank = lora_rank
        self.lr = lr
        self.lr_decay = lr_decay
        self.gradient_checkpointing = gradient_checkpointing
        self.tiny = tiny
        self._start: LoadedGenerator | None = None

    def build(self) -> None:
        """Build the network from :attr:`init_from`."""
        version = self.version or (TINY_VERSION if self.init_from == TINY else None)
        self._begin(load_generator(self.init_from, version=version, tiny=self.tiny))

    def build_shapes(self) -> None:
        """Build the network of a released version on ``meta`` without its file; any other as it is."""
        start = planned_generator(self.init_from, version=self.version)
        if start is None:
            self.build()
        else:
            self._begin(start)

    def setup(self, stage: str) -> None:
        """Build the network before the strategy does, and look at the data.

        Raises:
            ConfigError: if a source is not of the version, or the data were made for another.
        """
        scale_by_batch(self.trainer, optimizers=1)
        self.configure_model()
        check_data(self.stage_data, self._built, self._loaded.version)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Build the optimiser and its schedule, a function of the step."""
        optimizer = adamw([each for each in self._built.parameters() if each.requires_grad], lr=self.lr)
        self.trainer.fit_loop.setup_data()
        steps = -(-int(self.trainer.num_training_batches) // self.trainer.accumulate_grad_batches)
        schedule = by_epoch(optimizer, decay=self.lr_decay, steps_per_epoch=steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def training_step(self, batch: SovitsBatch, batch_idx: int) -> Tensor:
        """Return the mean loss of an utterance; some batches teach longer steps."""
        steps = None
        # Drawn on the host, which decides what is computed.
        if torch.rand(()).item() < SHORTCUT_SHARE:
            steps = torch.randint(*_SHORTCUTS, (len(batch["ids"]),)).to(self.device, non_blocking=True)
        loss = self._losses(batch, steps=steps).mean()
        figures = {"loss": loss.detach(), **scale_figures(self.trainer)}
        self.log_dict({f"train/{name}": figure for name, figure in figures.items()}, batch_size=1)
        return loss

    def val_figures(self) -> list[str]:
        """Return the figures of a validation."""
        return ["loss", *self._each_language("loss")]

    def validation_step(self, batch: SovitsBatch, batch_idx: int) -> None:
        """Add a batch to the sums; an utterance always has the same noise, time and prompt."""
        losses = self.losses(batch, fixed=True)
        for language, loss in zip(batch["languages"], losses, strict=True):
            for name in ("loss", f"loss/{language}") if language else ("loss",):
                self.add_figure(name, loss, 1)

    def losses(self, batch: SovitsBatch, *, fixed: bool = False) -> Tensor:
        """Return the loss of each utterance (B,), with chance of its own; ``fixed``: that which it always has."""
        return self._losses(batch, **(self._draws(batch) if fixed else {}))

    def probe(self, data: StageData) -> CfmProbe:
        """Return what the training is measured by: gradients, and losses alone and in a batch."""
        from tts_train_gpt_sovits.stages.sovits.probe import CfmProbe

        return CfmProbe(self, data)

    def describe(self) -> Mapping[str, Any]:
        """Return the network's version, sizes and rank."""
        rank = self.lora_rank if self.method == "lora" else None
        return describe(self._loaded.version, self._loaded.sizes, lora_rank=rank)

    def stored_names(self) -> set[str]:
        """Return the names of what is trained; the frozen base of adapters is named by ``init_from``."""
        names = trained_names(self._built) if self.method == "lora" else self._built.state_dict()
        return {f"{NETWORK}{name}" for name in names}

    def _begin(self, start: LoadedGenerator) -> None:
        if not isinstance(start.network, FlowSovitsNetwork):
            raise ConfigError(f"SoVITS {start.version} is trained by the stage sovits: use --stage sovits.")
        self.network, self._start = start.network, start
        self.network.matching.estimator.checkpointing = self.gradient_checkpointing
        if self.method == "lora":
            adapt_estimator(self.network, self.lora_rank)

    def _losses(self, batch: SovitsBatch, **draws: Tensor | None) -> Tensor:
        wave, frames = samples(batch), batch["frames"]
        mel, mel_frames = target_mel(wave, frames, find_version(self._loaded.version).mel)
        # The whole network is called, not a part of it, so that DDP and FSDP see its forward.
        losses: Tensor = self._built(
            None,
            magnitudes(wave, frames),
            mel,
            frames,
            mel_frames,
            batch["phonemes"],
            batch["phoneme_counts"],
            codes=batch["codes"],
            **draws,
        )
        return losses

    def _draws(self, batch: SovitsBatch) -> dict[str, Tensor]:
        settings = find_version(self._loaded.version).mel
        # Each utterance's chance is drawn for its own length, so that a batch around it changes nothing.
        counts = [_mel_frames(int(count), settings) for count in batch["frames"].tolist()]
        noise = torch.zeros(len(counts), settings.n_mels, _mel_frames(2 * batch["codes"].shape[1], settings))
        chances = [torch.Generator().manual_seed(seed_of(name)) for name in batch["ids"]]
        for row, count, chance in zip(noise, counts, chances, strict=True):
            row[:, :count] = torch.randn(settings.n_mels, count, generator=chance)
        time, prompt = (torch.cat([torch.rand(1, generator=chance) for chance in chances]) for _ in range(2))
        prompts = (prompt * torch.tensor(counts) * PROMPT_SHARE).long()
        draws = {"noise": noise, "time": time, "prompt_lengths": prompts}
        return {name: drawn.to(self.device) for name, drawn in draws.items()}

    @property
    def _loaded(self) -> LoadedGenerator:
        assert self._start is not None
        return self._start


def target_mel(wave: Tensor, frames: Tensor, settings: MelSettings) -> tuple[Tensor, Tensor]:
    """Return the normalised mel frames (B, 100, T), 0 on padding, and their counts (B,).

    Args:
        wave: Samples at 32 kHz (B, F * 640).
        frames: Frames of 20 ms of each utterance (B,).
        settings: The version's mel spectrogram; audio is resampled to its rate.
    """
    if settings.sample_rate != GAN_MEL.sample_rate:
        from torchaudio.functional import resample

        # v3's mel spectrogram is of 24 kHz, and the data are at 32.
        wave = resample(wave, GAN_MEL.sample_rate, settings.sample_rate)
    lengths = frames * HOP * settings.sample_rate // GAN_MEL.sample_rate
    mel = normalise(log_mel(batch_spectrogram(wave, lengths, settings), settings))
    counts = lengths // settings.hop_length
    return mel * length_mask(counts, mel.shape[-1], mel.dtype), counts


def _mel_frames(frames: int, settings: MelSettings) -> int:
    return frames * HOP * settings.sample_rate // GAN_MEL.sample_rate // settings.hop_length
