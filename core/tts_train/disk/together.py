"""Replace several text files of a folder so that a kill at any point leaves all of them old, or all of them new."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from tts_train.disk.files import patiently, sync_directory, write_atomically, write_json
from tts_train.errors import DataError

PENDING = ".pending.json"
"""While it is there, the new files count that it names, wherever they have come to."""


_NOT_IN_NAMES = frozenset("/\\:\0")
"""Letters that make a name a path on one system or another."""


def replace_together(folder: Path, files: Mapping[str, str | None]) -> None:
    """Replace files of a folder; one writer at a time, which holds the folder.

    Args:
        folder: is there.
        files: contents by name; None takes a file away.
    """
    finish_replacing(folder)
    new = {name: text for name, text in files.items() if text is not None}
    for name, text in new.items():
        write_atomically(_staged(folder, name), text)
    # Until this file has its name the old ones count, from then on the new ones: there is no moment between.
    write_json(folder / PENDING, {"new": list(new), "gone": [name for name in files if name not in new]})
    finish_replacing(folder)


def finish_replacing(folder: Path) -> None:
    """Give the new files their names, where a writer was killed before it had."""
    pending = folder / PENDING
    if not pending.exists():
        return
    named = _named(pending)
    for name in named["new"]:
        staged = _staged(folder, name)
        # Not there: it has its name already.
        if staged.exists():
            patiently(lambda staged=staged, name=name: staged.replace(folder / name))  # type: ignore[misc]
    for name in named["gone"]:
        patiently(lambda name=name: (folder / name).unlink(missing_ok=True))  # type: ignore[misc]
    sync_directory(folder)
    patiently(lambda: pending.unlink(missing_ok=True))


def _named(pending: Path) -> dict[str, list[str]]:
    """Return the names that wait.

    Raises:
        DataError: if they are none, or lead out of the folder: it may have come from elsewhere.
    """
    try:
        found = json.loads(pending.read_text(encoding="utf-8"))
        names = [*found["new"], *found["gone"]]
        plain = all(
            isinstance(name, str) and name not in {"", ".", ".."} and not set(name) & _NOT_IN_NAMES for name in names
        )
    except (ValueError, TypeError, KeyError):
        plain = False
    if not plain:
        raise DataError(f"{pending} was not written by tts-train, or is damaged. Remove it, and run the command again.")
    return {"new": found["new"], "gone": found["gone"]}


def counting_file(folder: Path, name: str) -> Path:
    """Return where the contents of a file stand that count now: it may wait for its name still."""
    if (folder / PENDING).exists() and (staged := _staged(folder, name)).exists():
        return staged
    return folder / name


def _staged(folder: Path, name: str) -> Path:
    return folder / f".new-{name}"
