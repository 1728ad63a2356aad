"""Settings that a program gives, a mapping or keyword arguments, as the words of a command that says the same.

A call from Python is read by the same parsers as a command, so both accept and refuse the same.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from tts_train.configuration.early import check_early
from tts_train.configuration.select import Chosen, Selection, select
from tts_train.configuration.words import understood
from tts_train.environment import refuse_unsafe
from tts_train.errors import ConfigError

Recipe: TypeAlias = "str | os.PathLike[str] | Mapping[str, Any]"
"""The file of a recipe, its name, a run directory, or the settings themselves."""
Settings: TypeAlias = "Mapping[str, Any]"
"""Settings by name: sections as mappings, or whole names with dots, ``{"trainer.max_steps": 100}``."""

_CLASS = "class_path"
# Options that print something and end the command.
_SHOWN = ("help", "print_config")
# The one option that is given once for each of its values.
_REPEATED = "no_plugin"


def words_of(settings: Settings) -> list[str]:
    """Return the options that say what a mapping says.

    Raises:
        ConfigError: if a value has no spelling on a command line, such as an object.
    """
    return list(_words(settings))


def requested(
    verb: str, recipe: Recipe | None, settings: Settings | None, options: Settings
) -> tuple[Chosen, Selection]:
    """Return what a training command is about that a program asks for.

    Args:
        verb: The command.
        recipe: What to start from.
        settings: Settings that win over the recipe.
        options: Settings that win over both.

    Raises:
        ConfigError: whatever the command would refuse before torch is imported.
    """
    refuse_unsafe()
    words = [] if recipe is None else words_of(recipe) if isinstance(recipe, Mapping) else _named(recipe)
    selection = select(understood(verb, [*words, *words_of(settings or {}), *words_of(options)]))
    chosen = selection.load(verb=verb)
    check_early(verb, chosen, selection)
    return chosen, selection


def _named(recipe: str | os.PathLike[str]) -> list[str]:
    """A folder is a run; anything else is the file or the name of a recipe."""
    word = os.fspath(recipe)
    return [word] if Path(word).is_dir() else ["-c", word]


def _words(settings: Settings, above: str = "") -> Iterator[str]:
    for name, value in settings.items():
        key = f"{above}{name}"
        if not isinstance(name, str):
            raise ConfigError(f"A setting's name is a text, such as 'trainer.max_steps', and {key!r} was given.")
        if key in _SHOWN:
            raise ConfigError(f"{key} is for the command line: tts-train fit --{key}. Leave it out.")
        if key == _REPEATED:
            yield from (f"--{key}={each}" for each in ([value] if isinstance(value, str) else value))
        elif isinstance(value, Mapping) and _is_section(value):
            yield from _words(value, f"{key}.")
        else:
            # With an equals sign: a value that begins with a hyphen would be taken for an option.
            yield f"--{key}={_spelt(key, value)}"


def _is_section(value: Settings) -> bool:
    """Tell whether each of its settings is an option by itself; a class and names such as paths stay together."""
    return _CLASS not in value and all(part.isidentifier() for name in value for part in str(name).split("."))


def _spelt(key: str, value: object) -> str:
    if isinstance(value, (str, os.PathLike)):
        return os.fspath(value)
    if isinstance(value, float) and not math.isfinite(value):
        return (
            f"{value:+}".replace("+inf", ".inf").replace("-inf", "-.inf").replace("+nan", ".nan")
        )  # as YAML spells it
    return json.dumps(_plain(key, value), ensure_ascii=False)


def _plain(key: str, value: object) -> Any:  # noqa: ANN401 - what JSON has
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {str(name): _plain(f"{key}.{name}", item) for name, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray)):
        return [_plain(key, item) for item in value]
    raise ConfigError(
        f"{key} takes plain values, as a recipe does, and an object of class {type(value).__name__} was given. A class "
        'is named with its settings: {"class_path": "package.Class", "init_args": {…}}.'
    )
