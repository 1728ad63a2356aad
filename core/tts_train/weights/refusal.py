"""The one way in which a foreign file is refused."""

from __future__ import annotations

from pathlib import Path

from tts_train.errors import DataError, UnsafeFileError

_ADVICE = "Nothing in it was run. Get the file again from whoever made it, or use one from another source."


def refuse(path: Path, why: str) -> UnsafeFileError:
    """Return the error (exit 3) that says why the contents of a file are not read."""
    return UnsafeFileError(f"{path} is refused: {why}. {_ADVICE}")


def check_regular(path: Path) -> None:
    """Raise DataError unless ``path`` is a regular file; a pipe or a device would hang or never end."""
    if not path.exists():
        raise DataError(f"There is no file {path}.")
    if not path.is_file():
        raise DataError(f"{path} is not a regular file. Give the path of a weights file.")
