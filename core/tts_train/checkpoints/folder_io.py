"""Checkpoints as directories: safetensors and JSON, whole or invisible, verified when read, never pickle."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.plugins.io import CheckpointIO
from safetensors import SafetensorError
from typing_extensions import override

from tts_train.checkpoints.contents import STEMS, Contents
from tts_train.checkpoints.staging import SPARE, Staging, free_host_memory
from tts_train.checkpoints.stored import TensorSource
from tts_train.checkpoints.tensors import first_not_finite
from tts_train.checkpoints.tree import Json, decode
from tts_train.disk.background import BackgroundWrites
from tts_train.disk.files import AfterWrite, HashingWriter, hash_file, move_directory, sync_directory, temporary_beside
from tts_train.errors import DataError, DiskError, NumericError

MANIFEST = "MANIFEST.json"
STATE = "state.json"
FORMAT = 1

LATER = "later"
"""Storage option of a save that is written beside training."""

logger = logging.getLogger(__name__)


class DirectoryCheckpointIO(CheckpointIO):
    """Lightning's checkpoint as a directory that exists whole or not at all.

    ``model.safetensors`` and ``optimizer.safetensors`` hold the tensors under readable names, ``state.json`` the
    rest, and ``MANIFEST.json``, written last, the size and hash of each. All of it is written into a temporary
    directory beside the target, brought to the disk, and renamed once.

    Args:
        after_write: called after each file and after the final rename; for injecting faults.
    """

    def __init__(self, after_write: AfterWrite | None = None) -> None:
        self.after_write = after_write
        self.writes = BackgroundWrites()
        """What is written beside training."""
        self.mapped = False
        """Whether the checkpoint read last lies in mapped files; what keeps its tensors must copy them."""
        self._staging = Staging()
        self._fits: bool | None = None

    @override
    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint directory.

        Args:
            checkpoint: Lightning's.
            path: the directory that it becomes.
            storage_options: ``LATER`` copies the tensors to host memory and writes them in a thread, whose failure
                ``writes`` raises; where memory is short for a copy, all is done before this returns.

        Raises:
            NumericError: if a weight is not finite; nothing is written then.
            DiskError: if the disk refuses; nothing of the target is left or changed then.
            NotRepresentableError: if the state holds something that cannot be restored exactly.
        """
        target = Path(path)
        # The one before must be on the disk: its copies lie in memory that this one uses again.
        self.writes.wait()
        # Before anything is copied: a run that wrote NaN over its last good weights could only be thrown away.
        refuse_not_finite(checkpoint, target)
        contents = Contents(checkpoint)
        if storage_options == LATER and self._has_room(contents):
            events = contents.stage(self._staging)
            self.writes.submit(lambda: self._write_staged(contents, target, events))
        else:
            self._write(contents, target)

    @override
    def teardown(self) -> None:
        """Wait for what is being written."""
        self.finish()

    def finish(self) -> None:
        """Wait for what is being written, and give the memory of copies back.

        Raises:
            DiskError: if the disk refused it.
        """
        try:
            self.writes.wait()
        finally:
            self._staging.release()

    def _has_room(self, contents: Contents) -> bool:
        fits = contents.nbytes - self._staging.nbytes + SPARE <= free_host_memory()
        # Told when it changes, and not at each save.
        if fits != self._fits:
            self._fits, size = fits, f"{contents.nbytes / 1e9:.3g} GB"
            if fits:
                logger.info("Checkpoints are written beside training, from a copy of %s that host memory keeps.", size)
            else:
                logger.info("Checkpoints are written while training waits: host memory has no room for %s more.", size)
        return fits

    def _write_staged(self, contents: Contents, target: Path, events: Sequence[torch.cuda.Event]) -> None:
        for event in events:
            event.synchronize()
        self._write(contents, target)

    def _write(self, contents: Contents, target: Path) -> None:
        temporary = temporary_beside(target)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir()
            described = {}
            for name, file in contents.files.items():
                described[name] = file.write(temporary)
                self.written(temporary / name)
            # The manifest comes last, so that a directory that has one is complete.
            self.conclude(temporary, contents.state, described, step=contents.step)
            move_directory(temporary, target)
            self.written(target)
        except OSError as error:
            raise refused(target, error) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    @override
    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint directory onto the CPU, after checking it against its manifest.

        Weights and optimiser states lie in files that are mapped into memory: pages are read as they are copied, and
        never take memory of their own. Changing a tensor leaves the file as it is.

        Raises:
            DataError: if it is missing or damaged.
        """
        directory = Path(path)
        verify(directory)
        self.mapped = True
        stems = tuple(f"{stem}.safetensors" for stem in STEMS.values())
        return load_state(directory, source=TensorSource(directory, mapped=stems))

    @override
    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove a checkpoint directory."""
        shutil.rmtree(path)

    def conclude(self, directory: Path, state: Json, described: dict[str, Any], *, step: int) -> None:
        """Write what is not tensors, and last the manifest.

        Args:
            directory: the directory that will be the checkpoint.
            state: the encoded checkpoint.
            described: size and hash of each file of tensors in it.
            step: the optimiser step.
        """
        files = {**described, STATE: self._write_json(directory / STATE, {"format": FORMAT, "checkpoint": state})}
        manifest = {
            "format": FORMAT,
            "step": step,
            "versions": {"torch": torch.__version__, "lightning": lightning.__version__},
            "files": files,
        }
        self._write_json(directory / MANIFEST, manifest)
        sync_directory(directory)

    def written(self, path: Path) -> None:
        """Tell whoever injects faults that something is on the disk."""
        if self.after_write is not None:
            self.after_write(path)

    def _write_json(self, path: Path, value: object) -> dict[str, Any]:
        writer = HashingWriter(path)
        try:
            writer.write(json.dumps(value, ensure_ascii=False, allow_nan=False).encode())
            described = writer.close()
        finally:
            writer.abandon()
        self.written(path)
        return described


def refuse_not_finite(checkpoint: Mapping[str, Any], target: Path) -> None:
    """Refuse to write weights that are not finite, of which no run recovers.

    Raises:
        NumericError: naming the first such weight that this process holds.
    """
    if (name := first_not_finite(checkpoint.get("state_dict", {}))) is not None:
        raise NumericError(
            f"{name} is not finite, so no checkpoint was written to {target}; the last good one is untouched. "
            "Lower the learning rate or clip gradients (--trainer.gradient_clip_val 1.0), then run the same "
            "command again."
        )


def refused(target: Path, error: OSError) -> DiskError:
    """Say that the disk did not take a checkpoint."""
    return DiskError(
        f"Checkpoint {target} could not be written: {error}. Earlier checkpoints are untouched. "
        "Free some space (or lower --checkpoint.keep), then run the same command again."
    )


def read_manifest(directory: Path) -> dict[str, Any]:
    """Read what a checkpoint says about its files.

    Raises:
        DataError: if there is no manifest, or it is not one.
    """
    path = directory / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if manifest["format"] != FORMAT:
            raise DataError(
                f"{directory} has checkpoint format {manifest['format']}; this version reads format {FORMAT}."
            )
        for name, file in manifest["files"].items():
            # A manifest may come from a stranger: a name with a path in it would lead out of the checkpoint.
            if Path(name).name != name or type(file["size"]) is not int or type(file["xxh3_128"]) is not str:
                raise ValueError(f"odd entry {name!r}")
        if type(manifest["step"]) is not int:
            raise ValueError("no step")
    except FileNotFoundError:
        raise DataError(f"{directory} is not a checkpoint: it has no {MANIFEST}.") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is damaged: {type(error).__name__}: {error}.") from error
    return dict(manifest)


def verify(directory: Path, *, hashes: bool = True) -> dict[str, Any]:
    """Check a checkpoint's files against its manifest, and return the manifest.

    Args:
        directory: the checkpoint.
        hashes: also read every byte and compare the hashes, not only the sizes.

    Raises:
        DataError: naming the first file that is missing or differs.
    """
    manifest = read_manifest(directory)
    for name, file in manifest["files"].items():
        path = directory / name
        if not path.is_file():
            raise DataError(f"{directory} is damaged: {name} is missing.")
        if path.stat().st_size != file["size"]:
            raise DataError(f"{directory} is damaged: {name} has {path.stat().st_size} bytes, not {file['size']}.")
        if hashes and hash_file(path) != file["xxh3_128"]:
            raise DataError(f"{directory} is damaged: the contents of {name} have changed since it was written.")
    if STATE not in manifest["files"]:
        raise DataError(f"{directory} is damaged: its manifest does not list {STATE}.")
    return manifest


def load_state(
    directory: Path, *keys: str, source: Callable[[dict[str, Any]], Any] | None = None, but: bool = False
) -> dict[str, Any]:
    """Read the state of a checkpoint that was verified before: all of it, or only some of its top-level keys.

    Args:
        directory: the checkpoint.
        keys: the keys; none for all.
        source: what finds its tensors; None reads each as it was saved.
        but: read all keys but these.

    Raises:
        DataError: if its files do not hold what they should.
    """
    try:
        tree = json.loads((directory / STATE).read_text(encoding="utf-8"))["checkpoint"]
        wanted = {key: tree[key] for key in tree if not keys or (key in keys) != but}
        state: dict[str, Any] = decode(wanted, source or TensorSource(directory))
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise DataError(f"{directory} cannot be read: {type(error).__name__}: {error}.") from error
    # torch keeps the versions of modules as an attribute of the dictionary, which JSON would lose.
    metadata = state.pop("state_dict_metadata", None)
    if metadata is not None and "state_dict" in state:
        state["state_dict"]._metadata = metadata
    return state
