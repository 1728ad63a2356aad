"""Files that try to run code, to fill the memory, to take for ever or to reach other files; each with its name."""

from __future__ import annotations

import io
import json
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from tests.core.weights.writing import (
    PROTO,
    STOP,
    archive,
    dict_of,
    legacy,
    name,
    number,
    run,
    storage,
    tensor,
    text,
    tuple_of,
    zipped,
)

HARMLESS = "class-path.pth"
"""A config that names a class, in a pickled object that becomes a dict: it is read, and nothing comes of the name."""

GOOD = dict_of(weight=tensor(4, (2, 2), (2, 1)))
DATA = {"0": bytes(16)}


def write_corpus(folder: Path, marker: Path) -> None:
    """Write every hostile file; code of theirs that runs would leave ``marker``."""
    folder.mkdir(parents=True, exist_ok=True)
    config = name("evilmod", "Config") + b")\x81" + dict_of(class_path=text("evilmod.X")) + b"b"
    (folder / HARMLESS).write_bytes(archive(config))
    for kind in (_code, _numbers, _archives, _older, _tensors_elsewhere):
        for file, content in kind(f"touch {marker}"):
            (folder / file).write_bytes(content)


def payload(command: str) -> bytes:
    """A pickle that runs a command as soon as anybody unpickles it."""
    return PROTO + run("os", "system", command) + STOP


def _code(command: str) -> Iterator[tuple[str, bytes]]:
    system = run("posix", "system", command)
    yield "reduce.pth", archive(dict_of(weight=system))
    yield "header-05.pth", b"05" + archive(dict_of(weight=system))[2:]
    yield "header-06.pth", b"06" + archive(dict_of(weight=system))[2:]
    yield "subprocess.pth", archive(run("subprocess", "getoutput", command))
    yield "eval.pth", archive(run("builtins", "eval", f"__import__('os').system({command!r})"))
    yield "python2-eval.pth", archive(run("__builtin__", "eval", f"__import__('os').system({command!r})"))
    yield "getattr.pth", archive(name("builtins", "getattr") + tuple_of(name("os", "path"), text("os")) + b"R")
    yield "import.pth", archive(run("importlib", "import_module", "evilmod"))
    yield "runpy.pth", archive(run("runpy", "run_path", "evil.py"))
    yield "hub.pth", archive(run("torch.hub", "load_state_dict_from_url", "http://127.0.0.1:9/x"))
    yield "torch-load.pth", archive(run("torch", "load", "other.pth"))
    yield "library.pth", archive(run("torch.ops", "load_library", "evil.so"))
    yield "stack-global.pth", archive(text("os") + text("system") + b"\x93" + tuple_of(text(command)) + b"R")
    yield "inst.pth", archive(b"(" + text(command) + b"ios\nsystem\n")
    yield "obj.pth", archive(b"(" + name("os", "system") + text(command) + b"o")
    yield "extension.pth", archive(b"\x82\x01")
    yield "newobj.pth", archive(name("subprocess", "Popen") + tuple_of(text(command)) + b"\x81")
    yield "nested.pth", archive(dict_of(a=dict_of(b=b"]" + tuple_of(dict_of(c=system)) + b"a")))
    yield "optimizer.pth", archive(dict_of(weight=tensor(4, (4,), (1,)), optimizer=dict_of(state=system)), DATA)
    yield "argument.pth", archive(name("collections", "OrderedDict") + tuple_of(b"](" + system + b"e") + b"R")
    yield "build.pth", archive(dict_of(a=name("os", "environ") + b"}" + text("a") + text("b") + b"sb"))
    yield "setattr.pth", archive(name("collections", "OrderedDict") + b")R}" + text("items") + text("x") + b"sb")
    yield "memoised.pth", archive(name("os", "system") + b"q\x010h\x01" + tuple_of(text(command)) + b"R")
    yield (
        "hooks.pth",
        archive(
            name("torch._utils", "_rebuild_tensor_v2")
            + tuple_of(storage(1), number(0), b")", b")", b"\x89", dict_of(a=system))
            + b"R"
        ),
    )
    yield "persistent-module.pth", archive(tuple_of(text("module"), name("evilmod", "X"), text("a"), text("b")) + b"Q")
    yield (
        "numpy-array.pth",
        archive(name("numpy.core.multiarray", "_reconstruct") + tuple_of(name("numpy", "ndarray")) + b"R"),
    )
    yield "escaped.pth", archive(name("collections", "Ordered\\x44ict") + b")R")
    yield "dotted.pth", archive(run("torch._utils", "_rebuild_tensor_v2.__globals__", "x"))
    yield "spaced.pth", archive(run("collections OrderedDict", "", "x"))
    yield "sparse.pth", archive(run("torch._utils", "_rebuild_sparse_tensor", "x"))
    yield "bare.pth", payload(command)
    yield "bytearray.pth", archive(name("builtins", "bytearray") + tuple_of(number(10**12)) + b"R")
    yield "tensor-class.pth", archive(name("torch", "Tensor") + tuple_of(number(10**12)) + b"R")
    yield "rebuild-type.pth", archive(name("torch._tensor", "_rebuild_from_type_v2") + tuple_of(system) + b"R")
    yield "object-called.pth", archive(name("evilmod", "Config") + tuple_of(b"}" + text("a") + b"Ns") + b"R")
    yield "script.pth", zipped({"m/data.pkl": PROTO + GOOD + STOP, "m/constants.pkl": b"N.", "m/code/a.py": b"1"})


def _numbers(_command: str) -> Iterator[tuple[str, bytes]]:
    huge = 10**12
    yield "huge-storage.pth", archive(dict_of(a=tensor(huge, (huge,), (1,))), DATA)
    yield "huge-view.pth", archive(dict_of(a=tensor(4, (huge,), (0,))), DATA)
    yield "huge-shape.pth", archive(dict_of(a=tensor(4, (10**6, 10**6), (10**6, 1))), DATA)
    yield "negative-offset.pth", archive(dict_of(a=tensor(4, (2,), (1,), offset=-2)), DATA)
    yield "offset-beyond.pth", archive(dict_of(a=tensor(4, (2,), (1,), offset=3)), DATA)
    yield "negative-stride.pth", archive(dict_of(a=tensor(4, (2,), (-1,), offset=1)), DATA)
    yield "two-types.pth", archive(dict_of(a=tensor(4, (4,), (1,)), b=tensor(8, (8,), (1,), kind="HalfStorage")), DATA)
    yield "no-data.pth", archive(GOOD)
    yield "odd-key.pth", archive(dict_of(a=tensor(4, (4,), (1,), key="../../etc/passwd")), DATA)
    yield "odd-device.pth", archive(dict_of(a=tensor(4, (4,), (1,), device="meta")), DATA)
    doubling = b"](Nq\x00" + b"".join(b"h%ch%c\x86q%c" % (i, i, i + 1) for i in range(60)) + b"e"
    yield "laughs.pth", archive(doubling)
    yield "tuple-key.pth", archive(b"}(" + text("a") + doubling + b"h\x3cNu")
    yield "tuple-as-a-numpy-type.pth", archive(b"](" + doubling + name("numpy", "dtype") + b"(h\x3c\x89\x88tRe")
    yield "itself.pth", archive(b"]q\x01h\x01a")
    yield "deep.pth", archive(b"](" * 50_000 + b"e" * 50_000)
    long = b"](" + text("a" * 100_000) + b"q\x01"
    repeat = name("_codecs", "encode") + b"h\x01" + text("latin1") + b"\x86R"
    yield "repeated-bytes.pth", archive(long + repeat * 5_000 + b"e")
    path = name("pathlib", "PosixPath") + b"(" + b"h\x01" * 100 + b"tR"
    yield "repeated-path.pth", archive(long + path * 5_000 + b"e")
    copied = name("collections", "OrderedDict") + b"h\x01\x85R"
    yield (
        "copied-dict.pth",
        archive(
            b"](](" + b"".join(text(f"k{i}") + b"N\x86" for i in range(20_000)) + b"eq\x01" + copied * 2_000 + b"e"
        ),
    )
    state = b"q\x02](" + (name("evilmod", "Config") + b")\x81h\x02b") * 2_000 + b"e"
    keys = b"}(" + b"".join(text(f"k{i}") + b"N" for i in range(20_000)) + b"u"
    yield "repeated-state-class-path.pth", archive(b"](" + keys + state + b"e")
    yield "colliding.pth", archive(b"}(" + b"".join(number(i * (2**61 - 1)) + b"N" for i in range(1, 50_000)) + b"u")
    yield "many-opcodes.pth", archive(b"](" + b"N" * 5_000_000 + b"e")
    yield "long-number.pth", archive(b"L" + b"9" * 5_000_000 + b"L\n")
    yield "no-stop.pth", zipped({"a/data.pkl": PROTO + GOOD})
    yield "underflow.pth", archive(b"R")
    yield "half-a-string.pth", zipped({"a/data.pkl": PROTO + b"X" + struct.pack("<I", 2**32 - 1) + b"abc"})


def _archives(command: str) -> Iterator[tuple[str, bytes]]:
    system = run("posix", "system", command)
    members = {"a/data.pkl": PROTO + GOOD + STOP, "a/data/0": bytes(16)}
    yield "bomb.pth", archive(GOOD, {"0": bytes(300_000_000)}, compression=zipfile.ZIP_DEFLATED)
    yield "compressed.pth", archive(GOOD, DATA, compression=zipfile.ZIP_DEFLATED)
    yield "parent-member.pth", zipped({**members, "a/../../evil.py": b"1"})
    yield "absolute-member.pth", zipped({**members, "/etc/evil": b"1"})
    yield "symlink-member.pth", zipped(members, mode=0o120777)
    yield "extra-pickle.pth", zipped({**members, "a/other.pkl": payload(command)})
    yield "two-folders.pth", zipped({**members, "b/data.pkl": PROTO + system + STOP})
    yield "twice.pth", _twice(PROTO + GOOD + STOP, PROTO + system + STOP)
    yield "prefixed.pth", b"PK\x03\x04" + bytes(60) + zipped(members)
    yield "comment.pth", _commented(zipped(members))
    yield "many-members.pth", _repeated_directory(zipped(members), 200_000)
    yield "overlapping.pth", _overlapping()
    yield "encrypted.pth", _flagged(zipped(members))
    yield "damaged-pickle.pth", archive(GOOD, DATA).replace(b"weight", b"Weight", 1)
    whole = archive(dict_of(weight=tensor(4, (2, 2), (2, 1)), info=text("x" * 500)), DATA)
    for part in range(20):
        yield f"cut-{part:02}.pth", whole[: len(whole) * part // 20]


def _older(command: str) -> Iterator[tuple[str, bytes]]:
    system = run("posix", "system", command)
    lie = tensor(10**12, (10**12,), (1,), legacy=True)
    good = dict_of(a=tensor(4, (4,), (1,), legacy=True))
    whole = legacy(good, ["0"], struct.pack("<q", 4) + bytes(16))
    yield "older.pth", legacy(dict_of(a=system))
    yield "older-late.pth", legacy(good, ["0"], b"") + payload(command)
    yield "older-huge.pth", legacy(dict_of(a=lie), ["0"], struct.pack("<q", 10**12))
    yield "older-lie.pth", legacy(good, ["0"], struct.pack("<q", 10**12) + bytes(16))
    yield "older-system.pth", pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2) + payload(command)
    yield "older-module.pth", legacy(tuple_of(text("module"), name("evilmod", "X"), text("a"), text("b")) + b"Q")
    nested: object = "a"
    for _ in range(60):
        nested = (nested, nested)
    yield "older-tuple-as-a-key.pth", legacy(good, [nested], struct.pack("<q", 4) + bytes(16))
    for part in range(1, 20, 3):
        yield f"older-cut-{part:02}.pth", whole[: len(whole) * part // 20]
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for member in ("storages", "tensors", "pickle"):
            info = tarfile.TarInfo(member)
            info.size = len(payload(command))
            tar.addfile(info, io.BytesIO(payload(command)))
    yield "tar.pth", stream.getvalue()


def _tensors_elsewhere(command: str) -> Iterator[tuple[str, bytes]]:
    def safe(header: object, data: bytes = b"", length: int | None = None) -> bytes:
        raw = header if isinstance(header, bytes) else json.dumps(header).encode()
        return struct.pack("<Q", len(raw) if length is None else length) + raw + data

    def entry(start: int, stop: int, shape: list[int], kind: str = "F32") -> dict[str, object]:
        return {"dtype": kind, "shape": shape, "data_offsets": [start, stop]}

    yield "pickle.safetensors", payload(command)
    yield "archive.safetensors", archive(run("posix", "system", command))
    yield "header-huge.safetensors", safe({}, length=2**63)
    yield "header-long.safetensors", safe({}, bytes(100), length=10**9)
    yield "header-deep.safetensors", safe(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}")
    yield "header-large.safetensors", safe(b'{"a":"' + b"a" * 9_000_000 + b'"}')
    yield "negative.safetensors", safe({"a": entry(-4, 0, [1])}, bytes(4))
    yield "overlap.safetensors", safe({"a": entry(0, 8, [2]), "b": entry(4, 12, [2])}, bytes(12))
    yield "gap.safetensors", safe({"a": entry(0, 4, [1]), "b": entry(8, 12, [1])}, bytes(12))
    yield "beyond.safetensors", safe({"a": entry(0, 400, [100])}, bytes(4))
    yield "elements.safetensors", safe({"a": entry(0, 4, [10**12])}, bytes(4))
    yield "overflow.safetensors", safe({"a": entry(0, 0, [2**32, 2**32])})
    yield "unknown-type.safetensors", safe({"a": entry(0, 4, [1], "OBJ")}, bytes(4))
    yield "same-name.safetensors", safe(b'{"a":%s,"a":%s}' % ((json.dumps(entry(0, 4, [1])).encode(),) * 2), bytes(4))
    yield "metadata.safetensors", safe({"__metadata__": {"a": {"class_path": "evilmod.X"}}})
    whole = safe({"a": entry(0, 40, [10])}, bytes(40))
    for part in range(0, 20, 4):
        yield f"cut-{part:02}.safetensors", whole[: len(whole) * part // 20]


def _twice(first: bytes, second: bytes) -> bytes:
    content = zipped({"a/data.pkl": first, "a/data.pkm": second, "a/data/0": bytes(16)})
    return content.replace(b"data.pkm", b"data.pkl")


def _commented(content: bytes) -> bytes:
    return content[:-2] + struct.pack("<H", 4) + b"evil"


def _repeated_directory(content: bytes, times: int) -> bytes:
    """The directory of an archive, many times over: small on the disk and slow to read."""
    start = content.index(b"PK\x01\x02")
    end = content.index(b"PK\x05\x06")
    directory = content[start:end] * (times // 2)
    tail = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, len(directory), start, 0)
    return content[:start] + directory + tail


def _overlapping() -> bytes:
    """Many members that share the same bytes and so claim far more than the file has."""
    content = zipped({"a/data.pkl": PROTO + GOOD + STOP, **{f"a/data/{i:04}": b"" for i in range(1000)}})
    shared = zipped({"a/data/9999": bytes(1_000_000)})
    start, end = content.index(b"PK\x01\x02"), content.index(b"PK\x05\x06")
    entries = content[start:end].split(b"PK\x01\x02")[1:]
    fat = shared[shared.index(b"PK\x01\x02") + 4 : shared.index(b"PK\x05\x06")]
    at = struct.pack("<L", start)
    made = [entries[0], *(fat[:38] + at + fat[42:].replace(b"9999", b"%04d" % i) for i in range(1000))]
    directory = b"".join(b"PK\x01\x02" + entry for entry in made)
    body = content[:start] + shared[: shared.index(b"PK\x01\x02")]
    tail = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, len(made), len(made), len(directory), len(body), 0)
    return body + directory + tail


def _flagged(content: bytes) -> bytes:
    start = content.index(b"PK\x01\x02")
    return content[: start + 8] + b"\x01" + content[start + 9 :]
