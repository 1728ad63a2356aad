"""``tts-train fit``, ``validate`` and ``test``: from options to a run that continues."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import Logger, TensorBoardLogger

from tts_train.checkpoints.folder_io import DirectoryCheckpointIO
from tts_train.cli.commands.before import card_of, check_fits, resolve_auto, resolve_share
from tts_train.cli.output import print_report
from tts_train.cli.parsing.parser import TrainingParser
from tts_train.cli.parsing.select import Chosen, Selection
from tts_train.disk.files import write_atomically
from tts_train.errors import ConfigError, DiskError, Interrupted, TTSTrainError
from tts_train.memory.gradients import DropGradients
from tts_train.parallel.ranks import launched_by_lightning, leads
from tts_train.parallel.together import raised_by_all
from tts_train.report.page import write_report
from tts_train.report.sections import TITLES
from tts_train.run.checkpoint import RunCard, open_checkpoint
from tts_train.run.directory import RunDirectory
from tts_train.run.loops import leave_signals_alone
from tts_train.training.listen.callback import Listen
from tts_train.training.session import RunSession
from tts_train.training.watch.baseline import Baseline
from tts_train.training.watch.history import MetricsHistory
from tts_train.training.watch.live_report import LiveReport
from tts_train.training.watch.progress import TrainingProgress
from tts_train.training.watch.throughput import Throughput

if TYPE_CHECKING:
    from tts_train.memory.planner import Plan

logger = logging.getLogger(__name__)


def run(verb: str, chosen: Chosen, selection: Selection, *, as_json: bool) -> int:
    """Run one of the three commands, whose words :mod:`tts_train.cli.parsing.words` has understood."""
    parser = TrainingParser(verb, chosen, selection.rest)
    run_directory = RunDirectory(parser.resolved["run_dir"] or _default_run_dir(chosen, selection))
    found = resolve_auto(verb, parser, chosen, selection.rest, run_directory)
    if found is not selection.rest:
        parser = TrainingParser(verb, chosen, found)
    shared, plan = resolve_share(verb, parser, chosen, found, run_directory)
    if shared is not found:
        parser = TrainingParser(verb, chosen, shared)
    try:
        fit = verb == "fit"
        report = _fit(parser, chosen, run_directory, plan) if fit else _score(verb, parser, chosen, run_directory)
    except TTSTrainError as error:
        if launched_by_lightning() and (isinstance(error, Interrupted) or raised_by_all(error)):
            return 0  # Lightning kills the first process, which has its own to say, if another ends with an error
        raise
    if leads():
        print_report(report, as_json=as_json)
    return 0


def _fit(parser: TrainingParser, chosen: Chosen, run: RunDirectory, plan: Plan | None) -> dict[str, Any]:
    config = {**parser.resolved, "run_dir": str(run.path)}
    inject = config.pop("debug")["inject"]  # a fault belongs to a command, not to the run
    config.pop("plan")
    plan = check_fits(parser, chosen, run, card_bytes=card_of(parser.options("trainer")), plan=plan)
    card = RunCard(backend=chosen.backend.name, stage=chosen.stage.name, config=config, folder=str(Path.cwd()))
    record: dict[str, object] = {"plan": plan.report()} if plan else {}
    record["formats"] = {name: each.summary for name, each in chosen.plugins.formats(chosen.stage).items()}
    record[TITLES] = {name: asdict(curve) for name, curve in chosen.backend.titles.items()}
    record["speaks"] = chosen.stage.synth is not None
    session = RunSession(run, card, seed=parser.seed, identity=chosen.stage.identity, record=record)
    with LiveReport(run.path) as page, session:
        if session.leads:
            _write_config(run, config)
        survival = session.callbacks(parser.options("checkpoint"), inject=inject)
        heard = Listen(parser.options("listen"), run.samples, seed=parser.seed)
        watching = [DropGradients(), Throughput(), MetricsHistory(run.path), Baseline(), heard, page]
        trainer = _trainer(parser, chosen, run, [*survival, *watching])
        step = session.fit(trainer, parser.model, parser.datamodule)
    report = {"run_dir": str(run.path), "step": step, **_figures(trainer)}
    if trainer.is_global_zero:
        report["report"] = str(write_report(run.path))
    return report


def _write_config(run: RunDirectory, config: dict[str, Any]) -> None:
    try:
        write_atomically(run.config, yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
    except OSError as error:
        raise DiskError(
            f"The run's configuration cannot be written to {run.config}: {error}. Free some space; the checkpoints are "
            "as they were."
        ) from error


def _score(verb: str, parser: TrainingParser, chosen: Chosen, run: RunDirectory) -> dict[str, Any]:
    checkpoint = open_checkpoint(run.path) if run.steps() else None
    trainer = _trainer(parser, chosen, run, [], logs=False)
    leave_signals_alone(trainer)
    path = None if checkpoint is None else checkpoint.path
    score = trainer.validate if verb == "validate" else trainer.test
    if verb == "test" and type(parser.model).test_step is LightningModule.test_step:
        raise ConfigError(f"Stage {chosen.stage.name!r} has no test data of its own. Use: tts-train validate")
    try:
        score(parser.model, datamodule=parser.datamodule, ckpt_path=path, verbose=False, weights_only=True)
    except MisconfigurationException as error:
        raise ConfigError(f"Lightning refuses these settings: {error}") from error
    what = "the untrained base" if checkpoint is None else str(checkpoint.path)
    return {"scored": what, "step": 0 if checkpoint is None else checkpoint.step, **_figures(trainer)}


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
