"""Paths that a run or a prepared set remembers: relative ones belong to the folder that its command ran in."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

PATHS = {"path", "val_path"}
"""Settings that are paths, though their type is text; an empty one would be the present folder."""


def kept(value: str, *, names: Collection[str] = ()) -> str:
    """Return a setting as it is remembered: a local file or folder by its whole path, anything else as it is.

    Args:
        value: A path, or a name such as one on a hub.
        names: Words that are no paths, whatever lies here.
    """
    path = Path(value).expanduser()
    return str(path.absolute()) if value not in names and path.exists() else value


def located(value: str, folder: str | None, *, names: Collection[str] = ()) -> str:
    """Return a remembered path as it can be used here.

    Args:
        value: A path, or a name such as one on a hub.
        folder: The folder that the command ran in, if it is known.
        names: Words that are no paths, whatever lies there.

    Returns:
        The whole path where it lies in that folder; else the value: a project may have been moved as a whole.
    """
    if folder is None or value in names or Path(value).is_absolute() or Path(folder) == Path.cwd():
        return value
    path = Path(folder, value)
    return os.path.normpath(path) if path.exists() else value


def same_place(one: object, one_folder: str | None, other: object, other_folder: str | None) -> bool:
    """Tell whether two settings name one place, each from the folder that its command ran in."""
    if not isinstance(one, str) or not isinstance(other, str) or all(Path(each).name == each for each in (one, other)):
        return False
    places = [
        os.path.normpath(Path(folder or ".", value)) for value, folder in ((one, one_folder), (other, other_folder))
    ]
    return places[0] == places[1]
