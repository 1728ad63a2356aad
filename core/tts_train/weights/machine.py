"""A pickle followed opcode by opcode: what it would build is described, what it would run is refused."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection
from io import BytesIO
from pathlib import Path
from typing import Any

from tts_train.weights.calls import build, call, find_global, make, storage_type
from tts_train.weights.claims import ClaimError, StorageClaim, Tree, claim_storage
from tts_train.weights.limits import LIMITS, Limits
from tts_train.weights.opcodes import instructions
from tts_train.weights.refusal import refuse

_PROTOCOL = 2
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
}
_LITERALS = {"BININT", "BININT1", "BININT2", "BINFLOAT", "BINUNICODE", "SHORT_BINSTRING", "LONG1"}
_MAX_INT = 2**63


class PickleMachine:
    """Walk one pickle and return the described value; tensors are `TensorClaim`s and nothing is imported or called.

    Only the opcodes that ``torch.save`` writes at its own protocol are known. ``dict_classes`` are the full names of
    classes whose objects become dicts of their attributes. ``storages`` collects the storages met, by key.
    """

    def __init__(self, path: Path, dict_classes: Collection[str] = (), limits: Limits = LIMITS) -> None:
        self.storages: dict[str, StorageClaim] = {}
        self._path = path
        self._classes = dict_classes
        self._limits = limits
        self._stack: list[Any] = []
        self._marks: list[list[Any]] = []
        self._memo: dict[object, Any] = {}
        self._produced = 0

    def run(self, stream: BytesIO) -> Tree:
        """Follow the pickle at the position of ``stream``, which is left behind its STOP.

        Raises:
            UnsafeFileError: with the position of the opcode and, where it names one, the global.
        """
        try:
            for count, (name, argument, place) in enumerate(instructions(stream)):
                self._follow(name, argument, place, count)
            return self._stop()
        except ClaimError as error:
            raise refuse(self._path, f"it holds {error}") from None

    def _follow(self, name: str, argument: object, place: int, count: int) -> None:
        try:
            if count >= self._limits.opcodes:
                raise ClaimError(f"more than {self._limits.opcodes} opcodes")
            self._step(name, argument)
        except ClaimError as error:
            raise ClaimError(f"{error}, in opcode {name} at byte {place} of its pickle") from None
        except (IndexError, KeyError):
            raise ClaimError(f"a damaged pickle, in opcode {name} at byte {place}") from None

    def _step(self, name: str, argument: object) -> None:
        if name in _CONSTANTS:
            self._stack.append(_CONSTANTS[name]())
        elif name in _LITERALS:
            self._stack.append(_literal(argument))
        elif name in ("BINPUT", "LONG_BINPUT"):
            self._memo[argument] = self._stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            self._stack.append(self._memo[argument])
        elif name in _ACTIONS:
            _ACTIONS[name](self)
        elif name == "GLOBAL":
            self._global(str(argument))
        elif name == "PROTO" and argument != _PROTOCOL:
            raise ClaimError(f"a pickle of protocol {argument}, and torch writes {_PROTOCOL}")

    def _stop(self) -> Tree:
        if len(self._stack) != 1 or self._marks:
            raise ClaimError("values left over")
        return self._stack.pop()

    def _global(self, words: str) -> None:
        found = find_global(words, self._classes)
        if found is None:
            raise ClaimError(f"the name {words.replace(' ', '.', 1)[:100]!r}, which weights do not need")
        self._stack.append(found)

    def _mark(self) -> None:
        self._marks.append(self._stack)
        self._stack = []

    def _to_mark(self) -> list[Any]:
        items, self._stack = self._stack, self._marks.pop()
        return items

    def _tuple(self) -> None:
        items = tuple(self._to_mark())
        self._stack.append(items)

    def _tuple_of(self, count: int) -> None:
        if len(self._stack) < count:
            raise ClaimError("a tuple of missing values")
        self._stack[-count:] = [tuple(self._stack[-count:])]

    def _append(self, items: list[Any]) -> None:
        if type(self._stack[-1]) is not list:
            raise ClaimError("items added to something that is not a list")
        self._stack[-1].extend(items)

    def _set(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) not in (dict, OrderedDict) or len(items) % 2:
            raise ClaimError("items set on something that is not a dict")
        for key, value in zip(items[::2], items[1::2], strict=True):
            # Nested tuples as keys take exponential time to hash, and floats are no names.
            if not isinstance(key, (str, int, type(None))):
                raise ClaimError(f"a dict key that is a {type(key).__name__}")
            target[key] = value

    def _pair(self) -> list[Any]:
        value = self._stack.pop()
        return [self._stack.pop(), value]

    def _reduce(self) -> None:
        target, arguments = self._pair()
        value, produced = call(target, arguments)
        self._spend(produced)
        self._stack.append(value)

    def _new(self) -> None:
        target, arguments = self._pair()
        self._stack.append(make(target, arguments))

    def _build(self) -> None:
        target, state = self._pair()
        self._spend(build(target, state))
        self._stack.append(target)

    def _persistent(self) -> None:
        identity = self._stack.pop()
        claim = claim_storage(identity, storage_type(identity))
        if self.storages.setdefault(claim.key, claim) != claim:
            raise ClaimError(f"two different storages with the key {claim.key}")
        self._stack.append(claim)

    def _spend(self, produced: int) -> None:
        self._produced += produced
        if self._produced > 64 * self._limits.nodes + self._limits.produced:
            raise ClaimError("values repeated until they fill the memory")


_ACTIONS: dict[str, Callable[[PickleMachine], None]] = {
    "MARK": PickleMachine._mark,
    "TUPLE": PickleMachine._tuple,
    "TUPLE1": lambda machine: machine._tuple_of(1),
    "TUPLE2": lambda machine: machine._tuple_of(2),
    "TUPLE3": lambda machine: machine._tuple_of(3),
    "APPEND": lambda machine: machine._append([machine._stack.pop()]),
    "APPENDS": lambda machine: machine._append(machine._to_mark()),
    "SETITEM": lambda machine: machine._set(machine._pair()),
    "SETITEMS": lambda machine: machine._set(machine._to_mark()),
    "REDUCE": PickleMachine._reduce,
    "NEWOBJ": PickleMachine._new,
    "BUILD": PickleMachine._build,
    "BINPERSID": PickleMachine._persistent,
}


def _literal(value: object) -> Tree:
    # Integers beyond 64 bits can be chosen to collide in a dict, which then takes quadratic time.
    if isinstance(value, int) and not -_MAX_INT <= value < _MAX_INT:
        raise ClaimError("an integer beyond 64 bits")
    return value
