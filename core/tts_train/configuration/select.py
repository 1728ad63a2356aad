"""The first of two parses: which backend, stage and plugins a command line is about. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tts_train.configuration.arguments import WordsParser
from tts_train.configuration.recipe_file import line_of, read_config
from tts_train.configuration.values import refused
from tts_train.contract.backend import Backend, Stage
from tts_train.errors import ConfigError
from tts_train.plugins import Plugins, installed_backends

_NAMES = {"backend", "stage"}


@dataclass(frozen=True)
class Selection:
    """What the first parse found; ``rest`` holds the words that remain for the second."""

    backend: str | None
    stage: str | None
    configs: tuple[Path, ...]
    blocked: tuple[str, ...]
    rest: tuple[str, ...]

    def load(self, *, verb: str = "fit", for_job: Literal["prepare", "synth"] | None = None) -> Chosen:
        """Import the backend and the extensions.

        Args:
            verb: The command, for messages.
            for_job: What the stage is wanted for, where any that does it the same way will do.

        Raises:
            ConfigError: if no backend was chosen, or it or its stage is unknown.
        """
        if self.backend is None:
            backends = [found.name for found in installed_backends()]
            names = ", ".join(backends) or "none; install one"
            raise ConfigError(f"Choose a backend with --backend. Installed: {names}.{_for_example(verb, backends)}")
        plugins = Plugins(blocked=self.blocked)
        backend = plugins.load(self.backend)
        return Chosen(plugins, backend, backend.stage(self.stage, for_job=for_job))


@dataclass(frozen=True)
class Chosen:
    """The plugins that are loaded, and the backend and stage that a command is about."""

    plugins: Plugins
    backend: Backend
    stage: Stage


def select(words: Sequence[str], *, configs: bool = True) -> Selection:
    """Read ``--backend``, ``--stage`` and ``--no-plugin``, also from the keys of the ``-c`` files.

    Args:
        words: the command line after the verb.
        configs: whether the verb takes ``-c`` files.
    """
    parser = WordsParser("", add_help=False)
    parser.add_argument("--backend")
    parser.add_argument("--stage")
    parser.add_argument("--no-plugin", "--no_plugin", action="append", default=[])
    found, rest = parser.parse_known_args(words)
    paths = _config_paths(words) if configs else ()
    keys: dict[str, Any] = {}
    for path in paths:
        # Of several files the last one wins, as in the parser that follows.
        keys.update({key: _name(path, key, value) for key, value in read_config(path).items() if key in _NAMES})
    backend = found.backend or keys.get("backend")
    # A recipe's stage belongs to the recipe's backend: another backend on the command line does not inherit it.
    stage = found.stage or (keys.get("stage") if backend == keys.get("backend", backend) else None)
    return Selection(backend, stage, paths, tuple(found.no_plugin), tuple(rest))


def _name(path: Path, key: str, value: object) -> str:
    if not isinstance(value, str):
        known = ", ".join(found.name for found in installed_backends())
        allowed = f"one of {known}" if key == "backend" else "a stage's name"
        raise refused(key, value, allowed, place=f"{path}, line {line_of(path, key)}")
    return value


def _for_example(verb: str, backends: Sequence[str]) -> str:
    return f" For example: tts-train {verb} --backend {backends[-1]} --help" if backends else ""


def _config_paths(words: Sequence[str]) -> tuple[Path, ...]:
    parser = WordsParser("", add_help=False)
    parser.add_argument("-c", "--config", action="append", default=[])
    found, _ = parser.parse_known_args(words)
    return tuple(Path(name) for name in found.config)
