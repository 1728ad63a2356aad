"""Turns the words of ``fit``, ``validate``, ``test`` and ``plan`` into options that the parsers take."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tts_train.configuration.arguments import JSON_FLAG, with_underscores
from tts_train.configuration.recipe_file import read_config
from tts_train.disk.provenance import CONFIG_FILE, RUN_FILE
from tts_train.errors import ConfigError
from tts_train.recipes import every_recipe, meant, named_recipe
from tts_train.run.places import PATHS, located, project_of

CONFIG_FLAGS = ("-c", "--config")
_RUN_DIR, _BACKEND = "--run_dir", "--backend"
_FROM_ACCELERATE = "--from_accelerate"
_PLUGINS = "--plugins."
_ALONE = {"-h", "--help", "--print_config", JSON_FLAG}
_YAML = (".yaml", ".yml", ".json")


def understood(verb: str, words: list[str]) -> list[str]:
    """Return the words as the parsers take them.

    Hyphens in options become underscores; the name of a recipe becomes its file; a recipe or a run without an option
    before it gets one; Accelerate's configuration becomes options; and ``--run_dir`` of an existing run that stands
    alone is preceded by its saved configuration.

    Raises:
        ConfigError: if a word is none of these; the message says what to type.
    """
    words = with_underscores(words)
    backend = _value(words, (_BACKEND,))
    done: list[str] = []
    before: str | None = None
    for flag, value, written in _options(words):
        if flag in CONFIG_FLAGS and value is not None:
            done += ["-c", _recipe(value, backend)]
        elif flag is None and not (before or "").startswith(_PLUGINS):
            done += _bare(verb, written[0], backend)
        else:
            done += written
        before = flag or before
    if any(word.partition("=")[0] == _FROM_ACCELERATE for word in done):
        from tts_train.configuration.accelerate import with_accelerate

        done = with_accelerate(done)
    return _with_saved_config(done)


def _options(words: Sequence[str]) -> Iterator[tuple[str | None, str | None, Sequence[str]]]:
    """Yield each option, its value, and the words of both; a word that belongs to no option has None for the first."""
    number = 0
    while number < len(words):
        flag, equals, value = words[number].partition("=")
        after = words[number + 1] if number + 1 < len(words) else "--"
        count = 1
        # -1 is a value, not an option.
        if not flag.startswith("-") or flag[1:2].isdigit():
            yield None, None, words[number : number + 1]
        elif equals or flag in _ALONE or after.startswith("--"):
            yield flag, value if equals else None, words[number : number + 1]
        else:
            count = 2
            yield flag, after, words[number : number + 2]
        number += count


def _value(words: Sequence[str], flags: Sequence[str]) -> str | None:
    return next((value for flag, value, _ in _options(words) if flag in flags), None)


def _recipe(name: str, backend: str | None) -> str:
    """Return the file of a recipe that is given by name; anything that looks like a file stays as it is."""
    if Path(name).exists() or "/" in name or Path(name).suffix in _YAML:
        return name
    found = named_recipe(name, backend)
    if found is None:
        known = sorted({path.stem for path in every_recipe(backend)})
        raise ConfigError(
            f"There is no configuration file {name}, and no recipe of this name.{meant(name, known)} "
            f"Recipes: {', '.join(known)}."
        )
    return str(found)


def _bare(verb: str, word: str, backend: str | None) -> list[str]:
    """Return the options that a word without an option stands for."""
    path = Path(word)
    if path.is_dir():
        run = next((one for one in (path, *path.parents) if (one / CONFIG_FILE).is_file()), None)
        if run == path:
            return [_RUN_DIR, word]
        line = f"tts-train {verb} --run_dir {run}" if run else f"tts-train {verb} -c RECIPE.yaml --run_dir {word}"
        raise ConfigError(f"{word} is no run directory (no {CONFIG_FILE} in it). Type: {line}")
    if path.is_file() or path.suffix in _YAML:
        return ["-c", word]
    found = named_recipe(word, backend)
    if found is not None:
        return ["-c", str(found)]
    near = meant(word, (path.stem for path in every_recipe(backend)))
    raise ConfigError(
        f"{word!r} belongs to no option, and is no recipe and no run.{near} Type: tts-train {verb} -c RECIPE.yaml "
        "--run_dir RUN"
    )


def _with_saved_config(words: list[str]) -> list[str]:
    """Let ``--run_dir`` of an existing run stand alone: its own configuration comes first."""
    run_dir = _value(words, (_RUN_DIR,))
    if run_dir is None or _value(words, (*CONFIG_FLAGS, _BACKEND)) is not None:
        return words
    saved = Path(run_dir) / CONFIG_FILE
    if not saved.is_file():
        raise ConfigError(
            f"There is no run at {run_dir} (no {saved.name} in it). Begin one with -c or --backend: tts-train fit -c "
            f"RECIPE.yaml --run_dir {run_dir}"
        )
    return ["-c", str(saved), *_from_elsewhere(saved), *words]


def _from_elsewhere(saved: Path) -> list[str]:
    """Return options for the relative paths of a run that was begun in another folder than this."""
    try:
        folder = json.loads((saved.parent / RUN_FILE).read_text(encoding="utf-8")).get("folder")
    # AttributeError: a run.json that holds no object.
    except (OSError, ValueError, AttributeError):
        folder = None
    if not isinstance(folder, str):
        folder = None  # a run of old
    words: list[str] = []
    config = read_config(saved)
    project = project_of(config.get("run_dir"), saved)
    for key, value in _texts(config):
        # A bare word is a name, such as that of an optimiser, except where paths are usual.
        if key != "run_dir" and (Path(value).name != value or key.rpartition(".")[2] in {*PATHS, "init_from"}):
            place = located(value, folder, names=("tiny",), project=project)
            words += [f"--{key}", place] if place != value else []
    return words


def _texts(settings: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _texts(value, f"{above}{name}.")
        elif isinstance(value, str):
            yield f"{above}{name}", value
