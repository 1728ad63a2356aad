"""A training run as a call: which callbacks it has, what is planned and refused before, and what is written."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import Logger, TensorBoardLogger

from tts_train.checkpoints.folder_io import DirectoryCheckpointIO
from tts_train.configuration.select import Chosen, Selection
from tts_train.configuration.settings import Recipe, Settings, requested
from tts_train.disk.files import write_atomically
from tts_train.environment import quiet
from tts_train.errors import ConfigError, DiskError
from tts_train.memory.step.gradients import DropGradients
from tts_train.report.page import write_report
from tts_train.report.sections import TITLES
from tts_train.run.checkpoint import RunCard, open_checkpoint
from tts_train.run.directory import RunDirectory
from tts_train.run.loops import keyboard_interrupts, leave_signals_alone
from tts_train.training.listen.callback import Listen
from tts_train.training.parser import TrainingParser
from tts_train.training.planning import card_of, check_fits, resolve_auto, resolve_share
from tts_train.training.session import RunSession
from tts_train.training.survive.stopping import ends_this_process, others_end_too
from tts_train.training.watch.history import Baseline, LiveReport, MetricsHistory
from tts_train.training.watch.progress import TrainingProgress
from tts_train.training.watch.throughput import Throughput

if TYPE_CHECKING:
    from tts_train.memory.planner import Plan

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """How far a run has come."""

    run_dir: Path
    step: int
    """Optimiser steps taken."""
    figures: Mapping[str, float]
    """Figures last logged, such as ``val/loss``."""
    report: Path | None
    """The page about the run; None in all processes but the first."""

    def as_dict(self) -> dict[str, Any]:
        """Return it in plain types, as the command prints it."""
        page = {} if self.report is None else {"report": str(self.report)}
        return {"run_dir": str(self.run_dir), "step": self.step, **self.figures, **page}


@dataclass(frozen=True, kw_only=True)
class ScoringResult:
    """What a run scores on its validation or test data."""

    checkpoint: Path | None
    """What was scored; None for the untrained base."""
    step: int
    figures: Mapping[str, float]
    """Mean of each figure over the data."""

    def as_dict(self) -> dict[str, Any]:
        """Return it in plain types, as the command prints it."""
        what = "the untrained base" if self.checkpoint is None else str(self.checkpoint)
        return {"scored": what, "step": self.step, **self.figures}


class Training:
    """A training run: what ``tts-train fit``, ``validate`` and ``test`` do, as calls.

    The run lives in its directory. The same call on it continues exactly, as the same command does, also after an error
    or a kill, and a run that was begun by one is continued by the other. Nothing is read but the recipe until a method
    is called.

    Args:
        recipe: File of a recipe, name of one (with ``backend``), settings as a mapping, or a run directory.
        settings: Settings that win over the recipe, by whole names: ``{"trainer.max_steps": 100}``.
        options: The same as keyword arguments, sections as mappings: ``backend="toy"``, ``run_dir="runs/anna"``,
            ``trainer={"max_steps": 100}``. All options of the command are settings.

    Raises:
        ConfigError: for a setting that there is not, or a value that it does not take.
    """

    def __init__(self, recipe: Recipe | None = None, settings: Settings | None = None, /, **options: Any) -> None:  # noqa: ANN401 - values of any setting
        self._chosen, self._selection = requested("fit", recipe, settings, options)
        self._exits = False

    @classmethod
    def of(cls, chosen: Chosen, selection: Selection) -> Training:
        """Return the training that a command line asks for, in a process that is there for nothing else.

        A third signal ends that process at once.
        """
        training = cls.__new__(cls)
        training._chosen, training._selection, training._exits = chosen, selection, True
        return training

    def fit(self) -> TrainingResult:
        """Train to the end, from where the run stands.

        In the main thread the first Ctrl-C, or the stop of a notebook, lets the step end and saves the run; a second
        one stops at once. In any other thread signals are not seen.

        Raises:
            ConfigError: for settings that do not fit each other, the run or this machine.
            Interrupted: if it was asked to stop; the same call continues.
            NumericError, DiskError: if it cannot go on; the last good checkpoint is intact.
            RunLockedError: if another process trains in the run directory.
        """
        with _as_a_call(exits=self._exits):
            return self._prepared("fit").fit(exits=self._exits)

    def validate(self) -> ScoringResult:
        """Score the run's newest checkpoint, or the untrained base, on the validation data.

        Raises:
            ConfigError: for settings that do not fit each other or this machine.
        """
        return self.score("validate")

    def test(self) -> ScoringResult:
        """Score the run's newest checkpoint, or the untrained base, on the test data.

        Raises:
            ConfigError: if the stage has none, or for settings that do not fit each other or this machine.
        """
        return self.score("test")

    def score(self, which: str) -> ScoringResult:
        """Do :meth:`validate` or :meth:`test`, by its name."""
        with _as_a_call(exits=self._exits):
            return self._prepared(which).score(which)

    def _prepared(self, verb: str) -> _Run:
        """Parse the settings, with numbers in place of what was left to the card."""
        chosen, words = self._chosen, self._selection.rest
        parser = TrainingParser(verb, chosen, words)
        directory = RunDirectory(parser.resolved["run_dir"] or _default_run_dir(chosen, self._selection))
        found = resolve_auto(verb, parser, chosen, words, directory)
        if found is not words:
            parser = TrainingParser(verb, chosen, found)
        shared, plan = resolve_share(verb, parser, chosen, found, directory)
        if shared is not found:
            parser = TrainingParser(verb, chosen, shared)
        return _Run(parser, chosen, directory, plan)


@dataclass(frozen=True)
class _Run:
    """A run whose settings are parsed and whose networks are built."""

    parser: TrainingParser
    chosen: Chosen
    directory: RunDirectory
    plan: Plan | None

    def fit(self, *, exits: bool) -> TrainingResult:
        parser, run = self.parser, self.directory
        config = {**parser.resolved, "run_dir": str(run.path)}
        inject = config.pop("debug")["inject"]  # a fault belongs to a command, not to the run
        config.pop("plan")
        with LiveReport(run.path) as page, self._session(config, exits=exits) as session:
            if session.leads:
                _write_config(run, config)
            survival = session.callbacks(parser.options("checkpoint"), inject=inject)
            heard = Listen(parser.options("listen"), run.samples, seed=parser.seed)
            watching = [DropGradients(), Throughput(), MetricsHistory(run.path), Baseline(), heard, page]
            trainer = _trainer(parser, self.chosen, run, [*survival, *watching])
            with others_end_too(trainer):
                step = session.fit(trainer, parser.model, parser.datamodule)
        written = write_report(run.path) if trainer.is_global_zero else None
        return TrainingResult(run_dir=run.path, step=step, figures=_figures(trainer), report=written)

    def _session(self, config: dict[str, Any], *, exits: bool) -> RunSession:
        """Return the session, after the plan's verdict on a run that begins."""
        chosen, parser = self.chosen, self.parser
        trainer = parser.options("trainer")
        plan = check_fits(parser, chosen, self.directory, card_bytes=card_of(trainer), plan=self.plan)
        card = RunCard(backend=chosen.backend.name, stage=chosen.stage.name, config=config, folder=str(Path.cwd()))
        record: dict[str, object] = {"plan": plan.report()} if plan else {}
        record["formats"] = {name: each.summary for name, each in chosen.plugins.formats(chosen.stage).items()}
        titles = {**chosen.backend.titles, **chosen.stage.titles}
        record[TITLES] = {name: asdict(curve) for name, curve in titles.items()}
        record["speaks"] = chosen.stage.synth is not None
        identity = chosen.stage.identity
        return RunSession(self.directory, card, seed=parser.seed, identity=identity, record=record, exits=exits)

    def score(self, verb: str) -> ScoringResult:
        parser, run = self.parser, self.directory
        checkpoint = open_checkpoint(run.path) if run.steps() else None
        trainer = _trainer(parser, self.chosen, run, [], logs=False)
        leave_signals_alone(trainer)
        path = None if checkpoint is None else checkpoint.path
        score = trainer.validate if verb == "validate" else trainer.test
        if verb == "test" and type(parser.model).test_step is LightningModule.test_step:
            stage = self.chosen.stage.name
            raise ConfigError(f"Stage {stage!r} has no test data of its own. Use: tts-train validate")
        try:
            with others_end_too(trainer):
                score(parser.model, datamodule=parser.datamodule, ckpt_path=path, verbose=False, weights_only=True)
        except MisconfigurationException as error:
            raise ConfigError(f"Lightning refuses these settings: {error}") from error
        step = 0 if checkpoint is None else checkpoint.step
        return ScoringResult(checkpoint=path, step=step, figures=_figures(trainer))


@contextmanager
def _as_a_call(*, exits: bool) -> Iterator[None]:
    """Leave the program around a run as it was, and let an error be an exception to it, not its end.

    Where the program is one of several processes, see :func:`ends_this_process`.
    """
    with ends_this_process(exits=exits), quiet(), keyboard_interrupts():
        yield


def _write_config(run: RunDirectory, config: dict[str, Any]) -> None:
    try:
        write_atomically(run.config, yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
    except OSError as error:
        raise DiskError(
            f"The run's configuration cannot be written to {run.config}: {error}. Free some space; the checkpoints are "
            "as they were."
        ) from error


def _trainer(
    parser: TrainingParser, chosen: Chosen, run: RunDirectory, callbacks: Sequence[Callback], *, logs: bool = True
) -> Trainer:
    given = parser.options("trainer")
    added = [*callbacks, *chosen.plugins.callbacks(chosen.stage, parser.plugin_options)]
    if given.get("enable_progress_bar") is not False:
        added.append(TrainingProgress())
    overrides: dict[str, Any] = {
        "default_root_dir": given["default_root_dir"] or str(run.path),
        "plugins": [*_as_list(given["plugins"]), DirectoryCheckpointIO()],
    }
    interval = given["val_check_interval"]
    if isinstance(interval, int) and not isinstance(interval, bool):
        overrides["check_val_every_n_epoch"] = None  # every N batches, also across the ends of epochs
    if given["logger"] in (None, True):
        overrides["logger"] = _tensorboard(run) if logs else False
    return parser.make_trainer(added, **overrides)


def _tensorboard(run: RunDirectory) -> Logger:
    return TensorBoardLogger(run.logs, name="", version="tensorboard")


def _as_list(value: object) -> list[Any]:
    return [] if value is None else list(value) if isinstance(value, (list, tuple)) else [value]


def _figures(trainer: Trainer) -> dict[str, float]:
    return {name: float(value) for name, value in sorted(trainer.callback_metrics.items())}


def _default_run_dir(chosen: Chosen, selection: Selection) -> Path:
    recipe = selection.configs[-1].stem if selection.configs else "default"
    return Path("runs") / f"{chosen.backend.name}-{chosen.stage.name}-{recipe}"
