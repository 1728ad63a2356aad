"""Takes back what a command wrote into a run directory before it was refused."""

from __future__ import annotations

import contextlib
import shutil
import sys
from pathlib import Path

from tts_train.run.directory import RunDirectory

_WRITTEN = (
    ".lock", "checkpoints", "config.yaml", "history.jsonl", "logs", "nonfinite.json", "report.html", "run.json",
    "samples",
)  # fmt: skip
"""What a run writes; nothing else is ever removed."""


class Traces:
    """Remembers what lay in a run directory, so that a refused command can leave it as it was.

    Args:
        run: the run directory, before anything is made of it.
    """

    def __init__(self, run: RunDirectory) -> None:
        self._run = run
        self._there = {path.name for path in run.path.iterdir()} if run.path.is_dir() else set[str]()
        self._kept = {path: path.read_bytes() for path in (run.config, run.record) if path.is_file()}
        self._steps = run.steps()
        self._made = _missing(run.path)

    @property
    def trained(self) -> bool:
        """Whether a checkpoint was written since."""
        return self._run.steps() != self._steps

    def remove(self) -> None:
        """Put back configuration and record, and remove what was not there; the folder too, if it was not."""
        for path, content in self._kept.items():
            with contextlib.suppress(OSError):
                path.write_bytes(content)
        for name in set(_WRITTEN) - self._there:
            path = self._run.path / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)
        self._remove_folders()

    def remove_lock(self) -> None:
        """Remove what :meth:`remove` could not while the lock was held: Windows keeps a file that is open.

        It keeps one that another process has opened since, too. Elsewhere a lock that is free is left alone: removing
        it could take it from who has just taken it.
        """
        if sys.platform == "win32" and self._run.lock.name not in self._there:
            with contextlib.suppress(OSError):
                self._run.lock.unlink(missing_ok=True)
            self._remove_folders()

    def _remove_folders(self) -> None:
        for folder in self._made:
            with contextlib.suppress(OSError):  # something else was put there meanwhile
                folder.rmdir()


def _missing(path: Path) -> list[Path]:
    """Return the folders of a path that do not exist yet, the innermost first."""
    path = path.absolute()
    return [folder for folder in (path, *path.parents) if not folder.exists()]
