"""The globals that a weights file may name, and what calling them means here: values are described, nothing is run."""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from tts_train.weights.claims import ITEM_BYTES, ClaimError, StorageClaim, TensorClaim, Tree, claim_tensor

_STORAGES = {
    "torch DoubleStorage": "float64",
    "torch FloatStorage": "float32",
    "torch HalfStorage": "float16",
    "torch BFloat16Storage": "bfloat16",
    "torch LongStorage": "int64",
    "torch IntStorage": "int32",
    "torch ShortStorage": "int16",
    "torch CharStorage": "int8",
    "torch ByteStorage": "uint8",
    "torch BoolStorage": "bool",
}
SCALARS = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
"""How numpy's pickles name the maker of a scalar, in both of its layouts."""
PATHS = tuple(f"{module}.{kind}Path" for module in ("pathlib", "pathlib._local") for kind in ("Posix", "Windows"))
"""How the pickles of all supported Pythons name paths; they become text."""
_CALLABLE = {
    "collections OrderedDict": "dict",
    "torch._utils _rebuild_tensor": "tensor",
    "torch._utils _rebuild_tensor_v2": "tensor",
    "torch._utils _rebuild_parameter": "parameter",
    "_codecs encode": "bytes",
    "numpy dtype": "dtype",
    **{name.replace(".scalar", " scalar"): "scalar" for name in SCALARS},
    **{" ".join(name.rsplit(".", 1)): "windows" if "Windows" in name else "posix" for name in PATHS},
}
_NUMPY = {
    "f2": "e", "f4": "f", "f8": "d", "b1": "?", "i1": "b", "i2": "h", "i4": "i", "i8": "q", "u1": "B", "u2": "H",
    "u4": "I", "u8": "Q",
}  # fmt: skip
_MAX_TEXT = 4096


@dataclass(frozen=True)
class Global:
    """A global that the file names and that is allowed: ``kind`` says what it stands for."""

    name: str
    kind: str
    dtype: str | None = None


class Instance(dict[str, Any]):
    """What stands for an object of a class that becomes a plain dict: its attributes."""


class NumpyType:
    """A numpy type that a scalar is made of; ``order`` is set by the pickle's own state."""

    def __init__(self, code: str) -> None:
        self.code = code
        self.order = "<"


def find_global(words: str, dict_classes: Collection[str]) -> Global | None:
    """Return what ``"module name"`` stands for, or None if a weights file has no business naming it."""
    if words in _STORAGES:
        return Global(words, "storage", _STORAGES[words])
    if words in _CALLABLE:
        return Global(words, _CALLABLE[words])
    module, _, name = words.partition(" ")
    if module == "torch" and name in ITEM_BYTES:
        return Global(words, "torch type", name)
    return Global(words, "instance") if words.replace(" ", ".", 1) in dict_classes else None


def call(target: object, arguments: object) -> tuple[Tree, int]:
    """Return what REDUCE makes of an allowed global, and about how many new bytes that took.

    Raises:
        ClaimError: for anything but the calls that saving weights makes.
    """
    if not isinstance(target, Global) or not isinstance(arguments, tuple):
        raise ClaimError("a call of something that is not a function")
    if target.kind == "dict" and not arguments:
        return OrderedDict(), 64
    if target.kind == "tensor" and len(arguments) in (4, 6, 7):
        if any(arguments[5:]):
            raise ClaimError("a tensor with hooks")
        return claim_tensor(*arguments[:4]), 64
    if target.kind == "parameter" and len(arguments) == 3 and type(arguments[0]) is TensorClaim and not arguments[2]:
        return arguments[0], 0
    if target.kind == "bytes":
        return _bytes(arguments)
    if target.kind == "dtype" and len(arguments) == 3 and arguments[0] in _NUMPY:
        return NumpyType(arguments[0]), 64
    if target.kind == "scalar" and len(arguments) == 2:
        return _scalar(*arguments), 16
    if target.kind in ("posix", "windows"):
        return _path(target.kind, arguments)
    raise ClaimError(f"an unusual call of {target.name.replace(' ', '.')}")


def make(target: object, arguments: object) -> Instance:
    """Return what NEWOBJ makes: an empty stand-in for a class that becomes a dict."""
    if isinstance(target, Global) and target.kind == "instance" and arguments == ():
        return Instance()
    raise ClaimError("an object of a class that is not expected")


def build(target: object, state: object) -> int:
    """Do what BUILD does to the described values, and return about how many new bytes that took."""
    if type(target) is Instance and type(state) is dict and all(isinstance(key, str) for key in state):
        target.update(state)
        return 100 * len(state)
    if type(target) is OrderedDict and type(state) is dict and set(state) <= {"_metadata"}:
        return 64
    if type(target) is NumpyType and isinstance(state, tuple) and state[1:2] and state[1] in ("<", ">", "|"):
        target.order = state[1].replace("|", "<")
        return 0
    raise ClaimError("attributes set on something that has none")


def storage_type(identity: object) -> str | None:
    """Return the element type that a persistent id names, if it names one."""
    kind = identity[1] if isinstance(identity, tuple) and len(identity) > 1 else None
    return kind.dtype if isinstance(kind, Global) and kind.kind == "storage" else None


def is_value(value: object) -> bool:
    """Whether a value may be part of the result, rather than being a means to make one."""
    return not isinstance(value, (StorageClaim, NumpyType)) and not (
        isinstance(value, Global) and value.kind != "torch type"
    )


def _bytes(arguments: tuple[Any, ...]) -> tuple[bytes, int]:
    if len(arguments) != 2 or not isinstance(arguments[0], str) or arguments[1] != "latin1":
        raise ClaimError("an unusual call of _codecs.encode")
    try:
        return arguments[0].encode("latin1"), len(arguments[0])
    except UnicodeEncodeError:
        raise ClaimError("bytes that are not bytes") from None


def _scalar(kind: object, data: object) -> float | int | bool:
    if not isinstance(kind, NumpyType) or not isinstance(data, bytes):
        raise ClaimError("a numpy scalar of an unusual type")
    try:
        value: float | int | bool = struct.unpack(kind.order + _NUMPY[kind.code], data)[0]
    except struct.error:
        raise ClaimError("a numpy scalar of the wrong size") from None
    return value


def _path(kind: str, parts: tuple[Any, ...]) -> tuple[str, int]:
    if not all(isinstance(part, str) for part in parts) or sum(map(len, parts)) + len(parts) > _MAX_TEXT:
        raise ClaimError("a path that is not text, or very long")
    path = PurePosixPath(*parts) if kind == "posix" else PureWindowsPath(*parts)
    return str(path), 64 + len(str(path))
