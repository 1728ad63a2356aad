"""Read a torch file of unknown origin: described by an allow-list first, loaded with ``weights_only=True`` after."""

from __future__ import annotations

import os
import pickle
import struct
from collections.abc import Collection
from io import BytesIO
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from tts_train.errors import UnsafeFileError
from tts_train.weights import archive
from tts_train.weights.archive import Archive, RestoredFile
from tts_train.weights.claims import (
    LIMITS,
    ClaimError,
    TensorClaim,
    Tree,
    WeightsLimits,
    check_regular,
    check_tree,
    refuse,
)
from tts_train.weights.pickles import PATHS, SCALARS, PickleReader

if TYPE_CHECKING:
    from torch import Tensor

_OLDER = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."
"""First bytes of the older layout: a pickle of the number that marks it."""
# PROTOCOL_VERSION of torch.serialization.
_OLDER_LAYOUT = 1001
_FORCE = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"
_LOAD_ERRORS = (
    pickle.UnpicklingError, RuntimeError, ValueError, TypeError, KeyError, IndexError, AttributeError, AssertionError,
    EOFError, OSError, OverflowError, MemoryError, struct.error,
)  # fmt: skip


def describe_torch(
    path: Path, *, head: bytes = b"", dict_classes: Collection[str] = (), limits: WeightsLimits = LIMITS
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


def read_torch(
    path: Path, *, head: bytes = b"", dict_classes: Collection[str] = (), limits: WeightsLimits = LIMITS
) -> Tree:
    """Return what a torch file holds: plain Python values and tensors on the CPU. Paths become text.

    The file is first described as by `describe_torch`; torch then loads it with ``weights_only=True``, and only its
    tensors are used. See there for the arguments and the errors.

    Raises:
        UnsafeFileError: also where the environment switches torch's protection off.
    """
    if os.environ.get(_FORCE):
        raise UnsafeFileError(f"{_FORCE} is set, so a file could run code when it is read. Type: unset {_FORCE}")
    check_regular(path)
    with RestoredFile(path, head) as file:
        described = _describe(file, path, dict_classes, limits)
        try:
            return _filled(described, _load(file, dict_classes))
        except _LOAD_ERRORS as error:
            lines = str(error).splitlines() or [type(error).__name__]
            raise refuse(path, f"torch does not read it ({lines[0][:200]})") from None


def _describe(file: RestoredFile, path: Path, classes: Collection[str], limits: WeightsLimits) -> Tree:
    first = file.read(len(_OLDER))
    try:
        if first.startswith(archive.SIGNATURE):
            members = Archive(file, path, limits)
            reader = PickleReader(members.pickle(), classes, limits)
            described = reader.describe()
            # Before torch allocates: a claim of gigabytes in a file of a kilobyte ends here.
            members.check_storages(reader.storages)
        elif first == _OLDER:
            described = _describe_older(file, path, classes, limits)
        else:
            raise refuse(path, f"it is not a torch file (it begins with {first[:8]!r})")
        check_tree(described, limits)
    except ClaimError as error:
        raise refuse(path, f"it holds {error}") from None
    return described


def _describe_older(file: RestoredFile, path: Path, classes: Collection[str], limits: WeightsLimits) -> Tree:
    """Describe five pickles one after another; each storage behind them must have the claimed number of elements."""
    # One opcode can ask for a whole line or string, so it gets no more of the file than a pickle may take.
    stream = BytesIO(file.read(limits.pickle_bytes))
    layout, system, main, keys = (PickleReader(stream, classes, limits) for _ in range(4))
    if layout.describe() != _OLDER_LAYOUT:
        raise refuse(path, "it has an unknown layout")
    # Sizes and byte order of the writer's machine: followed to get behind them; torch uses nothing of it either.
    system.describe()
    described = main.describe()
    listed = keys.describe()
    # Not as text: nested tuples would take exponential time to write.
    is_text = isinstance(listed, list) and all(isinstance(key, str) for key in listed)
    if not is_text or sorted(listed) != sorted(main.storages):
        raise refuse(path, "it lists other storages than it uses")
    position = len(_OLDER) + stream.tell()
    for key in listed:
        claim = main.storages[key]
        file.seek(position)
        if file.read(8) != struct.pack("<q", claim.numel) or position + 8 + claim.nbytes > file.size:
            raise refuse(path, f"storage {key} claims {claim.numel} elements, which are not there")
        position += 8 + claim.nbytes
    return described


class _StandIn(dict[str, Any]):
    """What torch gets in place of the classes and functions that a pickle names: it keeps attributes and does nothing.

    What it would have been is known from the description already.
    """

    def __init__(self, *_arguments: object) -> None:
        super().__init__()

    def __setstate__(self, state: object) -> None:
        self.update(state if isinstance(state, dict) else {})


def _load(file: RestoredFile, classes: Collection[str]) -> Tree:
    import torch

    file.seek(0)
    names = [*PATHS, *SCALARS, "numpy.dtype", *classes]
    # Pairs of a class and a name: the stand-in answers for it, and nothing of that name is imported.
    with torch.serialization.safe_globals([(_StandIn, name) for name in names]):
        # mmap=False: with the first bytes put right the file is no file that the system could map.
        return torch.load(cast(IO[bytes], file), map_location="cpu", weights_only=True, mmap=False)


def _filled(described: Tree, loaded: object) -> Tree:
    """Return a description with its tensors taken from what torch loaded; everything else is as described."""
    if isinstance(described, TensorClaim):
        return _matching(described, loaded)
    for kind in (dict, (list, tuple)):
        if isinstance(described, kind) and (not isinstance(loaded, kind) or len(loaded) != len(described)):
            raise ClaimError("other contents than were described")
    if isinstance(described, dict):
        return {key: _filled(value, cast(dict[Any, Any], loaded)[key]) for key, value in described.items()}
    if isinstance(described, (list, tuple)):
        return type(described)(map(_filled, described, cast(list[Any], loaded)))
    return described


def _matching(described: TensorClaim, loaded: object) -> Tensor:
    import torch

    if (
        not isinstance(loaded, torch.Tensor)
        or tuple(loaded.shape) != described.shape
        or str(loaded.dtype) != f"torch.{described.dtype}"
    ):
        raise ClaimError("other contents than were described")
    return loaded.detach()
