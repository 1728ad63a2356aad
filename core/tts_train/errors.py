"""The errors that tts-train raises at users, each with its exit code, and commands to paste in their messages."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import ClassVar


class TTSTrainError(Exception):
    """An error whose message is meant for the user; printed without a traceback.

    The message says what was given, what is allowed and what to type next.
    """

    # EX_SOFTWARE of sysexits.h.
    exit_code: ClassVar[int] = 70


class ConfigError(TTSTrainError):
    """A command, an option or a configuration that cannot be used (exit 2)."""

    exit_code = 2


class DataError(TTSTrainError):
    """A corpus or a prepared folder that cannot be used (exit 2)."""

    exit_code = 2


class NoTextsError(DataError):
    """Recordings of which nothing says what is said in them (exit 2)."""

    def __init__(self, corpus: Path, count: int, first: str) -> None:
        self.corpus = corpus
        what = "is a recording" if corpus.is_file() else f"holds {count} recordings ({first}, for one)"
        what += f", and nothing says what is said in {'it' if corpus.is_file() else 'them'}"
        folder = corpus.parent if corpus.is_file() else corpus
        super().__init__(
            f"{corpus} {what}. Write {folder / 'metadata.csv'} with a line for "
            f"each, its name and its text: {Path(first).stem}|What is said."
        )


class UnsafeFileError(TTSTrainError):
    """A file that could run code when read, refused (exit 3)."""

    exit_code = 3


class NumericError(TTSTrainError):
    """Losses, gradients or weights are not finite and training stopped (exit 4)."""

    exit_code = 4


class DiskError(TTSTrainError):
    """Too little disk space to go on (exit 5)."""

    exit_code = 5


class RunLockedError(TTSTrainError):
    """Another process holds the run directory (exit 6)."""

    exit_code = 6


class Interrupted(TTSTrainError):
    """The run was asked to stop and saved itself; the same command, or the same call, continues it (exit 75)."""

    # EX_TEMPFAIL of sysexits.h: trying again may help.
    exit_code = 75


class MissingExtraError(ConfigError):
    """A feature whose optional dependency is not installed (exit 2).

    Args:
        feature: What needs it, as the subject of a sentence.
        extra: The extra of tts-train that brings it.
        install: What to type instead, where no extra of tts-train does.
    """

    def __init__(self, feature: str, extra: str = "", *, install: str = "") -> None:
        command = install or f"pip install {extra_words(extra)}"
        super().__init__(f"{feature} needs an optional dependency. Install it with: {command}")


def extra_words(extra: str) -> str:
    """Return an extra of tts-train as ``pip install`` takes it."""
    return f"'tts-train[{extra}]'"


_PLAIN = re.compile(r"[\w.:\\/=+,@-]+", re.ASCII)


def quoted(*words: object) -> str:
    """Return words as one line that can be pasted: for a POSIX shell, or for PowerShell and ``cmd`` under Windows.

    Args:
        words: the words of a command.
    """
    if sys.platform != "win32":
        return shlex.join(map(str, words))
    return " ".join(map(_in_double_quotes, map(str, words)))


def _in_double_quotes(word: str) -> str:
    if _PLAIN.fullmatch(word):
        return word
    inner = subprocess.list2cmdline([f"{word} "])  # a blank makes it quote whatever the rest is
    return f'{inner[:-2]}{_backslashes(word)}"'


def _backslashes(word: str) -> str:
    """Those at the end once more: one alone would take the quotation mark's meaning."""
    return "\\" * (len(word) - len(word.rstrip("\\")))
