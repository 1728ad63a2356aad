"""One checkpoint written and read by several processes that share its tensors.

It is the same directory that one process writes: any number of processes continues it, and exports open it. In the
layout ``full`` sharded tensors are gathered one at a time while the first process writes them; in ``sharded`` each
process writes its rows into a file of its own, and the state names the files one below the other.

PyTorch's distributed checkpoints are not used: their index is a pickle, and a checkpoint here holds none.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from torch import distributed
from torch.distributed.tensor import DTensor, Replicate, Shard

from tts_train.checkpoints.contents import place, step_of, to_keep
from tts_train.checkpoints.folder_io import (
    DirectoryCheckpointIO,
    load_state,
    refuse_not_finite,
    refused,
    verify,
)
from tts_train.checkpoints.stored import TensorSource
from tts_train.checkpoints.tensors import TensorFile, local
from tts_train.checkpoints.tree import Json, Keys, encode, where
from tts_train.disk.files import move_directory, temporary_beside
from tts_train.errors import ConfigError
from tts_train.parallel.together import together

Layout: TypeAlias = Literal["full", "sharded"]


def save_shared(
    checkpoint: dict[str, Any], path: Path, io: DirectoryCheckpointIO, *, layout: Layout, device: torch.device
) -> None:
    """Write a checkpoint whose tensors may be sharded; all processes call this, and all raise if one fails.

    Args:
        checkpoint: Lightning's; sharded tensors are DTensors.
        path: the directory that it becomes, the same file system for all processes.
        io: how directories are written.
        layout: ``full`` or ``sharded``.
        device: where the processes' collectives run.

    Raises:
        NumericError: if a weight is not finite; nothing is written then.
        DiskError: if the disk refuses; nothing of the target is left or changed then.
    """
    first = distributed.get_rank() == 0
    with together(device):
        refuse_not_finite(checkpoint, path)
    # The name holds host and process id, so only one process may choose it.
    told = [str(temporary_beside(path))]
    distributed.broadcast_object_list(told)
    temporary = Path(told[0])
    try:
        with together(device):
            if first:
                _clear(temporary, path)
        writing = _Writing(layout)
        with together(device):
            state = encode(to_keep(checkpoint), writing.sink)
        described = writing.write(temporary, io, path=path, device=device)
        with together(device):
            if first:
                _publish(io, temporary, path, state, described, step=step_of(checkpoint))
    finally:
        if first:
            shutil.rmtree(temporary, ignore_errors=True)


def load_shared(path: Path, *, device: torch.device) -> dict[str, Any]:
    """Read a checkpoint; weights and optimiser states are :class:`StoredTensor` s, read where they are needed.

    Raises:
        DataError: in all processes, if it is missing or damaged.
    """
    with together(device):
        # One process reads every byte; the others, often on the same disk, compare sizes only.
        verify(path, hashes=distributed.get_rank() == 0)
    source = TensorSource(path)
    shared = ("state_dict", "optimizer_states")
    rest = load_state(path, *shared, source=source, but=True)
    return {**rest, **load_state(path, *shared, source=source.later)}


class _Writing:
    """The files to which this process contributes."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._rank, self._world_size = distributed.get_rank(), distributed.get_world_size()
        self._common: dict[str, TensorFile] = {}
        self._own: dict[str, TensorFile] = {}

    def sink(self, keys: Keys, tensor: torch.Tensor) -> dict[str, Any]:
        """Take a tensor and return the reference that finds it again."""
        stem, rest = place(keys)
        # Before anything is gathered, while every process can still raise.
        _refuse_hidden_shard(keys, tensor)
        owners = _owners(tensor)
        if owners is None or self._layout == "full":
            file = self._common.setdefault(stem, TensorFile(f"{stem}.safetensors"))
            return {**file.add(rest, tensor), **({} if owners is None else {"by_rows": True})}
        if self._rank in owners:
            # A shard may be a view with gaps, and a file has none.
            name = self._add(stem, rest, local(tensor).contiguous())["$tensor"]
        else:
            name = "/".join(str(key) for key in rest)  # only the first process's reference is written
        return {"$tensor": name, "pieces": self._names(stem, owners), "by_rows": True}

    def write(self, directory: Path, io: DirectoryCheckpointIO, *, path: Path, device: torch.device) -> dict[str, Any]:
        """Write this process's files, and gather what the first one writes; return sizes and hashes of all files."""
        described: dict[str, Any] = {}
        # Gathering is collective: all must take part for the same tensors in the order of the one that writes.
        files = [[(stem, file.gathered) for stem, file in self._common.items()]]
        distributed.broadcast_object_list(files)
        with together(device):
            self._refuse_others(files[0])
        with together(device):
            self._write_common(directory, io, files[0], described, path=path)
        with together(device):
            try:
                for file in self._own.values():
                    described[file.name] = file.write(directory)
                    io.written(directory / file.name)
            except OSError as error:
                raise refused(path, error) from error
        gathered: list[Any] = [None] * self._world_size
        distributed.all_gather_object(gathered, described)
        return {name: about for part in gathered for name, about in part.items()}

    def _write_common(
        self,
        directory: Path,
        io: DirectoryCheckpointIO,
        files: list[tuple[str, list[str]]],
        described: dict[str, Any],
        *,
        path: Path,
    ) -> None:
        failure: OSError | None = None
        for stem, names in files:
            if self._rank or failure is not None:
                if names:  # what is not gathered may be in one process alone, such as a figure of its last batch
                    self._common[stem].accompany(names)  # also where the disk refused: the others are gathering
                continue
            file = self._common[stem]
            try:
                described[file.name] = file.write(directory)
                io.written(directory / file.name)
            except OSError as error:
                failure = error
        if failure is not None:
            raise refused(path, failure) from failure

    def _refuse_others(self, files: list[tuple[str, list[str]]]) -> None:
        """Raise before anything is gathered: with a process that has other sharded tensors, all would wait forever."""
        for stem, names in files:
            own = self._common[stem].gathered if stem in self._common else []
            if own != names:
                name = next(iter(set(own) ^ set(names)), stem)
                raise ConfigError(
                    f"{name} of {stem} is sharded in some processes only, so that it cannot be gathered for a "
                    "checkpoint. All processes must build and step the same network; or use --trainer.strategy ddp."
                )

    def _add(self, stem: str, keys: Keys, tensor: torch.Tensor) -> dict[str, Any]:
        (name,) = self._names(stem, [self._rank])
        return self._own.setdefault(stem, TensorFile(name)).add(keys, tensor)

    def _names(self, stem: str, ranks: list[int]) -> list[str]:
        return [f"{stem}-{rank + 1:05d}-of-{self._world_size:05d}.safetensors" for rank in ranks]


def _refuse_hidden_shard(keys: Keys, tensor: torch.Tensor) -> None:
    """A plain state of a sharded parameter may be another one in each process, of which only one would be kept."""
    if keys[0] == "optimizer_states" and not isinstance(tensor, DTensor) and tensor.numel() > 1:
        raise ConfigError(
            f"{where(keys)} is the optimiser's own form of a shard, which a checkpoint cannot hold. Use an optimiser "
            "whose states are sharded tensors (--model.optimizer.name adamw), or --trainer.strategy ddp."
        )


def _owners(tensor: torch.Tensor) -> list[int] | None:
    """Return the processes that hold the rows of a tensor, in their order; None if it is not sharded by rows."""
    if not isinstance(tensor, DTensor) or not isinstance(tensor.placements[-1], Shard):
        return None
    # HSDP replicates over nodes and shards within one: the first group of replicas writes for all.
    *replicated, sharded = tensor.placements
    if not all(isinstance(placement, Replicate) for placement in replicated) or sharded != Shard(0):
        return None
    ranks: torch.Tensor = tensor.device_mesh.mesh.reshape(-1, tensor.device_mesh.mesh.shape[-1])[0]
    return [int(rank) for rank in ranks]


def _clear(temporary: Path, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
    except OSError as error:
        raise refused(path, error) from error


def _publish(
    io: DirectoryCheckpointIO, temporary: Path, path: Path, state: Json, described: dict[str, Any], *, step: int
) -> None:
    try:
        io.conclude(temporary, state, described, step=step)
        move_directory(temporary, path)
        io.written(path)
    except OSError as error:
        raise refused(path, error) from error
