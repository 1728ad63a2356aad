"""Read a torch file of unknown origin: walked by an allow-list first, loaded with ``weights_only=True`` after."""

from __future__ import annotations

import os
import pickle
import struct
from collections.abc import Collection
from pathlib import Path
from typing import IO, cast

from tts_train.errors import UnsafeFileError
from tts_train.weights import archive, legacy
from tts_train.weights.claims import ClaimError, Tree
from tts_train.weights.legacy import describe_legacy
from tts_train.weights.limits import LIMITS, Limits
from tts_train.weights.machine import PickleMachine
from tts_train.weights.refusal import check_regular, refuse
from tts_train.weights.restored import RestoredFile
from tts_train.weights.tree import check_tree, fill_tree, plain_tree

_FORCE = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"
_LOAD_ERRORS = (
    pickle.UnpicklingError, RuntimeError, ValueError, TypeError, KeyError, IndexError, AttributeError, AssertionError,
    EOFError, OSError, OverflowError, MemoryError, struct.error,
)  # fmt: skip


def describe_torch(
    path: Path, *, head: bytes = b"", dict_classes: Collection[str] = (), limits: Limits = LIMITS
) -> Tree:
    """Return what a torch file holds without reading a tensor: dicts, lists, numbers, text and `TensorClaim`s.

    Args:
        path: A file that ``torch.save`` wrote, in its present or its older layout.
        head: Bytes that belong in place of the file's first ones.
        dict_classes: Full names of classes, such as ``pkg.Config``, whose objects become dicts of their attributes.
        limits: Bounds on what the file may claim.

    Raises:
        DataError: if there is no such regular file.
        UnsafeFileError: for anything but plain values and tensors; with the opcode and the global's name.
    """
    check_regular(path)
    with RestoredFile(path, head) as file:
        return _describe(file, path, dict_classes, limits)


def read_torch(path: Path, *, head: bytes = b"", dict_classes: Collection[str] = (), limits: Limits = LIMITS) -> Tree:
    """Return what a torch file holds: plain Python values and tensors on the CPU. Paths become text.

    The file is first described as by `describe_torch`; torch then loads it with ``weights_only=True``, and only its
    tensors are used. See there for the arguments and the errors.
    """
    check_environment()
    check_regular(path)
    with RestoredFile(path, head) as file:
        described = _describe(file, path, dict_classes, limits)
        try:
            return fill_tree(described, _load(file, dict_classes))
        except (ClaimError, *_LOAD_ERRORS) as error:
            lines = str(error).splitlines() or [type(error).__name__]
            raise refuse(path, f"torch does not read it ({lines[0][:200]})") from None


def check_environment() -> None:
    """Refuse to read foreign files where the environment switches torch's protection off.

    Raises:
        UnsafeFileError: with the variable and how to unset it.
    """
    if os.environ.get(_FORCE):
        raise UnsafeFileError(f"{_FORCE} is set, so a file could run code when it is read. Type: unset {_FORCE}")


def _describe(file: RestoredFile, path: Path, dict_classes: Collection[str], limits: Limits) -> Tree:
    def machine() -> PickleMachine:
        return PickleMachine(path, dict_classes, limits)

    first = file.read(len(legacy.SIGNATURE))
    if first.startswith(archive.SIGNATURE):
        members = archive.Archive(file, path, limits)
        walk = machine()
        described = walk.run(members.pickle())
        members.check_storages(walk.storages)
    elif first == legacy.SIGNATURE:
        described = describe_legacy(file, path, limits, machine)
    else:
        raise refuse(path, f"it is not a torch file (it begins with {first[:8]!r})")
    try:
        check_tree(described, limits)
    except ClaimError as error:
        raise refuse(path, f"it holds {error}") from None
    return plain_tree(described)


def _load(file: RestoredFile, dict_classes: Collection[str]) -> Tree:
    import torch

    from tts_train.weights.stand_ins import stand_ins

    file.seek(0)
    with torch.serialization.safe_globals(stand_ins(dict_classes)):
        return torch.load(cast(IO[bytes], file), map_location="cpu", weights_only=True, mmap=False)
