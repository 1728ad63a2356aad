"""How large a foreign file may say that it is, and the one way in which it is refused."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tts_train.errors import DataError, UnsafeFileError

_ADVICE = "Nothing in it was run. Get the file again from whoever made it, or use one from another source."


@dataclass(frozen=True)
class WeightsLimits:
    """Bounds on what is believed before tensors are read; training files of a few thousand tensors stay far below."""

    pickle_bytes: int = 16 * 2**20
    """Largest pickle inside a file, in bytes."""
    opcodes: int = 250_000
    """Most instructions of one pickle; a tensor takes about 30."""
    nodes: int = 250_000
    """Most values of the resulting tree, shared ones counted each time they are met."""
    depth: int = 64
    """Most levels of dicts, lists and tuples inside each other."""
    produced: int = 20 * 2**20
    """Most bytes that calls in a pickle may make out of memorised values."""
    directory_bytes: int = 4 * 2**20
    """Most bytes that reading an archive's directory may take."""
    members: int = 20_000
    """Most members of an archive."""
    header_bytes: int = 8 * 2**20
    """Largest JSON header of a safetensors file, in bytes."""


LIMITS = WeightsLimits()
"""Generous for weights, tight for everything else."""


def refuse(path: Path, why: str) -> UnsafeFileError:
    """Return the error (exit 3) that says why the contents of a file are not read."""
    return UnsafeFileError(f"{path} is refused: {why}. {_ADVICE}")


def check_regular(path: Path) -> None:
    """Raise DataError unless ``path`` is a regular file; a pipe or a device would hang or never end."""
    if not path.exists():
        raise DataError(f"There is no file {path}.")
    if not path.is_file():
        raise DataError(f"{path} is not a regular file. Give the path of a weights file.")
