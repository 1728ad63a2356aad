"""The older layout of torch files: five pickles one after another, then the storages."""

from __future__ import annotations

import struct
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

from tts_train.weights.claims import Tree
from tts_train.weights.limits import Limits
from tts_train.weights.machine import PickleMachine
from tts_train.weights.refusal import refuse
from tts_train.weights.restored import RestoredFile

SIGNATURE = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."
"""First bytes: a pickle of the number that marks these files."""

_LAYOUT = 1001


def describe_legacy(file: RestoredFile, path: Path, limits: Limits, machine: Callable[[], PickleMachine]) -> Tree:
    """Return the described contents; each storage is checked to be there with the claimed number of elements.

    Raises:
        UnsafeFileError: see `PickleMachine`, or if the file is cut off.
    """
    file.seek(len(SIGNATURE))
    # One opcode can ask for a whole line or string, so it gets no more of the file than a pickle may take.
    stream = BytesIO(file.read(limits.pickle_bytes))
    if machine().run(stream) != _LAYOUT:
        raise refuse(path, "it has an unknown layout")
    machine().run(stream)
    main = machine()
    described = main.run(stream)
    keys = machine().run(stream)
    if not isinstance(keys, list) or sorted(map(str, keys)) != sorted(main.storages):
        raise refuse(path, "it lists other storages than it uses")
    position = len(SIGNATURE) + stream.tell()
    for key in keys:
        claim = main.storages[key]
        file.seek(position)
        if file.read(8) != struct.pack("<q", claim.numel) or position + 8 + claim.nbytes > file.size:
            raise refuse(path, f"storage {key} claims {claim.numel} elements, which are not there")
        position += 8 + claim.nbytes
    return described
