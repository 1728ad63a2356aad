"""Checkpoints as directories: safetensors and JSON, whole or invisible, verified when read, never pickle."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.plugins.io import CheckpointIO
from safetensors import SafetensorError
from typing_extensions import override

from tts_train.errors import DataError, DiskError, NumericError
from tts_train.run.files import AfterWrite, HashingWriter, hash_file, move_directory, sync_directory, temporary_beside
from tts_train.run.stored import TensorSource
from tts_train.run.tensors import TensorFile, first_not_finite
from tts_train.run.tree import Json, Keys, decode, encode

MANIFEST = "MANIFEST.json"
STATE = "state.json"
FORMAT = 1

_STEMS = {"state_dict": "model", "optimizer_states": "optimizer"}

# Constructor arguments: the run card has the configuration, and class names are never read from a checkpoint.
_LEFT_OUT = frozenset(
    f"{prefix}{key}"
    for prefix in ("", "datamodule_")
    for key in ("hyper_parameters", "hparams_name", "hparams_type", "hyper_parameters_type")
)

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

    @override
    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint directory.

        Raises:
            NumericError: if a weight is not finite; nothing is written then.
            DiskError: if the disk refuses; nothing of the target is left or changed then.
            NotRepresentableError: if the state holds something that cannot be restored exactly.
        """
        target = Path(path)
        refuse_not_finite(checkpoint, target)
        temporary = temporary_beside(target)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir()
            self._write(checkpoint, temporary)
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

        Raises:
            DataError: if it is missing or damaged.
        """
        directory = Path(path)
        verify(directory)
        return load_state(directory)

    @override
    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove a checkpoint directory."""
        shutil.rmtree(path)

    def _write(self, checkpoint: dict[str, Any], directory: Path) -> None:
        files: dict[str, TensorFile] = {}

        def sink(keys: Keys, tensor: torch.Tensor) -> dict[str, Any]:
            stem, rest = place(keys)
            name = f"{stem}.safetensors"
            return files.setdefault(name, TensorFile(name)).add(rest, tensor)

        state = encode(to_keep(checkpoint), sink)
        described = {}
        for name, file in files.items():
            described[name] = file.write(directory)
            self.written(directory / name)
        self.conclude(directory, state, described, step=step_of(checkpoint))

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


def to_keep(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of Lightning's checkpoint is written."""
    kept = {key: value for key, value in checkpoint.items() if key not in _LEFT_OUT}
    metadata = getattr(checkpoint.get("state_dict"), "_metadata", None)
    if metadata is not None:
        kept["state_dict_metadata"] = {key: dict(value) for key, value in metadata.items()}
    return kept


def place(keys: Keys) -> tuple[str, Keys]:
    """Return the stem of the file in which a tensor of the checkpoint lies, and the keys that name it there."""
    stem = _STEMS.get(keys[0])
    return ("state", keys) if stem is None else (stem, keys[1:])


def step_of(checkpoint: Mapping[str, Any]) -> int:
    """Return the optimiser step of Lightning's checkpoint."""
    return int(checkpoint.get("global_step", 0))


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
    metadata = state.pop("state_dict_metadata", None)
    if metadata is not None and "state_dict" in state:
        state["state_dict"]._metadata = metadata
    return state
