"""Hear and score a fixed set of sentences while a run trains, without touching what it trains."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from lightning.pytorch.utilities.seed import isolate_rng

from tts_train.contract.module import StageModule, speaks
from tts_train.contract.voice import Passage, SampleVoice
from tts_train.errors import ConfigError, TTSTrainError
from tts_train.nn.room import free_memory
from tts_train.run.loops import mid_accumulation
from tts_train.training.listen.budget import TimeBudget
from tts_train.training.listen.options import ListenOptions
from tts_train.training.listen.samples import (
    GUARDS,
    Scorer,
    judge,
    keep_known,
    keep_said,
    known_figures,
    mean_figures,
    most_tokens,
    with_recordings,
)
from tts_train.training.watch.throughput import Throughput

PREFIX = "listen/"
SHARE = "share"
NO_MEMORY = (
    "Step %d: there is no memory to speak while this run trains (%s). Training goes on, and nothing more is spoken. To "
    "hear it, leave room with smaller batches; --listen.sentences 0 does without."
)
"""What is said when listening, of all things, runs out of memory."""

logger = logging.getLogger(__name__)


class Listen(Callback):
    """Lets a module that has a voice speak while it trains, and keeps what it said.

    Each time writes ``step-*/NAME.wav`` with mel picture and facts, shows both in TensorBoard, and logs ``listen/``
    figures: the mean of each score, how many passages each guard found fault with, and ``listen/share``, the share of
    the time that all this took. A time speaks all passages or, where that would take too long, none, so that means can
    be compared. What something monitors is measured every time.

    The first process speaks, and the others get its figures. The global random states, the modules' modes and the
    weights are the same afterwards.

    Args:
        options: What and how often.
        folder: Where samples go, ``samples`` of the run.
        seed: The run's seed; the n-th passage is always drawn with ``seed + n``.
    """

    def __init__(self, options: ListenOptions, folder: Path, *, seed: int) -> None:
        self.options = options
        self.budget = TimeBudget(options.max_share)
        self._folder = folder
        self._seed = seed
        self._on = False
        self._needed = False
        self._given_up = False
        self._last = 0
        self._scorer = Scorer(options.metrics)
        self._voice: SampleVoice | None = None
        self._passages: Sequence[Passage] = ()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """See whether the stage can say what it is asked for, before its weights are loaded.

        Raises:
            ConfigError: if something that it needs was not named.
        """
        if stage == "fit" and self.options.sentences and isinstance(pl_module, StageModule) and _is_whole(trainer):
            pl_module.check_listening(self.options.sentences)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """See whether this run can be heard, and whether somebody waits for the figures.

        Raises:
            ConfigError: if somebody does and there are none of that name, or takes the worst for the best.
        """
        whole = _is_whole(trainer)
        self._on = bool(self.options.sentences) and speaks(type(pl_module)) and whole
        if self.options.sentences and speaks(type(pl_module)) and not whole:
            logger.info("No process of this strategy has the whole network, so nothing is spoken while it trains.")
        known = {**known_figures(self._scorer), **dict.fromkeys((*GUARDS, SHARE), "lower")} if self._on else {}
        # A list, not a generator: each name is checked, also behind one that is needed.
        self._needed = any([_is_needed(each, known) for each in _monitors(trainer)])

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to count time, and speak if what training starts from is to be heard."""
        self._last = trainer.global_step
        self.budget.begin()
        # A continued run has heard it, and its weights have moved since.
        if self.options.at_start and trainer.global_step == 0:
            self._hear(trainer, pl_module)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Speak, before anybody looks at the validation's figures."""
        if self.options.every_n_steps is None and trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._hear(trainer, pl_module)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401 - Lightning's signature
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Speak if so many steps were done."""
        every, step = self.options.every_n_steps, trainer.global_step
        # Between accumulated batches global_step stands still, and would ask again.
        if every is None or mid_accumulation(trainer) or step // every <= self._last // every:
            return
        self._last = step
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, Throughput):
                callback.exclude(pl_module.device)
        self._hear(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say what it took, and what was left out."""
        if self._on and trainer.is_global_zero and (self.budget.done or self.budget.left_out):
            logger.info(
                "Listened %d times (%.1f %% of the run's time); skipped %d times to stay within --listen.max_share %g.",
                self.budget.done,
                100 * self.budget.share,
                self.budget.left_out,
                self.options.max_share,
            )

    def _hear(self, trainer: Trainer, module: LightningModule) -> None:
        """Speak in the first process, and give every process the figures."""
        if not self._on:
            return
        figures: dict[str, float] = self._speak(trainer, module) if trainer.is_global_zero else {}
        if trainer.world_size > 1:
            # Early stopping and the best checkpoint decide in every process, and must decide alike.
            figures = trainer.strategy.broadcast(figures)
        for each in trainer.loggers:
            each.log_metrics(figures, step=trainer.global_step)
        # Where early stopping looks; Lightning's self.log is not for callbacks at this point of a validation.
        trainer.callback_metrics.update({name: torch.tensor(value) for name, value in figures.items()})

    def _speak(self, trainer: Trainer, module: LightningModule) -> dict[str, float]:
        """Return the figures; those of the passages only if there was time for them."""
        if self._given_up:
            return {}
        figures: dict[str, float] = {}
        with untouched(module):
            try:
                if self._voice is None:
                    with self.budget.spend(counts=False):
                        self._open(module)
                if self._passages and self._allowed(trainer):
                    # Before the first step it is no measure of what fits later, and the next time is always heard.
                    with self.budget.spend(counts=trainer.global_step > 0):
                        figures = self._say(trainer)
            except torch.OutOfMemoryError as error:
                if self._needed:
                    raise
                logger.warning(NO_MEMORY, trainer.global_step, str(error).partition("\n")[0])
                self._given_up = True
            except (TTSTrainError, RuntimeError, OSError) as error:
                if self._needed:
                    raise
                # Training matters more than hearing it.
                logger.warning("Nothing more is spoken while this run trains: %s", error)
                self._given_up = True
        if self._given_up:
            # What speaking held goes back to training; within the handlers the error would still hold some of it.
            self._voice, self._passages = None, ()
            free_memory()
        return {PREFIX + name: value for name, value in {**figures, SHARE: self.budget.share}.items()}

    def _allowed(self, trainer: Trainer) -> bool:
        if self.budget.allows(needed=self._needed):
            return True
        if self.budget.left_out == 1:
            logger.info(
                "Skipping listening at step %d to stay within --listen.max_share %g.",
                trainer.global_step,
                self.options.max_share,
            )
        return False

    def _open(self, module: LightningModule) -> None:
        """Load what speaking needs, and keep what is compared with."""
        assert isinstance(module, StageModule)
        self._voice = module.voice()
        self._passages = self._find(self._voice) if self._voice is not None else ()
        for passage in self._passages:
            keep_known(self._folder, passage)

    @property
    def _seeds(self) -> Sequence[int]:
        # The same numbers at every step of the run, so that takes differ by the weights alone.
        return [self._seed + number for number in range(len(self._passages))]

    def _limits(self, voice: SampleVoice) -> Sequence[int]:
        return [most_tokens(passage, tokens_per_second=voice.tokens_per_second) for passage in self._passages]

    def _find(self, voice: SampleVoice) -> Sequence[Passage]:
        asked = self.options.sentences
        if isinstance(asked, int):
            return self._with_recordings(voice.held_out(asked))
        return [voice.passage(f"text-{n + 1}", text) for n, text in enumerate(asked)]

    def _with_recordings(self, passages: Sequence[Passage]) -> Sequence[Passage]:
        corpus = self.options.recordings
        return passages if corpus is None else with_recordings(passages, corpus)

    def _say(self, trainer: Trainer) -> dict[str, float]:
        assert self._voice is not None
        rate, step = self._voice.tokens_per_second, trainer.global_step
        rows, faults = [], dict.fromkeys(GUARDS, 0)
        said = self._voice.speak_many(self._passages, seeds=self._seeds, max_tokens=self._limits(self._voice))
        for passage, seed, uttered in zip(self._passages, self._seeds, said, strict=True):
            found = judge(passage, uttered, tokens_per_second=rate)
            row = self._scorer.score(passage, uttered.sound) if len(uttered.sound.samples) else {}
            facts = {"seed": seed, "tokens": len(uttered.tokens), **row, **{k: "yes" for k, v in found.items() if v}}
            keep_said(self._folder, passage, uttered.sound, facts, step=step, loggers=trainer.loggers)
            faults = {name: faults[name] + found[name] for name in GUARDS}
            rows.append(row)
        return {**mean_figures(rows), **faults} if rows else {}


def _is_whole(trainer: Trainer) -> bool:
    """Tell whether every process has the whole network, so that one can speak with it."""
    return isinstance(trainer.strategy, (SingleDeviceStrategy, DDPStrategy))


@contextmanager
def untouched(module: LightningModule) -> Iterator[None]:
    """Put a module in evaluation mode; random states and modes are afterwards what they were."""
    # Each part's own: module.train() would also switch on what a stage keeps in evaluation mode.
    modes = [(part, part.training) for part in module.modules()]
    with isolate_rng(), torch.no_grad():
        module.eval()
        try:
            yield
        finally:
            for part, training in modes:
                part.training = training


def _monitors(trainer: Trainer) -> Iterator[tuple[str, str]]:
    """What callbacks watch, and whether they take the least (``min``) or the most (``max``) for the best."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        # Ours keep their monitor in options, Lightning's on themselves.
        settings = getattr(callback, "options", callback)
        name, mode = (getattr(settings, key, None) for key in ("monitor", "mode"))
        if isinstance(name, str) and isinstance(mode, str):
            yield name, mode


def _is_needed(monitor: tuple[str, str], known: Mapping[str, str]) -> bool:
    """Tell whether a monitored figure is one of ours.

    Raises:
        ConfigError: if it would be and is not, or its mode is the wrong way round.
    """
    name, mode = monitor
    if not name.startswith(PREFIX):
        return False
    better = known.get(name.removeprefix(PREFIX))
    if better is None:
        told = ", ".join(PREFIX + each for each in known) or "nothing: this run does not speak while it trains"
        raise ConfigError(f"{name} is monitored, and what is measured while listening is {told}.")
    if (better, mode) in (("higher", "min"), ("lower", "max")):
        raise ConfigError(
            f"{name} is better when it is {better}, and its monitor has mode {mode}: the worst would be kept. Give "
            f"--checkpoint.mode {'max' if better == 'higher' else 'min'} (for early stopping, that callback's mode)."
        )
    return True
