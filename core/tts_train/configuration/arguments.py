"""Parsers that say what is wrong in one line, instead of a page of usage."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from jsonargparse import ArgumentParser, set_parsing_settings

from tts_train.configuration.values import about_class, in_words, nearest, refused
from tts_train.errors import ConfigError

JSON_FLAG = "--json"
_INVALID = re.compile(r"argument (--\w+).*: invalid (int|float|Path) value: '(.*)'", re.DOTALL)
_UNKNOWN = re.compile(r"unrecognized arguments: (.*)", re.DOTALL)
_VALUE = re.compile(r'Parser key "(?P<key>[^"]+)":(?P<why>.*)', re.DOTALL)
_GIVEN = re.compile(r"(?:Given value:|Got value:)(.*?)\.?$", re.DOTALL)
_NAMED = {"int": int, "float": float, "Path": Path}
_SECTION = re.compile(r"Unable to load config ['\"](.*?)['\"] -", re.DOTALL)


class PlainErrors:
    """Mixin for a jsonargparse parser: a bad command line raises :class:`ConfigError`."""

    asks = ""
    """The command line that lists all options."""

    def parse_args(self, args: Sequence[str] | None = None, *rest: Any, **options: Any) -> Any:  # noqa: ANN401
        """Parse; a switch that stands alone, as in ``--stream --text hi``, is true."""
        # jsonargparse asks for a value of every bool.
        words = None if args is None else list(self._with_values(list(args)))
        return super().parse_args(words, *rest, **options)  # type: ignore[misc]

    def _with_values(self, words: Sequence[str]) -> Iterator[str]:
        actions = [action for action in getattr(self, "_actions", ()) if getattr(action, "_typehint", None) is bool]
        switches = {option for action in actions for option in action.option_strings}
        for word, after in zip(words, [*words[1:], "--"], strict=False):
            yield word
            if word in switches and after.startswith("--"):
                yield "true"

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise the error in words: the value that an option takes, or the nearest known option."""
        ask = f" All options: {self.asks or getattr(self, 'prog', 'tts-train') + ' --help'}"
        value, unknown, invalid = (found.search(message) for found in (_VALUE, _UNKNOWN, _INVALID))
        if invalid is not None:
            raise refused(invalid[1], invalid[3], in_words(_NAMED[invalid[2]])) from ex
        if value is not None:
            raise self._refused(value["key"], value["why"], ask) from ex
        # An abbreviation is not completed: a later option of the same beginning would change what it means.
        near = self._nearest(unknown.group(1)) if unknown else ""
        raise ConfigError(f"{' '.join(message.split())}.{near}{ask}") from ex

    def _refused(self, key: str, why: str, ask: str) -> ConfigError:
        action = next((one for one in getattr(self, "_actions", ()) if one.dest == key), None)
        given, section, typehint = _GIVEN.search(why), _SECTION.search(why), getattr(action, "_typehint", None)
        wrong_class = about_class(why)
        if wrong_class is not None:
            return ConfigError(f"--{key}: {wrong_class}")
        if typehint is not None and given is not None:
            return refused(f"--{key}", " ".join(given.group(1).split()), in_words(typehint))
        if section is not None:
            return refused(f"--{key}", section.group(1), f"single settings, --{key}.NAME VALUE, or a file of them")
        return ConfigError(f"--{key}: {' '.join(why.split())}.{ask}")

    def _nearest(self, unknown: str) -> str:
        known = [option for action in getattr(self, "_actions", ()) for option in action.option_strings]
        given = [word.split("=")[0] for word in unknown.split() if word.startswith("--")]
        return nearest(given[0], known) if given else ""


class JobParser(PlainErrors, ArgumentParser):  # type: ignore[misc]
    """Parser of the jobs' options."""


class WordsParser(PlainErrors, argparse.ArgumentParser):  # type: ignore[misc]
    """Parser of a command whose few options are its own."""

    def __init__(
        self, verb: str, description: str | None = None, epilog: str | None = None, *, add_help: bool = True
    ) -> None:
        about: dict[str, Any] = {"description": description, "epilog": epilog, "add_help": add_help}
        super().__init__(prog=f"tts-train {verb}".strip(), allow_abbrev=False, **about)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:  # noqa: ANN401 - argparse's own
        """Parse, with hyphens and underscores alike."""
        return super().parse_known_args(None if args is None else self._spelt(list(args)), namespace)

    def _spelt(self, words: Sequence[str]) -> list[str]:
        """Return the words with each option as this parser spells it."""
        known = {option.replace("-", "_"): option for option in self._option_string_actions}
        parts = [(word, *word.partition("=")) for word in words]
        return [known.get(name.replace("-", "_"), name) + equals + value for _, name, equals, value in parts]


def read_help_texts(words: Sequence[str]) -> None:
    """Let parsers made from now on read the strings under dataclass fields, but only where they will be shown.

    They are found by parsing the source of every class, which is most of the time of making a parser. The setting is
    one for the whole process.

    Args:
        words: The command line.
    """
    asked = any(
        word in {"-h", "--help"} or word.split("=")[0].endswith(".help") or word.startswith("--print_config")
        for word in words
    )
    set_parsing_settings(docstring_parse_attribute_docstrings=asked)


def with_underscores(words: list[str]) -> list[str]:
    """Let ``--corpus-format`` stand for ``--corpus_format``: both spellings of every option work."""
    return [_underscored(word) if word.startswith("--") else word for word in words]


def _underscored(word: str) -> str:
    name, equals, value = word[2:].partition("=")
    return f"--{name.replace('-', '_')}{equals}{value}"
