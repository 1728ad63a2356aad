"""Names of audio files as lists spell them: suffixes, separators, letter case, Unicode forms."""

# ruff: noqa: PTH122 - a million names pass here; strings cost a tenth of Path objects

from __future__ import annotations

import os
from functools import lru_cache
from os import path as osp
from pathlib import Path
from unicodedata import normalize

from tts_train.errors import DataError

AUDIO_SUFFIXES = (
    ".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a", ".aac", ".webm", ".mp4", ".mka", ".wma",
    ".aif", ".aiff", ".aifc", ".w64", ".rf64", ".caf", ".au", ".oga", ".g722",
)  # fmt: skip
_SUFFIX_SET = frozenset(AUDIO_SUFFIXES)


def is_audio(name: str) -> bool:
    """Tell by its suffix whether a file is meant to be audio; hidden files (``._x.wav`` of macOS) are not."""
    dot = name.rfind(".")
    return dot > 0 and name[dot:].lower() in _SUFFIX_SET and name[0] != "."


def recordings_in(source: Path) -> list[Path]:
    """Return the audio files in a folder and below, by name, or the file that ``source`` is.

    Raises:
        DataError: if there are none.
    """
    if source.is_file():
        return [source]
    found = sorted(path for path in source.rglob("*") if is_audio(path.name) and path.is_file())
    if not found:
        raise DataError(
            f"{source} has no recordings. Give a folder with files such as {', '.join(AUDIO_SUFFIXES[:5])}, or one."
        )
    return found


def plain_name(name: str) -> str:
    """Return a path in one spelling: ``/`` between its parts, none of them empty or ``.``."""
    if "\\" not in name and "//" not in name and "./" not in name:
        return name
    return "/".join(part for part in name.replace("\\", "/").split("/") if part not in ("", "."))


def bare_name(name: str) -> str:
    """Return the last part of a path of any system, without the suffix of audio."""
    last = name.replace("\\", "/").rpartition("/")[2]
    return osp.splitext(last)[0] if is_audio(last) else last


def printable_name(name: str) -> str:
    """Return a file's name as UTF-8 can hold it: bytes that are no text become escapes such as ``\\xe4``."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def is_path(name: str) -> bool:
    """Tell whether the system can look for a name; JSON may hold lone surrogates that no path has."""
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        return False
    return True


@lru_cache(maxsize=4096)
def fold(name: str) -> str:
    """Return a name without letter case, in one Unicode form."""
    # NFC again: folding takes some letters apart, such as U+01F0 into j and a caron.
    return normalize("NFC", normalize("NFC", name).casefold())


def same_form(actual: str, name: str) -> bool:
    """Tell whether two names differ at most in their Unicode form, or in the suffix of the first."""
    composed, wanted = normalize("NFC", actual), normalize("NFC", name)
    return wanted in (composed, osp.splitext(composed)[0])
