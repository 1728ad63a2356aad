"""The module that a stage trains: a LightningModule whose methods are the questions that the core asks."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

from lightning.pytorch import LightningModule
from lightning.pytorch.plugins import MixedPrecision

from tts_train.contract.data import StageData, stage_data
from tts_train.errors import TTSTrainError
from tts_train.parallel.means import Means, unweighted, weighted
from tts_train.parallel.together import reshard
from tts_train.run.checkpoint import check_names, check_sizes

if TYPE_CHECKING:
    from lightning.pytorch.utilities.types import OptimizerLRScheduler
    from torch import Tensor

    from tts_train.checkpoints.stored import StoredTensor
    from tts_train.contract.metric import Metric
    from tts_train.contract.probe import NoProbe, Probe
    from tts_train.contract.voice import SampleVoice
    from tts_train.optim import OptimizerOptions, ScheduleOptions

STATE = "state_dict"
"""Where Lightning's checkpoint keeps the weights."""


class Work(NamedTuple):
    """How much a batch is. Either may be a tensor on the batch's device, so that nothing waits for it."""

    tokens: float | Tensor
    """Real tokens, without padding."""
    audio_seconds: float | Tensor
    """Seconds of speech."""


class StageModule(LightningModule, ABC):
    """Base class of what a stage trains.

    A subclass writes :meth:`build`, :meth:`work_in`, and Lightning's ``training_step`` and ``configure_optimizers``;
    it logs ``train/loss`` and ``val/loss``. The other methods are questions with an answer for modules that have
    nothing to say. Constructor arguments become options (``--model.*``), so each needs a type and a line under
    ``Args:``.
    """

    description_key: str = ""
    """Key of :meth:`describe` in a checkpoint; empty where nothing is described."""
    names_decided_by: tuple[str, ...] = ()
    """Options that decide which weights a checkpoint holds, as in ``model.lora``: what to put back where one does not
    fit."""
    stopped: str | None = None
    """Why this module ended its run before the run's limits, in a sentence; None where it did not."""
    recompute_auto: bool = False
    """Whether the memory estimate may choose how much is recomputed in backward; it then calls :meth:`recompute`."""

    def __init__(self) -> None:
        super().__init__()
        # Which names a checkpoint must have is said by stored_names, and checked when it is loaded.
        self.strict_loading = False
        self._is_built = False
        self._means: Means | None = None

    # --- the network ------------------------------------------------------------------------------------------------

    def build(self) -> None:
        """Build the network and load its first weights; called once. Not needed if the constructor does it."""

    def build_shapes(self) -> None:
        """Build the network on ``meta``, reading no weights, for a memory estimate; the default builds it as is."""
        self.build()

    def describe(self) -> Mapping[str, Any]:
        """Return, in plain types, what the network must be built with again; kept in every checkpoint."""
        return {}

    @property
    def vocabulary(self) -> int | None:
        """Rows of the output matrix, if there is one: the estimate tells logits from other activations by it."""
        return None

    def stored_weights(self) -> Mapping[str, StoredTensor]:
        """Return where parameters that :meth:`build` left on ``meta`` lie on disk, by name; for sharded loading."""
        return {}

    def recompute(self, share: float) -> None:
        """Recompute this share of the layers in backward from now on, 0 to 1."""
        name = type(self).__name__
        raise TTSTrainError(
            f"{name} sets recompute_auto and has no recompute(share). Write it, or leave recompute_auto."
        )

    # --- checkpoints ------------------------------------------------------------------------------------------------

    def stored_names(self) -> set[str]:
        """Return the names in ``state_dict()`` that a checkpoint holds: all of them, unless some are never trained."""
        # keep_vars: only names are wanted, and without it each tensor is detached.
        return set(self.state_dict(keep_vars=True))

    # --- its data ---------------------------------------------------------------------------------------------------

    @property
    def stage_data(self) -> StageData | None:
        """The data of the run that this module is in; None where there are only loaders, as in a memory estimate."""
        return stage_data(self.trainer)

    # --- what a batch is, and how the module is heard -------------------------------------------------------------

    def work_in(self, batch: Any) -> Work | None:  # noqa: ANN401 - a batch is whatever the network takes
        """Return how much a batch is, for throughput; None if that is not known."""
        del batch
        return None

    def voice(self) -> SampleVoice | None:
        """Return what speaks with the weights as they are; None if this stage makes no sound.

        Raises:
            ConfigError: if something that speaking needs is not on this machine.
        """
        return None

    def check_listening(self, sentences: int | Sequence[str]) -> None:
        """Refuse, before a run trains, what it is to say and cannot with the options that it has.

        Args:
            sentences: As in ``--listen.sentences``: how many validation recordings, or texts.

        Raises:
            ConfigError: naming the option to give.
        """
        del sentences

    def offer(self, metrics: Callable[[Mapping[str, str]], Sequence[Metric]]) -> None:
        """Take up what can measure sound, for a stage that learns from measurements; others need none.

        Args:
            metrics: Returns the metrics of ``tts-train eval`` for this stage, those of extensions too, for the user's
                models by metric.
        """
        del metrics

    def stop(self, why: str) -> None:
        """End the run after this step, or after the validation that is under way, as early stopping does.

        Args:
            why: The reason, in a sentence that names the step; it stands in ``run.json``.
        """
        # A validation that follows may find more; the first reason is what ended it.
        self.stopped = self.stopped or why
        self.trainer.should_stop = True

    def training_precision(self) -> AbstractContextManager[object]:
        """Return the context in which a network computes as in training: autocast under a mixed precision."""
        plugin = self.trainer.precision_plugin
        return plugin.forward_context() if isinstance(plugin, MixedPrecision) else nullcontext()

    def voice_bytes(self, passages: int) -> int:
        """Return the memory in bytes that speaking ``passages`` texts at once takes besides the weights."""
        del passages
        return 0

    def probe(self, data: StageData) -> Probe | NoProbe | None:
        """Return what ``check_backend`` measures the training by; it refuses a stage that answers None.

        Args:
            data: The data of the run.
        """
        del data
        return None

    # --- over batches and processes --------------------------------------------------------------------------------

    def val_figures(self) -> Sequence[str]:
        """Return the names of what :meth:`add_figure` adds up in a validation, the same on every process.

        Their means are logged as ``val/NAME``; none are logged for a module that names none and logs by itself.
        """
        return ()

    def add_figure(self, name: str, total: Tensor, count: int | Tensor) -> None:
        """Add ``count`` items that sum to ``total`` to a mean over the validation set, each item counting the same.

        A name that :meth:`val_figures` does not have is left out.
        """
        assert self._means is not None, "figures are added in a validation"
        self._means.add(name, total, count)

    def over_processes(self, means: Sequence[Tensor], counts: Sequence[int | Tensor]) -> tuple[Tensor, Tensor]:
        """Weigh K means of this process, each () over a count of items, by the counts of all processes.

        Returns:
            (K,) what to train on, with gradients, and (K,) the means over all processes, without.
        """
        return weighted(self.trainer, means, counts)

    def averaged(self, figures: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return figures averaged over the processes, whose batches have as many items, without gradients."""
        return unweighted(self.trainer, figures)

    def divide_again(self) -> None:
        """Divide again what FSDP has gathered below this module; nothing where nothing is sharded."""
        reshard(self)

    def standard_optimizer(self, options: OptimizerOptions, schedule: ScheduleOptions) -> OptimizerLRScheduler:
        """Return what ``configure_optimizers`` returns: one optimiser, its schedule stepped once an optimiser step."""
        from tts_train.optim.build import build_optimizer
        from tts_train.optim.schedule import build_schedule

        optimizer = build_optimizer(self, options)
        planned = build_schedule(optimizer, schedule, self.trainer.estimated_stepping_batches)
        # Lightning steps a schedule once an epoch where nothing else is said.
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": planned, "interval": "step"}}

    # --- Lightning's side of it -------------------------------------------------------------------------------------

    def configure_model(self) -> None:
        """Build the network, once."""
        # Lightning asks at the start of each fit, validate or test, and one module may go through several.
        if not self._is_built:
            self.build()
            self._is_built = True

    def configure_shapes(self) -> None:
        """Build the network on ``meta``, once."""
        if not self._is_built:
            self.build_shapes()
            self._is_built = True

    def on_validation_epoch_start(self) -> None:
        """Begin new sums."""
        names = self.val_figures()
        self._means = Means(names, self.device) if names else None

    def on_validation_epoch_end(self) -> None:
        """Log the means over the whole set, whatever batch and process an item was in."""
        if self._means is not None:
            figures = {f"val/{name}": mean for name, mean in self._means.over(self.trainer.strategy).items()}
            # They are equal on all processes already; Lightning warns of figures that are not said to be.
            self.log_dict(figures, batch_size=1, sync_dist=True)
            self._means = None

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the weights that :meth:`stored_names` names, and what :meth:`describe` says."""
        names = self.stored_names()
        # A frozen base of gigabytes would otherwise be written with each adapter.
        checkpoint[STATE] = {name: tensor for name, tensor in checkpoint[STATE].items() if name in names}
        if self.description_key:
            checkpoint[self.description_key] = dict(self.describe())

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint in which a stored weight is missing or of another size, or that holds others.

        Raises:
            ConfigError: naming the first ones.
        """
        # A strategy that shards reads the weights itself and hands over the rest.
        if STATE in checkpoint and self._is_built:
            check_names(self.stored_names(), checkpoint[STATE], decided_by=self.names_decided_by)
            check_sizes(self.state_dict(), checkpoint[STATE], decided_by=self.names_decided_by)


def speaks(module: type[LightningModule]) -> bool:
    """Tell whether modules of this class can be heard while they train."""
    # Of the class: the parser asks, before any module is made.
    return issubclass(module, StageModule) and module.voice is not StageModule.voice
