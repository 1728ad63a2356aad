"""Split a pickle into the instructions that saving weights uses; nothing else is even decoded."""

from __future__ import annotations

import pickletools
import struct
from collections.abc import Iterator
from io import BytesIO

from tts_train.weights.claims import ClaimError

_PLAIN = {
    "MARK", "STOP", "NONE", "NEWTRUE", "NEWFALSE", "EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE", "TUPLE", "TUPLE1",
    "TUPLE2", "TUPLE3", "APPEND", "APPENDS", "SETITEM", "SETITEMS", "REDUCE", "NEWOBJ", "BUILD", "BINPERSID",
}  # fmt: skip
_FIXED = {
    "PROTO": "<B", "BININT": "<i", "BININT1": "<B", "BININT2": "<H", "BINFLOAT": ">d", "BINPUT": "<B",
    "LONG_BINPUT": "<I", "BINGET": "<B", "LONG_BINGET": "<I",
}  # fmt: skip
_SIZED = {"BINUNICODE": "<I", "SHORT_BINSTRING": "<B", "LONG1": "<B"}
_USED = {*_PLAIN, *_FIXED, *_SIZED, "GLOBAL"}
_NAMES = {opcode.code.encode("latin1"): opcode.name for opcode in pickletools.opcodes}
_MAX_NAME = 256


def instructions(stream: BytesIO) -> Iterator[tuple[str, object, int]]:
    """Yield name, argument and position of each instruction up to STOP, behind which the stream is left.

    A global's argument is ``"module name"``, its two lines exactly as they stand.

    Raises:
        ClaimError: at an instruction of another kind, or where the pickle is cut off.
    """
    name, place = "", stream.tell()
    while name != "STOP":
        code = stream.read(1)
        name = _NAMES.get(code, repr(code))
        if name in _PLAIN:
            yield name, None, place
            place += 1
        elif name in _USED:
            yield name, _argument(name, stream, place), place
            place = stream.tell()
        elif code:
            raise ClaimError(f"an instruction that saving weights does not use, {_where(name, place)}")
        else:
            raise _cut_off(place)


def _argument(name: str, stream: BytesIO, place: int) -> object:
    if name in _FIXED:
        return _number(_FIXED[name], stream, place)
    if name == "GLOBAL":
        return f"{_line(stream, place)} {_line(stream, place)}"
    data = _exactly(stream, int(_number(_SIZED[name], stream, place)), place)
    if name == "LONG1":
        return int.from_bytes(data, "little", signed=True)
    try:
        return data.decode("utf-8", "surrogatepass") if name == "BINUNICODE" else data.decode("ascii")
    except UnicodeDecodeError:
        raise ClaimError(f"text that is no text, {_where(name, place)}") from None


def _number(layout: str, stream: BytesIO, place: int) -> float:
    value: float = struct.unpack(layout, _exactly(stream, struct.calcsize(layout), place))[0]
    return value


def _line(stream: BytesIO, place: int) -> str:
    line = stream.readline(_MAX_NAME)
    if not line.endswith(b"\n"):
        raise ClaimError(f"a name without an end, {_where('GLOBAL', place)}")
    try:
        return line[:-1].decode("ascii")
    except UnicodeDecodeError:
        raise ClaimError(f"a name in other letters, {_where('GLOBAL', place)}") from None


def _exactly(stream: BytesIO, count: int, place: int) -> bytes:
    data = stream.read(count)
    if len(data) != count:
        raise _cut_off(place)
    return data


def _cut_off(place: int) -> ClaimError:
    return ClaimError(f"a pickle that is cut off at byte {place}")


def _where(name: str, place: int) -> str:
    return f"in opcode {name} at byte {place} of its pickle"
