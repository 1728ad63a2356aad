"""Names for checkpoints that change (``last``, ``best``): symbolic links, or small text files where there are none."""

from __future__ import annotations

import sys
from pathlib import Path

from tts_train.disk.files import sync_directory, temporary_beside, write_atomically

_LONGEST = 255
"""Bytes of the longest name of a file; a pointer holds no more."""


def link_atomically(path: Path, target: str) -> None:
    """Let ``path`` lead to ``target``, a name in the same folder, in one step.

    Windows gives links to administrators only, and cannot replace one in a step: there, and on file systems without
    links, ``path`` is a text file that holds the name.
    """
    if sys.platform != "win32" and _linked(path, target):
        return
    if path.is_symlink():  # made elsewhere; writing would be through it
        path.unlink()
    write_atomically(path, f"{target}\n")


def target_of(path: Path) -> str | None:
    """Return the name that ``path`` leads to; None if it is no pointer."""
    if path.is_symlink():
        # The name alone: what a pointer leads to lies beside it (see link_atomically).
        return path.readlink().name
    try:
        with path.open("rb") as file:
            name = file.read(_LONGEST + 1).decode("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return name if name and Path(name).name == name and len(name) < _LONGEST else None


def followed(path: Path) -> Path:
    """Return where ``path`` leads; itself if it is no pointer."""
    if path.is_symlink() or not path.is_file():
        return path
    target = target_of(path)
    # A text file of that name may be the user's own: it leads nowhere unless a checkpoint is there.
    return path if target is None or not path.with_name(target).is_dir() else path.with_name(target)


def _linked(path: Path, target: str) -> bool:
    temporary = temporary_beside(path)
    # Left by a killed process of this number: a link cannot be made over it.
    temporary.unlink(missing_ok=True)
    try:
        temporary.symlink_to(target)
    except OSError:
        return False
    temporary.replace(path)
    sync_directory(path.parent)
    return True
