"""Parsers that say what is wrong in one line, instead of a page of usage."""

from __future__ import annotations

import difflib
import re
from typing import NoReturn

from jsonargparse import ArgumentParser

from tts_train.errors import ConfigError

JSON_FLAG = "--json"
_UNKNOWN = re.compile(r"unrecognized arguments: (.*)", re.DOTALL)


class PlainErrors:
    """Mixin for a jsonargparse parser: a bad command line raises :class:`ConfigError`."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise the error with the nearest known options, where an option is unknown."""
        text = " ".join(message.split())
        raise ConfigError(
            f"{text}{self._nearest(message)} All options: {getattr(self, 'prog', 'tts-train')} --help"
        ) from ex

    def _nearest(self, message: str) -> str:
        unknown = _UNKNOWN.search(message)
        if unknown is None:
            return "."
        known = [option for action in getattr(self, "_actions", ()) for option in action.option_strings]
        given = [word.split("=")[0] for word in unknown.group(1).split() if word.startswith("--")]
        close = [match for word in given for match in difflib.get_close_matches(word, known, n=2, cutoff=0.75)]
        return f". Did you mean {' or '.join(close)}?" if close else "."


class JobParser(PlainErrors, ArgumentParser):
    """Parser of the jobs' options."""


def with_underscores(words: list[str]) -> list[str]:
    """Let ``--corpus-format`` stand for ``--corpus_format``: both spellings of every option work."""
    return [_underscored(word) if word.startswith("--") else word for word in words]


def _underscored(word: str) -> str:
    name, equals, value = word[2:].partition("=")
    return f"--{name.replace('-', '_')}{equals}{value}"
