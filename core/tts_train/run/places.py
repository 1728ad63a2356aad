"""Paths that a run or a prepared set remembers: relative ones belong to the folder that its command ran in."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

WHOLE = "paths"
"""Where a prepared set's settings keep whole paths."""
PATHS = {"path", "val_path"}
"""Settings that are paths, though their type is text; an empty one would be the present folder."""


def whole_paths(values: Mapping[str, str], *, names: Collection[str] = ()) -> dict[str, dict[str, str]]:
    """Return the entry of a prepared set's settings that tells where relative paths among them lie, if there are any.

    Args:
        values: Paths, or names such as those on a hub, by setting.
        names: Words that are no paths, whatever lies here.
    """
    places = {key: Path(value).expanduser() for key, value in values.items() if value not in names}
    found = {key: str(path.absolute()) for key, path in places.items() if not path.is_absolute() and path.exists()}
    return {WHOLE: found} if found else {}


def reachable(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return a prepared set's settings with relative paths as they can be used here.

    What does not lie any more where ``prepare`` saw it stays as it was given: a project may have been moved as a whole.
    """
    whole = settings.get(WHOLE)
    places = whole if isinstance(whole, dict) else {}
    return {**settings, **{key: place for key, place in places.items() if Path(place).exists()}}


def project_of(run_dir: object, place: Path) -> Path | None:
    """Return the folder from which a run's own name leads to it: that of its project, or of a copy of that.

    Args:
        run_dir: The ``--run_dir`` that the run was made with.
        place: The run, or something in it.

    Returns:
        The present folder if its name leads there from here; None if the run was renamed or its name is a whole path.
    """
    if not isinstance(run_dir, str) or Path(run_dir).is_absolute():
        return None
    runs = (place.resolve(), *place.resolve().parents)
    if Path(run_dir).resolve() in runs:
        return Path.cwd()
    # A project that was copied as a whole has the same way from its folder to the run.
    name = Path(os.path.normpath(run_dir)).parts
    return next((Path(*run.parts[: -len(name)]) for run in runs if run.parts[-len(name) :] == name), None)


def located(value: str, folder: str | None, *, names: Collection[str] = (), project: Path | None = None) -> str:
    """Return a remembered path as it can be used here.

    Args:
        value: A path, or a name such as one on a hub.
        folder: The folder that the command ran in, if it is known.
        names: Words that are no paths, whatever lies there.
        project: The folder of the run's project or of a copy of it, if it is known: what lies there is meant first.

    Returns:
        The whole path where it lies in one of the two; else, and where that is the present folder, the value.
    """
    if value in names or Path(value).is_absolute():
        return value
    for each in (project, None if folder is None else Path(folder)):
        if each is not None and (each / value).exists():
            return value if each == Path.cwd() else os.path.normpath(each / value)
    return value


def same_place(one: object, one_folder: str | None, other: object, other_folder: str | None) -> bool:
    """Tell whether two settings name one place, each from the folder that its command ran in."""
    if not isinstance(one, str) or not isinstance(other, str) or all(Path(each).name == each for each in (one, other)):
        return False
    places = [
        os.path.normpath(Path(folder or ".", value)) for value, folder in ((one, one_folder), (other, other_folder))
    ]
    return places[0] == places[1]
