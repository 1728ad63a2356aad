"""The first of two parses: which backend, stage and plugins a command line is about. Imports nothing heavy."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tts_train.backend import Backend, Stage
from tts_train.errors import ConfigError
from tts_train.plugins import Plugins, installed_backends


@dataclass(frozen=True)
class Selection:
    """What the first parse found; ``rest`` holds the words that remain for the second."""

    backend: str | None
    stage: str | None
    configs: tuple[Path, ...]
    blocked: tuple[str, ...]
    rest: tuple[str, ...]

    def load(self, *, for_job: Literal["prepare", "synth"] | None = None) -> Chosen:
        """Import the backend and the extensions.

        Args:
            for_job: What the stage is wanted for, where any that does it the same way will do.

        Raises:
            ConfigError: if no backend was chosen, or it or its stage is unknown.
        """
        if self.backend is None:
            names = ", ".join(found.name for found in installed_backends()) or "none; install one"
            if {"-h", "--help"} & set(self.rest):
                print(f"Options are a backend's: add --backend NAME before --help to see them. Installed: {names}.")
                raise SystemExit(0)
            raise ConfigError(f"Choose a backend with --backend. Installed: {names}.")
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
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--backend")
    parser.add_argument("--stage")
    parser.add_argument("--no-plugin", action="append", default=[])
    found, rest = parser.parse_known_args(words)
    paths = _config_paths(words) if configs else ()
    keys: dict[str, Any] = {}
    for path in paths:
        keys.update({key: value for key, value in read_config(path).items() if key in {"backend", "stage"} and value})
    backend = found.backend or keys.get("backend")
    # A recipe's stage belongs to the recipe's backend: another backend on the command line does not inherit it.
    stage = found.stage or (keys.get("stage") if backend == keys.get("backend", backend) else None)
    return Selection(backend, stage, paths, tuple(found.no_plugin), tuple(rest))


def read_config(path: Path) -> Mapping[str, Any]:
    """Read a recipe's keys; interpolations stay as they are written.

    Raises:
        ConfigError: if the file is missing or holds no mapping.
    """
    import yaml

    if not path.is_file():
        raise ConfigError(f"There is no configuration file {path}.")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} must hold settings as `key: value`, and holds {type(content).__name__}.")
    return content


def _config_paths(words: Sequence[str]) -> tuple[Path, ...]:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("-c", "--config", action="append", default=[])
    found, _ = parser.parse_known_args(words)
    return tuple(Path(name) for name in found.config)
