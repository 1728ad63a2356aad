"""Commands to paste: words quoted as the shells of this system take them."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys

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
