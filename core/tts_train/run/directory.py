"""The directory of a run: where everything lies, which checkpoint is valid, and what a refused command takes back."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import shutil
import sys
from pathlib import Path
from typing import Any

from tts_train.checkpoints.folder_io import verify
from tts_train.disk.apart import require_allowed
from tts_train.disk.files import TEMPORARY, is_in_use, patiently, remove_directory, write_json
from tts_train.disk.pointer import link_atomically, target_of
from tts_train.errors import ConfigError, DataError, DiskError

_STEP = re.compile(r"step-(\d{6,})")

logger = logging.getLogger(__name__)


class RunDirectory:
    """One run's directory. Making the object touches nothing on the disk.

    Args:
        path: the directory; it need not exist.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def config(self) -> Path:
        """The resolved configuration, YAML."""
        return self.path / "config.yaml"

    @property
    def record(self) -> Path:
        """``run.json``: what the run is and how it ended."""
        return self.path / "run.json"

    @property
    def samples(self) -> Path:
        """Folder of the sounds made on the way."""
        return self.path / "samples"

    @property
    def logs(self) -> Path:
        """Folder of the loggers."""
        return self.path / "logs"

    @property
    def lock(self) -> Path:
        """The lock file."""
        return self.path / ".lock"

    def create(self) -> None:
        """Make the directory.

        Raises:
            ConfigError: if something else is in the way, or the name is not allowed.
            DiskError: if the disk refuses.
        """
        require_allowed(self.path, option="--run_dir")
        try:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            path = self.checkpoints
            file = next((place for place in (*reversed(path.parents), path) if place.is_file()), path)
            raise ConfigError(
                f"--run_dir {self.path} cannot be a folder, because {file} is a file. Choose another --run_dir, or "
                "move the file away."
            ) from None
        except OSError as error:
            raise DiskError(f"--run_dir {self.path} cannot be made: {error}.") from error

    def step_path(self, step: int) -> Path:
        """Where the checkpoint of an optimiser step lies."""
        return self.checkpoints / f"step-{step:06d}"

    def steps(self) -> list[int]:
        """Return the steps of all checkpoints, valid or not, in rising order. Times of files do not matter."""
        if not self.checkpoints.is_dir():
            return []
        # fullmatch: step-000400.corrupt was set aside, and is no checkpoint.
        matches = (_STEP.fullmatch(entry.name) for entry in self.checkpoints.iterdir())
        return sorted(int(match[1]) for match in matches if match)

    def newest_valid(self, *, repair: bool = True) -> Path | None:
        """Return the checkpoint of the highest step whose every byte is as it was written, or None.

        Args:
            repair: rename damaged ones to ``*.corrupt`` and set ``last`` right. Only for the holder of the lock.
        """
        for step in reversed(self.steps()):
            path = self.step_path(step)
            try:
                if verify(path)["step"] != step:
                    raise DataError(f"{path} is damaged: its manifest belongs to another step.")
            except DataError as error:
                logger.warning("%s An earlier checkpoint is used instead.", error)
                if repair:
                    self._quarantine(path)
                continue
            if repair:
                self.link("last", step)
            return path
        return None

    def link(self, name: str, step: int) -> None:
        """Point ``checkpoints/<name>`` at a step, in one step.

        Raises:
            DiskError: if the disk refuses.
        """
        target = self.step_path(step).name
        path = self.checkpoints / name
        try:
            if target_of(path) != target:
                link_atomically(path, target)
        except OSError as error:
            raise DiskError(f"{path} cannot be pointed at {target}: {error}. The last checkpoint is intact.") from error

    def linked(self, name: str) -> int | None:
        """Return the step that ``checkpoints/<name>`` points at, or None."""
        path = self.checkpoints / name
        if path.is_dir() and not path.is_symlink():  # a copy of the run that followed its links
            step = self._step_in(path)
            return step if step in self.steps() else None
        match = _STEP.fullmatch(target_of(path) or "")
        return int(match[1]) if match else None

    def rotate(self, keep: int) -> list[int]:
        """Remove old checkpoints and return their steps.

        The newest ``keep`` valid ones stay, and the one ``best`` points at. Validity here means that all files have
        the right size: what was just written was hashed on its way. Fewer than two are never left by choice.
        """
        valid = [step for step in self.steps() if self._looks_valid(step)]
        # Two, for the newest may turn out to be damaged when it is read.
        spared = {*valid[-max(keep, 2) :], self.linked("best"), self.linked("last")}
        return [step for step in valid if step not in spared and self._removed(step)]

    def clean(self) -> list[Path]:
        """Remove what killed processes left half written, and make names of names that copying made folders of.

        Only for the holder of the lock.
        """
        left = [path for folder in (self.path, self.checkpoints) for path in folder.glob(f"{TEMPORARY}*")]
        for path in left:
            logger.info("Removing %s, which an interrupted run left behind.", path)
            try:
                # rmtree refuses a link, of which only the name is to go.
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
            except OSError as error:
                if not is_in_use(error):
                    raise
        for name in ("last", "best"):
            self._unfold(name)
        return left

    def check_space(self, needed: int, *, purpose: str) -> None:
        """Refuse to go on without ``needed`` free bytes.

        Raises:
            DiskError: with what is needed, what is free, and what to do.
        """
        free = shutil.disk_usage(self.path).free
        # A run that cannot save itself would train for nothing.
        if free < needed:
            raise DiskError(
                f"{purpose} needs {needed / 1e9:.3g} GB in {self.path} and {free / 1e9:.3g} GB are free. "
                "Free some space, lower --checkpoint.keep, or choose a --run_dir on another disk; "
                "then run the same command again."
            )

    def read_record(self) -> dict[str, Any]:
        """Return ``run.json``; empty if there is none yet, or it is damaged (which is logged)."""
        try:
            record = json.loads(self.record.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            logger.warning("%s cannot be read (%s) and is written anew.", self.record, error)
            return {}
        return record if isinstance(record, dict) else {}

    def update_record(self, **entries: object) -> None:
        """Set entries of ``run.json`` and leave the others."""
        write_json(self.record, {**self.read_record(), **entries})

    def _unfold(self, name: str) -> None:
        """Point ``name`` at its checkpoint again where scp or a cloud's storage made a second copy of that."""
        path = self.checkpoints / name
        if path.is_symlink() or not path.is_dir():
            return
        step = self._step_in(path)
        if step is None:
            self._quarantine(path)
            return
        if self._looks_valid(step):
            remove_directory(path)
        else:
            if self.step_path(step).exists():
                self._quarantine(self.step_path(step))
            patiently(lambda: path.rename(self.step_path(step)))
        self.link(name, step)
        logger.info("%s was a copy of %s and leads there again.", path, self.step_path(step))

    def _looks_valid(self, step: int) -> bool:
        return self._step_in(self.step_path(step)) == step

    @staticmethod
    def _step_in(path: Path) -> int | None:
        """Return the step of a checkpoint whose files have the right sizes, or None."""
        try:
            return int(verify(path, hashes=False)["step"])
        except DataError:
            return None

    def _removed(self, step: int) -> bool:
        """Remove a checkpoint, unless Windows keeps it while another program has it open: then it goes another time."""
        try:
            remove_directory(self.step_path(step))
        except OSError as error:
            if not is_in_use(error):
                raise
            logger.warning("%s is open in another program and stays for now.", self.step_path(step))
            return False
        return True

    def _quarantine(self, path: Path) -> None:
        target = path.with_name(f"{path.name}.corrupt")
        number = 2
        while target.exists():
            # Earlier damage of the same step is kept, too: it is evidence of a failing disk.
            target, number = path.with_name(f"{path.name}.{number}.corrupt"), number + 1
        patiently(lambda: path.rename(target))
        logger.warning("The damaged checkpoint was renamed to %s.", target)


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
        # Names that a run writes and that were not there: a file of the user is in neither set.
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
