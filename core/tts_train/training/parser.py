"""The second parse: LightningCLI over the concrete classes of one stage, with OmegaConf interpolation."""

from __future__ import annotations

import inspect
import logging
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Literal

import yaml
from jsonargparse import Namespace, set_parsing_settings
from jsonargparse._typehints import ActionTypeHint
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from omegaconf.errors import OmegaConfBaseException

from tts_train.configuration.arguments import PlainErrors, read_help_texts
from tts_train.configuration.references import unresolved
from tts_train.configuration.select import Chosen
from tts_train.configuration.values import admits_null, check_numbers, in_words, refused
from tts_train.contract.module import StageModule, speaks
from tts_train.datasets.split import DEFAULT_SEED, run_seed
from tts_train.errors import ConfigError, MissingExtraError
from tts_train.parallel.together import leads
from tts_train.sharding.fsdp import checked_precision
from tts_train.sharding.options import NAME as FSDP, FsdpOptions
from tts_train.training.listen.options import SECTION as LISTEN, ListenOptions, left_out_of_help, refuse_unheard
from tts_train.training.survive.checkpoint import CheckpointOptions

logger = logging.getLogger(__name__)

# What Lightning and Python say when the package of a logger is not there.
_MISSING_LOGGER = re.compile(r"(?:Requirement|No module named) '(wandb|mlflow)")
TRAINER_DEFAULTS = {
    "use_distributed_sampler": False,  # the sampler itself deals batches out to the ranks
    # Reading figures waits for the card; every tenth step costs nothing that can be measured.
    "log_every_n_steps": 10,
    "num_sanity_val_steps": -1,  # the whole validation set: its figures are the base model's
    "enable_model_summary": False,  # it prints to stdout
}
# The same interpolation must hold at the root of a file, in a later file and on the command line. It is a process-wide
# setting of jsonargparse.
set_parsing_settings(omegaconf_absolute_to_relative_paths=True)


def _check(parser: LightningArgumentParser, config: Namespace) -> None:
    """Refuse what the parser keeps as it is: a plain value where a section belongs, and null for any type."""
    single = {action.dest: action for action in parser._actions if isinstance(action, ActionTypeHint)}
    sections = {name.rpartition(".")[0] for name in single} - set(single) - {""}
    for name in sorted(sections, key=len):
        value = config.get(name)
        if not isinstance(value, Namespace):
            raise refused(f"--{name}", value, f"single settings, such as --{name}.NAME VALUE, or a section of a recipe")
    for name, action in single.items():
        if config.get(name) is None and action.default is not None and not admits_null(action._typehint):
            raise refused(f"--{name}", None, in_words(action._typehint))
    check_numbers(config.as_dict())


class _Parser(PlainErrors, LightningArgumentParser):  # type: ignore[misc]
    """LightningCLI's parser, with errors of one line, and help on what the stage can answer."""

    unanswered: tuple[str, ...] = ()
    """Sections that the stage cannot answer."""

    def format_help(self, *given: Any, **named: Any) -> str:  # noqa: ANN401 - as jsonargparse's, of any version
        """Return the help without what the stage cannot answer."""
        with ExitStack() as stack:
            for section in self.unanswered:
                stack.enter_context(left_out_of_help(self, section))
            return str(super().format_help(*given, **named))


class TrainingParser(LightningCLI):
    """Parses the options of a training command and builds module, data and trainer from them.

    The trainer is built late, by :meth:`make_trainer`, once the run directory is known to be ours.
    """

    def __init__(self, verb: str, chosen: Chosen, words: Sequence[str]) -> None:
        self._chosen = chosen
        read_help_texts(words)
        # Last, so that the words' own choice, which the first parse has read, cannot be overridden by a file.
        selected = ["--backend", chosen.backend.name, "--stage", chosen.stage.name]
        # run=False: LightningCLI would call the trainer itself, which is made later and elsewhere.
        super().__init__(
            chosen.plugins.model(chosen.stage),
            chosen.plugins.data(chosen.stage),
            run=False,
            args=[*words, *selected],
            save_config_callback=None,
            seed_everything_default=DEFAULT_SEED,
            trainer_defaults=TRAINER_DEFAULTS,
            parser_class=_Parser,
            parser_kwargs={"parser_mode": "omegaconf+", "prog": f"tts-train {verb}", "allow_abbrev": False},
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
        )

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:  # noqa: ANN401 - Lightning's own
        """Make the parser, whose errors name the command that lists its options."""
        parser = super().init_parser(**kwargs)
        assert isinstance(parser, _Parser)
        parser.asks = f"{kwargs['prog']} --backend {self._chosen.backend.name} --stage {self._chosen.stage.name} --help"
        return parser

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse, with references resolved and every number within bounds.

        Raises:
            ConfigError: naming the setting whose reference or number cannot be used.
        """
        try:
            super().parse_arguments(parser, args)
        except OmegaConfBaseException as error:
            raise unresolved(error) from error
        except RecursionError as error:
            raise ConfigError(
                "The settings refer to each other in a circle (${...}). Give one of them a value."
            ) from error
        _check(parser, self.config)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add what is ours to Lightning's options."""
        stage = self._chosen.stage
        parser.add_argument("--backend", default=self._chosen.backend.name, help="Family of models to train.")
        parser.add_argument("--stage", default=stage.name, help="Training job of the backend.")
        parser.add_argument(
            "--run_dir", type=Path | None, default=None, help="Where the run lives; the same command on it continues."
        )
        parser.add_argument("--checkpoint", type=CheckpointOptions, default=CheckpointOptions())
        parser.add_argument("--listen", type=ListenOptions, default=ListenOptions())
        assert isinstance(parser, _Parser)
        parser.unanswered = () if speaks(self._chosen.plugins.model(stage)) else (LISTEN,)
        # Always there: a configuration of a run must be readable under any strategy.
        parser.add_argument(f"--{FSDP}", type=FsdpOptions, default=FsdpOptions())
        parser.add_argument(
            "--plan",
            type=Literal["refuse", "try", "off"],
            default="refuse",
            help="What to do on a card that has no room for the run by the plan; off makes none.",
        )
        parser.add_argument(
            "--debug.inject", type=str | None, default=None, help="Fault to inject, for example kill@step=7."
        )
        self._chosen.plugins.arguments(parser, stage)
        for source, target in stage.links.items():
            parser.link_arguments(source, target)
        # A data module need not take one.
        if "seed" in inspect.signature(self._datamodule_class).parameters:
            parser.link_arguments("seed_everything", "data.seed", compute_fn=run_seed)
        if stage.defaults:
            parser.set_defaults(dict(stage.defaults))

    def instantiate_classes(self) -> None:
        """Build module, data and loggers; the trainer waits for :meth:`make_trainer`.

        Raises:
            MissingExtraError: if a logger's package is not installed.
            ConfigError: if the stage is to be heard and has no voice.
        """
        try:
            self.config_init = self.parser.instantiate(self.config)
        except (ModuleNotFoundError, ValueError) as error:  # jsonargparse makes the second of the first
            missing = _MISSING_LOGGER.search(str(error))
            if missing is None:
                raise
            raise MissingExtraError(f"--trainer.logger with {missing[1]}", missing[1]) from error
        self._refuse_unheard()
        self.datamodule = self._get(self.config_init, "data")
        self.model = self._offered(self._get(self.config_init, "model"))

    def _refuse_unheard(self) -> None:
        backend, plugins = self._chosen.backend, self._chosen.plugins
        refuse_unheard(
            self.options("listen"),
            plugins.model(self._chosen.stage),
            stage=self._chosen.stage.name,
            backend=backend.name,
            heard=[stage.name for stage in backend.stages if speaks(plugins.model(stage))],
        )

    def build_again(self) -> tuple[Any, Any]:
        """Return another module and another data module, as they were asked for."""
        built = self.parser.instantiate(self.config)
        return self._offered(self._get(built, "model")), self._get(built, "data")

    def _offered(self, module: Any) -> Any:  # noqa: ANN401 - whatever class the stage trains
        """Return a module that knows what can measure sound."""
        if isinstance(module, StageModule):
            module.offer(partial(self._chosen.plugins.metrics, self._chosen.stage))
        return module

    def make_trainer(self, callbacks: Sequence[Callback], **overrides: Any) -> Trainer:  # noqa: ANN401 - Trainer's own
        """Build the trainer from ``--trainer.*``; ``overrides`` replace what the user left to us."""
        config = checked_precision({**self.options("trainer"), **overrides})
        strategy = config.get("strategy")
        # Told, not refused: the same recipe is used with and without FSDP.
        idle = [] if strategy == FSDP else self.options(FSDP).given()
        if idle and leads():
            logger.warning("%s change nothing: --trainer.strategy is %s, not %s.", ", ".join(idle), strategy, FSDP)
        if isinstance(strategy, str):
            options = {**self.plugin_options, FSDP: self.options(FSDP)}
            config["strategy"] = self._chosen.plugins.strategy(self._chosen.stage, strategy, options) or strategy
        try:
            trainer = self._instantiate_trainer(config, list(callbacks))
        except (MisconfigurationException, TypeError, ValueError, ImportError, RuntimeError) as error:
            # A RuntimeError is what Lightning makes of a job that SLURM started in a way that it does not take.
            advice = "See `tts-train doctor` for what this machine has; --trainer.accelerator cpu trains small models."
            raise ConfigError(f"No trainer can be built from --trainer.*: {error} {advice}") from error
        _refuse_processes(trainer)
        return trainer

    @property
    def resolved(self) -> dict[str, Any]:
        """The whole configuration in plain types, interpolations resolved; ``fit -c`` on it repeats the run."""
        text = self.parser.dump(self.config, skip_unset=False, skip_link_targets=True)
        content: dict[str, Any] = yaml.safe_load(text)
        # The files that were read are resolved into the rest; naming them would read them again.
        content.pop("config", None)
        return content

    @property
    def seed(self) -> int:
        """The run's seed."""
        return run_seed(self._get(self.config, "seed_everything"))

    def options(self, key: str) -> Any:  # noqa: ANN401 - whatever type the option has
        """What stands under a top-level key, built; the trainer's options as a dict."""
        built = self._get(self.config_init, key)
        return built.as_dict() if hasattr(built, "as_dict") else built

    @property
    def plugin_options(self) -> Mapping[str, object]:
        """What ``--plugins.*`` said, built."""
        options = self._get(self.config_init, "plugins", default=None)
        return {} if options is None else vars(options)


def _refuse_processes(trainer: Trainer) -> None:
    """Refuse processes that this machine has no cores for, and machines that nothing leads to each other."""
    # Lightning starts as many as are asked for.
    cores = os.cpu_count() or 1
    if isinstance(trainer.accelerator, CPUAccelerator) and trainer.num_devices > cores:
        raise ConfigError(
            f"--trainer.devices {trainer.num_devices} starts as many processes, and this machine has {cores} CPU "
            f"cores. Give 1 to {cores}."
        )
    environment = getattr(trainer.strategy, "cluster_environment", None)
    # Without an address each machine would wait half an hour for the others at its own.
    if trainer.num_nodes > 1 and isinstance(environment, LightningEnvironment) and "MASTER_ADDR" not in os.environ:
        raise ConfigError(
            f"--trainer.num_nodes {trainer.num_nodes} is a run on {trainer.num_nodes} machines, and nothing says where "
            "they meet. Start it with torchrun or SLURM (docs/scaling.md), or set MASTER_ADDR, MASTER_PORT and "
            "NODE_RANK on each machine. On one machine: --trainer.num_nodes 1."
        )
