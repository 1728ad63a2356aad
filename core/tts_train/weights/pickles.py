"""Describe the pickle of a weights file with the standard library's unpickler, in which nothing can be run.

torch's own reader (``torch.load(map_location="meta", weights_only=True)``) runs no code either, but it does what the
file says before anybody can look. Tried on the hostile files of the tests, torch 2.11 spends minutes on dict keys that
collide or are nested tuples, grows without bound on values repeated by calls, takes the numbers of elements that a
file claims for storages in the older layout, and allows calls that no weights need (``bytearray``, ``torch.Tensor``).
So every pickle is followed here first, and torch reads what is left.
"""

from __future__ import annotations

import pickle
import pickletools
import struct
import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass
from io import BytesIO
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

import numpy

from tts_train.weights.claims import (
    ITEM_BYTES,
    ClaimError,
    ElementType,
    StorageClaim,
    TensorClaim,
    Tree,
    WeightsLimits,
    claim_storage,
    claim_tensor,
)

_USED = {
    "MARK", "STOP", "NONE", "NEWTRUE", "NEWFALSE", "EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE", "TUPLE", "TUPLE1",
    "TUPLE2", "TUPLE3", "APPEND", "APPENDS", "SETITEM", "SETITEMS", "REDUCE", "NEWOBJ", "BUILD", "BINPERSID", "PROTO",
    "BININT", "BININT1", "BININT2", "BINFLOAT", "BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET", "BINUNICODE",
    "SHORT_BINSTRING", "LONG1", "GLOBAL",
}  # fmt: skip
"""The opcodes that ``torch.save`` writes at its own protocol, which is 2."""
_STORAGES = {
    "DoubleStorage": "float64", "FloatStorage": "float32", "HalfStorage": "float16", "BFloat16Storage": "bfloat16",
    "LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8",
    "ByteStorage": "uint8", "BoolStorage": "bool",
}  # fmt: skip
# numpy has no 8-bit float, and b1 is its bool.
_NUMBERS = {f"{kind}{size}" for kind in "fiu" for size in (1, 2, 4, 8)} - {"f1"} | {"b1"}
_DAMAGE = (
    IndexError, KeyError, ValueError, TypeError, AttributeError, AssertionError, OverflowError,
    struct.error, pickle.UnpicklingError,
)  # fmt: skip
_MAX_INT = 2**63
_MAX_TEXT = 4096


@dataclass(frozen=True)
class _Call:
    """A function that a file may call: what it stands for takes only the arguments that saving writes."""

    name: str
    describe: Callable[..., Tree]


class _NumpyType:
    """A numpy type that a scalar is made of; ``order`` is set by the pickle's own state."""

    def __init__(self, code: object, _align: object, _copy: object) -> None:
        if not isinstance(code, str) or code not in _NUMBERS:  # a nested tuple takes exponential time to hash
            raise ClaimError("a numpy scalar of an unusual type")
        self.code, self.order = code, "<"


_OBJECT = object()
"""Stands for a class whose objects become dicts of their attributes."""


class PickleReader(pickle._Unpickler):
    """Describe one pickle: tensors are `TensorClaim`s, and nothing is imported or called.

    The standard unpickler written in Python is used, as its table of opcodes can be narrowed (joblib does so as well).

    Args:
        stream: The pickles, one after another; each reader leaves it behind the STOP of one.
        classes: Full names of classes, such as ``pkg.Config``, whose objects become dicts of their attributes.
        limits: Bounds on what the pickle may claim.
    """

    stack: list[Any]
    metastack: list[list[Any]]
    proto: int

    def __init__(self, stream: BytesIO, classes: Collection[str], limits: WeightsLimits) -> None:
        super().__init__(stream)
        self.storages: dict[str, StorageClaim] = {}
        """The storages met, by key."""
        self.opcode, self.place = "", 0
        self.stream, self.classes, self.limits = stream, classes, limits
        self.left, self.bytes_left = limits.opcodes, limits.produced
        self._objects: dict[int, dict[str, Any]] = {}

    def describe(self) -> Tree:
        """Follow the pickle and return what it would build.

        Raises:
            ClaimError: with the position of the opcode and, where it names one, the global.
        """
        try:
            value = self.load()
        except ClaimError as error:
            raise ClaimError(f"{error}, in opcode {self.opcode} at byte {self.place} of its pickle") from None
        except EOFError:
            raise ClaimError(f"a pickle that is cut off at byte {self.stream.tell()}") from None
        except _DAMAGE:
            raise ClaimError(f"a damaged pickle, in opcode {self.opcode} at byte {self.place}") from None
        # torch would ignore what is left; a writer leaves nothing.
        if self.stack or self.metastack:
            raise ClaimError("values left over")
        return value

    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401 - as in the standard library
        """Return what stands for a global that weights need; nothing is imported."""
        if module == "torch" and name in _STORAGES:
            return ElementType(_STORAGES[name])
        if module == "torch" and name in ITEM_BYTES:
            return name
        full = f"{module}.{name}"
        if full in CALLS:
            return _Call(full, CALLS[full])
        if full in self.classes:
            return _OBJECT
        raise ClaimError(f"the name {full[:100]!r}, which weights do not need")

    def persistent_load(self, pid: Any) -> StorageClaim:  # noqa: ANN401 - as in the standard library
        """Return the claim of a storage."""
        claim = claim_storage(pid)
        # torch reads a storage once, and takes the first claim for all tensors in it.
        if self.storages.setdefault(claim.key, claim) != claim:
            raise ClaimError(f"two different storages with the key {claim.key}")
        return claim

    def reduce(self) -> None:
        """Describe a call instead of making it."""
        arguments, called = self.stack.pop(), self.stack.pop()
        if not isinstance(called, _Call) or not isinstance(arguments, tuple):
            raise ClaimError("a call of something that is not a function")
        try:
            value = called.describe(*arguments)
        except ClaimError:
            raise
        except (TypeError, ValueError):
            raise ClaimError(f"an unusual call of {called.name}") from None
        # Each opcode is cheap and its result may be large: a few bytes could build gigabytes.
        self.spend(sys.getsizeof(value))
        self.stack.append(value)

    def new_object(self) -> None:
        """Make a dict in place of an object."""
        arguments, made = self.stack.pop(), self.stack.pop()
        if made is not _OBJECT or arguments != ():
            raise ClaimError("an object of a class that is not expected")
        attributes: dict[str, Any] = {}
        self._objects[id(attributes)] = attributes
        self.stack.append(attributes)

    def build(self) -> None:
        """Take an object's attributes, a numpy type's byte order, or the note that state dicts carry."""
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(state, dict) and id(target) in self._objects and all(isinstance(key, str) for key in state):
            self.spend(100 * len(state))
            target.update(state)
        elif isinstance(target, _NumpyType) and isinstance(state, tuple) and state[1:2] in (("<",), (">",), ("|",)):
            target.order = state[1]
        elif not (isinstance(target, dict) and isinstance(state, dict) and set(state) <= {"_metadata"}):
            raise ClaimError("attributes set on something that has none")

    def check_items(self, target: object, keys: list[object]) -> None:
        """Refuse keys other than names: nested tuples take exponential time to hash."""
        if not isinstance(target, dict):
            raise ClaimError("items set on something that is not a dict")
        for key in keys:
            if not isinstance(key, (str, int, type(None))):
                raise ClaimError(f"a dict key that is a {type(key).__name__}")

    def check_list(self, target: object) -> None:
        """Refuse to add to anything but a list."""
        if not isinstance(target, list):
            raise ClaimError("items added to something that is not a list")

    def spend(self, produced: int) -> None:
        """Count the memory of values that a call or an object made."""
        self.bytes_left -= produced
        if self.bytes_left < 0:
            raise ClaimError("values repeated until they fill the memory")


def _rebuilt(
    storage: object, offset: object, shape: object, stride: object, _gradient: object = False, *hooks: object
) -> TensorClaim:
    # Backward hooks are functions; saving writes an empty dict in their place, and perhaps metadata behind it.
    if any(hooks) or len(hooks) > 2:
        raise ClaimError("a tensor with hooks")
    return claim_tensor(storage, offset, shape, stride)


def _parameter(tensor: object, _gradient: object, hooks: object) -> TensorClaim:
    if not isinstance(tensor, TensorClaim) or hooks:
        raise ValueError
    return tensor


def _encoded(text: object, encoding: object) -> bytes:
    if not isinstance(text, str) or encoding != "latin1":
        raise ValueError
    # Protocol 2 has no bytes: pickle writes them as text in Latin-1 and a call of _codecs.encode.
    return text.encode("latin1")


def _scalar(kind: object, data: object) -> float | int | bool:
    if not isinstance(kind, _NumpyType) or not isinstance(data, bytes) or len(data) != int(kind.code[1]):
        raise ClaimError("a numpy scalar of an unusual type or size")
    value: float | int | bool = numpy.frombuffer(data, kind.order + kind.code)[0].item()
    return value


def _path(flavour: type[PurePosixPath] | type[PureWindowsPath]) -> Callable[..., str]:
    def joined(*parts: object) -> str:
        texts = [part for part in parts if isinstance(part, str)]
        if len(texts) != len(parts) or sum(map(len, texts)) + len(texts) > _MAX_TEXT:
            raise ClaimError("a path that is not text, or very long")
        return str(flavour(*texts))

    return joined


PATHS = tuple(f"{module}.{kind}Path" for module in ("pathlib", "pathlib._local") for kind in ("Posix", "Windows"))
"""How the pickles of all supported Pythons name paths; they become text."""
SCALARS = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
"""How numpy's pickles name the maker of a scalar, in both of its layouts."""
CALLS: dict[str, Callable[..., Tree]] = {
    "collections.OrderedDict": lambda: {},
    "torch._utils._rebuild_tensor": _rebuilt,
    "torch._utils._rebuild_tensor_v2": _rebuilt,
    "torch._utils._rebuild_parameter": _parameter,
    "_codecs.encode": _encoded,
    "numpy.dtype": _NumpyType,
    **dict.fromkeys(SCALARS, _scalar),
    **{name: _path(PureWindowsPath if "Windows" in name else PurePosixPath) for name in PATHS},
}
"""What may be called, and what stands for it here."""

_BEFORE: dict[str, Callable[[PickleReader], None]] = {
    "APPEND": lambda reader: reader.check_list(reader.stack[-2]),
    "APPENDS": lambda reader: reader.check_list(reader.metastack[-1][-1]),
    "SETITEM": lambda reader: reader.check_items(reader.stack[-3], reader.stack[-2:-1]),
    "SETITEMS": lambda reader: reader.check_items(reader.metastack[-1][-1], reader.stack[::2]),
}
_INSTEAD: dict[str, Callable[[PickleReader], None]] = {
    "REDUCE": PickleReader.reduce,
    "NEWOBJ": PickleReader.new_object,
    "BUILD": PickleReader.build,
}


def _step(code: int, name: str) -> Callable[[Any], None]:
    before = _BEFORE.get(name)
    # The stubs say that the table is of the unpickler in C.
    follow: Any = _INSTEAD.get(name) or pickle._Unpickler.dispatch.get(code)

    def step(reader: Any) -> None:  # noqa: ANN401
        reader.opcode, reader.place = name, reader.stream.tell() - 1
        reader.left -= 1
        if reader.left < 0:
            raise ClaimError(f"more than {reader.limits.opcodes} opcodes")
        if name not in _USED or follow is None:
            raise ClaimError("an instruction that saving weights does not use")
        if before is not None:
            before(reader)
        follow(reader)
        if name == "PROTO" and reader.proto != 2:
            raise ClaimError(f"a pickle of protocol {reader.proto}, and torch writes 2")
        if name == "LONG1" and not -_MAX_INT <= reader.stack[-1] < _MAX_INT:
            # Larger ones can be chosen to collide in a dict, which then takes quadratic time.
            raise ClaimError("an integer beyond 64 bits")

    return step


_NAMES = {ord(opcode.code): opcode.name for opcode in pickletools.opcodes}
PickleReader.dispatch = {code: _step(code, _NAMES.get(code, f"{code:#x}")) for code in range(256)}
