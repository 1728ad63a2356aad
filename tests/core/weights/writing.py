"""Build torch files byte by byte, so that they can say what no honest writer would say."""

from __future__ import annotations

import pickle
import struct
import zipfile
from io import BytesIO
from typing import Any

STOP = b"."
PROTO = b"\x80\x02"


def name(module: str, attribute: str) -> bytes:
    return f"c{module}\n{attribute}\n".encode()


def text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def number(value: int) -> bytes:
    if 0 <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    data = value.to_bytes((value.bit_length() + 8) // 8, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def tuple_of(*parts: bytes) -> bytes:
    return b"(" + b"".join(parts) + b"t"


def storage(numel: int, key: str = "0", kind: str = "FloatStorage", legacy: bool = False, device: str = "cpu") -> bytes:
    parts = [text("storage"), name("torch", kind), text(key), text(device), number(numel)]
    return tuple_of(*parts, *([b"N"] if legacy else [])) + b"Q"


def tensor(numel: int, shape: tuple[int, ...], stride: tuple[int, ...], offset: int = 0, **options: Any) -> bytes:
    hooks = name("collections", "OrderedDict") + b")R"
    numbers = [number(offset), tuple_of(*map(number, shape)), tuple_of(*map(number, stride)), b"\x89", hooks]
    return name("torch._utils", "_rebuild_tensor_v2") + tuple_of(storage(numel, **options), *numbers) + b"R"


def dict_of(**values: bytes) -> bytes:
    return b"}(" + b"".join(text(key) + value for key, value in values.items()) + b"u"


def run(module: str, attribute: str, argument: str) -> bytes:
    """A call with one text, as REDUCE."""
    return name(module, attribute) + tuple_of(text(argument)) + b"R"


def archive(program: bytes, data: dict[str, bytes] | None = None, **options: Any) -> bytes:
    """A torch archive around a pickle program; ``data`` is by storage key."""
    members = {"archive/data.pkl": PROTO + program + STOP, "archive/version": b"3\n"}
    members.update({f"archive/data/{key}": value for key, value in (data or {}).items()})
    return zipped(members, **options)


def zipped(members: dict[str, bytes], *, compression: int = zipfile.ZIP_STORED, mode: int = 0) -> bytes:
    stream = BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as file:
        for member, content in members.items():
            info = zipfile.ZipInfo(member)
            info.external_attr = mode << 16
            info.compress_type = compression
            file.writestr(info, content)
    return stream.getvalue()


def legacy(program: bytes, keys: list[object] | None = None, tail: bytes = b"") -> bytes:
    """The older layout around a pickle program."""
    parts = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}]
    start = b"".join(pickle.dumps(part, protocol=2) for part in parts)
    return start + PROTO + program + STOP + pickle.dumps(keys or [], protocol=2) + tail
