"""The training loop of the stage ``sovits``; each argument is a flag below ``--model``."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from tts_train.contract import ConfigError
from tts_train_gpt_sovits.networks.sovits.adversarial import (
    KL_WEIGHT,
    MEL_WEIGHT,
    Critics,
    critic_loss,
    divergence,
    generator_parts,
    mel_loss,
    mels,
)
from tts_train_gpt_sovits.networks.sovits.network import GeneratedSlice, SovitsNetwork
from tts_train_gpt_sovits.signal.versions import find_version
from tts_train_gpt_sovits.stages.sovits.batch import SovitsBatch, fixed_draws, magnitudes, samples, wave_slices
from tts_train_gpt_sovits.stages.sovits.data import check_data
from tts_train_gpt_sovits.stages.sovits.optimizer import (
    adamw,
    by_epoch,
    parameter_groups,
    scale_by_batch,
    scale_figures,
)
from tts_train_gpt_sovits.stages.sovits.stage import SovitsStage
from tts_train_gpt_sovits.starts.sovits_base import (
    TINY,
    LoadedCritics,
    LoadedGenerator,
    TinySovitsOptions,
    optimizer_state,
    planned_critics,
    planned_generator,
)
from tts_train_gpt_sovits.starts.sovits_restore import critics_for, describe, load_critics, load_generator

if TYPE_CHECKING:
    from lightning.pytorch.core.optimizer import LightningOptimizer
    from lightning.pytorch.utilities.types import OptimizerLRScheduler

    from tts_train.contract import StageData
    from tts_train_gpt_sovits.stages.sovits.probe import SovitsProbe
    from tts_train_gpt_sovits.voice.listen import SovitsVoice

logger = logging.getLogger(__name__)


class SovitsModule(SovitsStage[SovitsNetwork]):
    """Train generator and critics against each other: v1, v2, v2Pro and v2ProPlus.

    A step is one of the generator: ``--trainer.max_steps``, checkpoints and logs count those. The critics take theirs
    first, in the same batch.

    Args:
        init_from: A released version's name (``v2``, ``v2Pro``, ...), a SoVITS file, a ``G_*.pth`` with what its
            optimiser had gathered, a run of ours, or ``tiny``.
        critics_from: The same for the critics, or ``fresh`` for untrained ones; None for those that go with
            ``init_from``: the ``D_*.pth`` beside it, the run's, else the released ones of its version.
        base_for_missing: Whole file that lends the posterior encoder to an ``init_from`` written for inference.
        version: v1, v2, v2Pro or v2ProPlus; None takes that of ``init_from``, v2 for ``tiny``.
        lr: Learning rate of both optimisers.
        text_lr_factor: Share of it at which phoneme embedding, text encoder and fusion learn.
        lr_decay: Factor of the rates for each epoch.
        c_mel: Weight of the mel distance.
        c_kl: Weight of the divergence between posterior and prior.
        segment_frames: Frames of 20 ms of the slice that is spoken of each utterance.
        freeze_quantizer: Keep the codes' meaning; a trained quantizer needs ``--data.features true``, and every GPT
            that is to work with it must be trained on its codes.
        gradient_clip: Greatest norm of each network's gradients; None for no limit, as upstream.
        gradient_checkpointing: Recompute the waveform generator's blocks in backward: more arithmetic, less memory.
        gpt: GPT that makes tokens of the texts in ``--listen.sentences``: a run, a file, or a released version's name.
        samples: Of older recipes; write ``--listen.sentences`` instead.
        tiny: Sizes of the networks that ``init_from: tiny`` makes.
    """

    names_decided_by = ("model.version", "model.init_from")

    def __init__(
        self,
        init_from: str = TINY,
        critics_from: str | None = None,
        base_for_missing: str | None = None,
        version: str | None = None,
        lr: float = 1e-4,
        text_lr_factor: float = 0.4,
        lr_decay: float = 0.999875,
        c_mel: float = MEL_WEIGHT,
        c_kl: float = KL_WEIGHT,
        segment_frames: int = 32,
        freeze_quantizer: bool = True,
        gradient_clip: float | None = None,
        gradient_checkpointing: bool = False,
        gpt: str | None = None,
        samples: int | None = None,
        tiny: TinySovitsOptions = TinySovitsOptions(),  # noqa: B008 - frozen
    ) -> None:
        super().__init__(gpt)
        if lr <= 0 or text_lr_factor < 0 or not 0 < lr_decay <= 1 or min(c_mel, c_kl) < 0 or segment_frames < 1:
            raise ConfigError(
                "--model.lr and --model.segment_frames must be above 0, --model.text_lr_factor, --model.c_mel and "
                "--model.c_kl 0 or more, and --model.lr_decay above 0 and at most 1."
            )
        # Two optimisers step in each batch, which Lightning's own loop no longer does.
        self.automatic_optimization = False
        self.init_from = init_from
        self.critics_from = critics_from
        self.base_for_missing = base_for_missing
        self.version = version
        self.lr = lr
        self.text_lr_factor = text_lr_factor
        self.lr_decay = lr_decay
        self.c_mel = c_mel
        self.c_kl = c_kl
        self.segment_frames = segment_frames
        self.freeze_quantizer = freeze_quantizer
        self.gradient_clip = gradient_clip
        self.gradient_checkpointing = gradient_checkpointing
        self.samples = samples
        self.tiny = tiny
        self.critics: Critics | None = None
        self._start: tuple[LoadedGenerator, LoadedCritics] | None = None

    def voice(self) -> SovitsVoice | None:
        """Return what speaks with the weights as they are; None where an older recipe asks for silence."""
        return None if self.samples == 0 else super().voice()

    def build(self) -> None:
        """Build both networks from their sources.

        Raises:
            ConfigError: if a source is not of the version, or its data were made for another.
        """
        generator = load_generator(
            self.init_from,
            version=self.version,
            tiny=self.tiny,
            freeze_quantizer=self.freeze_quantizer,
            base_for_missing=self.base_for_missing,
        )
        if not isinstance(generator.network, SovitsNetwork):
            raise ConfigError(f"SoVITS {generator.version} is trained by the stage cfm: use --stage cfm.")
        source = self.critics_from or critics_for(self.init_from, generator.version)
        self._begin(generator, load_critics(source, version=generator.version, shrink=self._shrink))

    def build_shapes(self) -> None:
        """Build the networks of a released version on ``meta`` without their files; any others as they are."""
        generator = planned_generator(self.init_from, version=self.version, freeze_quantizer=self.freeze_quantizer)
        if generator is not None and find_version(generator.version).kind == "gan":
            self._begin(generator, planned_critics(generator.version))
        else:
            self.build()

    def setup(self, stage: str) -> None:
        """Build the networks before the strategy does, and look at the data.

        Raises:
            ConfigError: if a source is not of the version, or the data were made for another.
        """
        # Before checkpoints are read, or a stored state would go to the scaler that is replaced here.
        scale_by_batch(self.trainer, optimizers=2)
        if self.samples is not None:
            logger.warning(
                "--model.samples is no longer used%s. Write --listen.sentences %d instead.",
                "" if self.samples else ", but for 0, which keeps this run silent",
                self.samples,
            )
        self.configure_model()
        check_data(self.stage_data, self._built, self._loaded.version, features=not self.freeze_quantizer)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Build the optimisers, with what upstream's had gathered, and their schedules."""
        assert self._start is not None
        groups = parameter_groups(self._built, lr=self.lr, text_lr_factor=self.text_lr_factor)
        pair = adamw(groups, lr=self.lr), adamw(self._critics.parameters(), lr=self.lr)
        for optimizer, state in zip(pair, (self._start[0].optimizer, self._start[1].optimizer), strict=True):
            if state:
                optimizer_state(optimizer, state, source=self.init_from)
        # The rate falls once an epoch, so the schedule must know how many batches one has, which Lightning does not
        # know yet here.
        self.trainer.fit_loop.setup_data()
        steps = int(self.trainer.num_training_batches)
        done = self._loaded.epochs
        return list(pair), [by_epoch(o, decay=self.lr_decay, steps_per_epoch=steps, done=done) for o in pair]

    def training_step(self, batch: SovitsBatch, batch_idx: int) -> Tensor:
        """Take a step of the critics and then one of the generator; return the generator's loss."""
        made, spectrum, wave = self._generate(batch)
        # In upstream's order: critics first, then the generator against critics that have just learned (s2_train.py).
        real = wave_slices(wave, made.starts, self.segment_frames)
        generator, critics = self._optimizers
        loss_of_critics = critic_loss(*self._critics.compare(real, made.audio.detach()))
        critics.zero_grad()
        self.manual_backward(loss_of_critics)
        # Lightning counts a step for each of its wrappers' steps; a step of this run is one of the generator.
        self.trainer.strategy.optimizer_step(critics.optimizer, _nothing)
        critics.zero_grad()  # their memory is free for the generator's step
        parts = self._losses(made, spectrum, real)
        total = torch.stack(list(parts.values())).sum()
        generator.zero_grad()
        self.manual_backward(total)
        self._critics.requires_grad_(True)  # only now: until its end a sharded network may be gathered copies
        generator.step()
        # With manual optimisation nobody else steps them.
        for schedule in self.lr_schedulers():  # type: ignore[union-attr]
            schedule.step()
        figures = self.averaged({"loss": total, **parts, "critics": loss_of_critics})
        figures |= scale_figures(self.trainer)
        self.log_dict({f"train/{name}": figure for name, figure in figures.items()}, batch_size=1)
        return total.detach()

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clip the gradients of one network, after the loss scale is undone."""
        if self.gradient_clip is not None:
            clip_grad_norm_([each for group in optimizer.param_groups for each in group["params"]], self.gradient_clip)

    def val_figures(self) -> list[str]:
        """Return the figures of a validation."""
        return ["loss", "kl", *self._each_language("mel_loss")]

    def validation_step(self, batch: SovitsBatch, batch_idx: int) -> None:
        """Add a batch to the sums, its slices and noise always the same."""
        made, spectrum, _ = self._generate_fixed(batch)
        target, spoken = mels(made, spectrum, self.segment_frames)
        for i, language in enumerate(batch["languages"]):
            apart = mel_loss(target[i], spoken[i])
            for name in ("loss", f"mel_loss/{language}") if language else ("loss",):
                self.add_figure(name, apart, 1)
        self.add_figure("kl", divergence(made) * len(target), len(target))

    def fixed_losses(self, batch: SovitsBatch) -> dict[str, Tensor]:
        """Return the parts of the generator's loss, with the slice and noise that an utterance always has."""
        made, spectrum, wave = self._generate_fixed(batch)
        return self._losses(made, spectrum, wave_slices(wave, made.starts, self.segment_frames))

    def probe(self, data: StageData) -> SovitsProbe:
        """Return what the training is measured by: gradients of both networks, and losses alone and in a batch."""
        from tts_train_gpt_sovits.stages.sovits.probe import SovitsProbe

        return SovitsProbe(self, data)

    def describe(self) -> Mapping[str, Any]:
        """Return what the networks are."""
        return describe(self._loaded.version, self._loaded.sizes, shrink=self._critics.shrink)

    def _begin(self, generator: LoadedGenerator, critics: LoadedCritics) -> None:
        assert isinstance(generator.network, SovitsNetwork)
        self.network, self.critics = generator.network, critics.network
        self.network.generator.checkpointing = self.gradient_checkpointing
        self._start = generator, critics

    def _generate_fixed(self, batch: SovitsBatch) -> tuple[GeneratedSlice, Tensor, Tensor]:
        latent = self._built.posterior_encoder.output.out_channels // 2
        starts, noise = fixed_draws(batch, latent=latent, frames=self.segment_frames, device=self.device)
        return self._generate(batch, starts=starts, noise=noise)

    def _generate(
        self, batch: SovitsBatch, *, starts: Tensor | None = None, noise: Tensor | None = None
    ) -> tuple[GeneratedSlice, Tensor, Tensor]:
        """Return what the generator made, the spectrogram and the samples of a batch."""
        wave = samples(batch)
        spectrum = magnitudes(wave, batch["frames"])
        made: GeneratedSlice = self._built(
            batch["features"] if not self.freeze_quantizer else None,
            spectrum,
            batch["frames"],
            batch["phonemes"],
            batch["phoneme_counts"],
            frames=self.segment_frames,
            codes=batch["codes"] if self.freeze_quantizer else None,
            speaker=batch["speaker"] if self._built.speaker_style is not None else None,
            starts=starts,
            noise=noise,
        )
        return made, spectrum, wave

    def _losses(self, made: GeneratedSlice, spectrum: Tensor, real: Tensor) -> dict[str, Tensor]:
        parts = generator_parts(
            self._critics, made, spectrum, real, c_mel=self.c_mel, c_kl=self.c_kl, frames=self.segment_frames
        )
        return parts if self.freeze_quantizer else {**parts, "commitment": made.quantized.commitment}

    @property
    def _shrink(self) -> int:
        return self.tiny.critic_shrink if self.init_from == TINY else 1

    @property
    def _loaded(self) -> LoadedGenerator:
        assert self._start is not None
        return self._start[0]

    @property
    def _critics(self) -> Critics:
        assert self.critics is not None
        return self.critics

    @property
    def _optimizers(self) -> tuple[LightningOptimizer, LightningOptimizer]:
        generator, critics = cast("list[LightningOptimizer]", self.optimizers())
        return generator, critics


def _nothing() -> None:
    """The closure of a step whose gradients are there already."""
