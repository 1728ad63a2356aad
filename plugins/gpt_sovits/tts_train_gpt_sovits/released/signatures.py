"""How a SoVITS file says which version it is: its first bytes, their hash, and its size."""

from __future__ import annotations

import hashlib
from pathlib import Path

ARCHIVE = b"PK"
"""First two bytes of an ordinary file, and what belongs where a version's mark stands."""
MARKS = {
    b"00": ("v1", False),
    b"01": ("v2", False),
    b"02": ("v3", False),
    b"03": ("v3", True),
    b"04": ("v4", True),
    b"05": ("v2Pro", False),
    b"06": ("v2ProPlus", False),
}
"""What a mark in place of the first two bytes says: the version, and whether it is a LoRA."""
BASES = {
    "dc3c97e17592963677a4a1681f30c653": "v2",  # s2G488k; its phoneme table then says v1
    "43797be674a37c1c83ee81081941ed0f": "v3",
    "6642b37f3dbb1f76882b69937c95a5f3": "v2",
    "4f26b9476d0c5033e04162c486074374": "v4",
    "c7e9fce2223f3db685cdfa1e6368728a": "v2Pro",
    "66b313e39455b57ab1b0bc0b239c9d0a": "v2ProPlus",
}
"""MD5 of the first 8192 bytes of the released generators."""

_ARCHIVE_GOES_ON = b"\x03\x04"
_HASHED = 8192
_V1_BELOW = 82978 * 1024
_V2_BELOW = 700 * 1024 * 1024


def first_bytes(path: Path) -> bytes:
    """Return the bytes that the released files are told by."""
    with path.open("rb") as file:
        return file.read(_HASHED)


def head_of(first: bytes) -> bytes:
    """Return what belongs in place of the first bytes of a file: nothing new, unless a version's mark stands there."""
    return ARCHIVE if first[:2] in MARKS else b""


def unknown_mark(first: bytes) -> str | None:
    """Return what stands in place of an archive's first two bytes where that is no mark of a released version."""
    marked = first[:2] != ARCHIVE and first[2:4] == _ARCHIVE_GOES_ON
    return first[:2].decode("ascii", "backslashreplace") if marked and first[:2] not in MARKS else None


def version_by_bytes(first: bytes, size: int) -> tuple[str, str]:
    """Return the version that upstream takes a file for before opening it, and what told it.

    The order is upstream's: ``base`` (a released file, by hash), ``mark``, then ``size``.
    """
    digest = hashlib.md5(first, usedforsecurity=False).hexdigest()
    if digest in BASES:
        return BASES[digest], "base"
    if first[:2] in MARKS:
        return MARKS[first[:2]][0], "mark"
    return ("v1" if size < _V1_BELOW else "v2" if size < _V2_BELOW else "v3"), "size"


def mark_for(version: str, *, lora: bool) -> bytes:
    """Return the first two bytes that upstream expects of an inference file."""
    wanted = {value: mark for mark, value in MARKS.items()}
    # Upstream writes v1, v2 and whole v3 files without a mark, and older readers know no other.
    if not lora and version in ("v1", "v2", "v3"):
        return ARCHIVE
    return wanted[version, lora]
