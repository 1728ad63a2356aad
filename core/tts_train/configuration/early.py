"""What can be said about a training command before torch is imported: words, files, names, and plain values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from tts_train.configuration.arguments import with_underscores
from tts_train.configuration.outline import Group, Kind, Value, group_of
from tts_train.configuration.recipe_file import line_of, read_config
from tts_train.configuration.select import Chosen, Selection
from tts_train.configuration.values import admits_null, check_numbers, in_words, nearest, refused
from tts_train.errors import ConfigError
from tts_train.run.places import PATHS

_HELP = {"-h", "--help"}
_FLAGS = {"-h", "--help", "--print_config", "--json"}
# Options that the commands add to those of a job.
_OF_JOBS = ("json", "help", "checkpoint")
_ANYTHING = {"config", "print_config", "help", "plugins"}
_REFERENCE = "${"
_SECTIONS = {False: (Mapping,), True: (Mapping, type(None))}


def check_early(verb: str, chosen: Chosen, selection: Selection) -> None:
    """Refuse what the parser would refuse, as far as the sources of the stage's classes tell without an import.

    Raises:
        ConfigError: for a name that is not known or a value of the wrong kind, with file and line.
    """
    outline = outline_of(chosen)
    ask = f" All options: tts-train {verb} --backend {chosen.backend.name} --stage {chosen.stage.name} --help"
    for path in selection.configs:
        _check_section(read_config(path), outline, _File(path, ask))
    for option, value in _options(selection.rest):
        _check_option(option, value, outline, ask)


def check_job(
    verb: str, job: type | str | None, words: Sequence[str], chosen: Chosen, *, also: type | None = None
) -> None:
    """Refuse options of a job that it does not have, and values that they do not take, before its module is imported.

    Args:
        verb: The command.
        job: The job's class, or its name.
        words: What was given, in whichever spelling.
        chosen: What the command is about.
        also: A class whose fields are options, too.

    Raises:
        ConfigError: naming the option.
    """
    parts = [group_of(one) for one in (job, also) if one is not None]
    # None: the source of the class does not tell its options, and the parser decides.
    if job is None or None in parts or _HELP & set(words):
        return
    keys = {key: kind for part in parts if part is not None for key, kind in part.keys.items()}
    ask = f" All options: tts-train {verb} --backend {chosen.backend.name} --stage {chosen.stage.name} --help"
    for option, value in _options(tuple(with_underscores(list(words)))):
        _check_option(option, value, Group({**keys, **dict.fromkeys(_OF_JOBS)}), ask)


def outline_of(chosen: Chosen) -> Group:
    """Return what a training command of a stage takes, as far as it is known without importing its classes."""
    stage, plugins = chosen.stage, chosen.plugins
    return Group(
        {
            **dict.fromkeys(_ANYTHING, None),
            "backend": Value(str),
            "stage": Value(str),
            "seed_everything": Value(bool | int),
            "run_dir": Value(Path | None),
            "plan": Value(Literal["refuse", "try", "off"]),
            "debug": Group({"inject": Value(str | None)}),
            "model": group_of(stage.model) if plugins.leaves_to_stage("tts_train_model") else None,
            "data": group_of(stage.data) if plugins.leaves_to_stage("tts_train_data") else None,
            "trainer": group_of("lightning.pytorch.trainer.trainer:Trainer"),
            "checkpoint": group_of("tts_train.training.survive.checkpoint:CheckpointOptions"),
            "listen": group_of("tts_train.training.listen.options:ListenOptions"),
            "fsdp": group_of("tts_train.sharding.options:FsdpOptions"),
        }
    )


class _File:
    """Says where in a recipe something stands."""

    def __init__(self, path: Path, ask: str) -> None:
        self.path, self.ask = path, ask

    def at(self, key: str) -> str:
        line = line_of(self.path, key)
        return f"{self.path}, line {line}" if line else str(self.path)


def _check_section(content: Mapping[str, Any], group: Group, file: _File, above: str = "") -> None:
    for name, value in content.items():
        key = f"{above}{name}"
        kind, known = _find(group, name)
        if not known:
            near = nearest(name, group.keys) or nearest(key, _all_keys(group, above))
            raise ConfigError(f"{file.at(key)}: there is no setting {key}.{near}{'' if near else file.ask}")
        if isinstance(kind, Group):
            if isinstance(value, Mapping):
                _check_section(value, kind, file, f"{key}.")
            elif not (value is None and kind.nullable):
                raise refused(
                    key, value, f"a section, with lines such as `{_example(kind)}` below it", place=file.at(key)
                )
        else:
            _check_value(key, value, kind, file)


def _check_option(option: str, value: str | None, outline: Group, ask: str) -> None:
    key = option.removeprefix("--").rstrip("+")
    kind, known = _find(outline, key)
    if not known:
        near = nearest(option, [f"--{one}" for one in _all_keys(outline)])
        raise ConfigError(f"There is no option {option}.{near}{ask}")
    # Appends to a list, whose items the parser checks.
    if option.endswith("+"):
        return
    if value is None:
        # A switch may stand alone, and is true then.
        if isinstance(kind, Value) and kind.type is not bool:
            raise refused(option, "nothing", in_words(kind.type))
    elif not isinstance(kind, Group):
        _check_value(option, value, kind)
    elif not (Path(value).is_file() or isinstance(_loaded(value), _SECTIONS[kind.nullable])):
        raise refused(option, value, f"single settings, such as {option}.{_example(kind).split(':')[0]}")


def _check_value(option: str, value: object, kind: Kind, file: _File | None = None) -> None:
    if isinstance(value, str) and _REFERENCE in value:
        from tts_train.configuration.references import check_reference

        check_reference(option, option if file is None else f"{file.at(option)}: {option}", value)
        return
    if not isinstance(kind, Value):
        return
    # An empty path would be the present folder.
    if value == "" and (option.removeprefix("--").split(".")[-1] in PATHS or Path in _types(kind.type)):
        raise refused(option, value, "a path", place=file.at(option) if file else "")
    try:
        found = _taken(kind.type, value, from_file=file is not None)
    except ValueError as error:
        raise refused(option, value, in_words(kind.type), place=file.at(option) if file else "") from error
    key = option.removeprefix("--").split(".")[-1]
    try:
        check_numbers({key: found}, prefix=option.removesuffix(key))
    except ConfigError as error:
        raise (ConfigError(f"{file.at(option)}: {error}") if file else error) from error


def _taken(allowed: Any, value: object, *, from_file: bool) -> Any:  # noqa: ANN401 - any type, and a value of it
    """Return what the parser makes of a value.

    Raises:
        ValueError: if it takes no such value.
    """
    from jsonargparse import ArgumentError

    if value is None and not admits_null(allowed):
        raise ValueError(value)
    parser = _parser_of(allowed)
    try:
        # By the parser itself, so that nothing is taken or refused here that it would not.
        return (parser.parse_object({"it": value}) if from_file else parser.parse_args([f"--it={value}"])).it
    except (ArgumentError, OverflowError) as error:
        raise ValueError(value) from error


def _types(allowed: Any) -> tuple[Any, ...]:  # noqa: ANN401 - a type
    return (allowed, *get_args(allowed))


@cache
def _parser_of(allowed: Any) -> Any:  # noqa: ANN401 - a type; a parser of one value of it
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--it", type=allowed)
    return parser


def _find(group: Group, name: str) -> tuple[Kind, bool]:
    """Return what a dotted name stands for, and whether there is such a setting."""
    kind: Kind = group
    for part in name.split("."):
        if kind is None:
            return None, True
        if not isinstance(kind, Group) or part not in kind.keys:
            return None, False
        kind = kind.keys[part]
    return kind, True


def _all_keys(group: Group, above: str = "") -> Iterator[str]:
    for name, kind in group.keys.items():
        yield f"{above}{name}"
        if isinstance(kind, Group):
            yield from _all_keys(kind, f"{above}{name}.")


def _options(words: tuple[str, ...]) -> Iterator[tuple[str, str | None]]:
    """Yield each option with its value; None where it has none, or another follows at once."""
    for number, word in enumerate(words):
        if not word.startswith("--") or word in _FLAGS:
            continue
        option, equals, value = word.partition("=")
        after = words[number + 1] if number + 1 < len(words) else "--"
        yield option, value if equals else None if after.startswith("--") else after


def _loaded(text: str) -> Any:  # noqa: ANN401 - any YAML value
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _example(group: Group) -> str:
    return f"{next(iter(group.keys), 'name')}: …"
