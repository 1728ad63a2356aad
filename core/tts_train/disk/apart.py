"""Refuses outputs: those that would be read again as input, and names that Windows does not allow."""

from __future__ import annotations

import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from tts_train.errors import ConfigError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


_DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(1, 10))}
_SIGNS = '<>:"|?*'


def require_allowed(path: Path, *, option: str = "--out") -> None:
    """Refuse a path that this system cannot write to under its name; only Windows has such names.

    Args:
        path: where something is to be written.
        option: the option that named it.

    Raises:
        ConfigError: naming the part that is not allowed, and what is.
    """
    if sys.platform != "win32":
        return
    for part in path.parts[1 if path.anchor else 0 :]:
        # It ends in dots, which are refused below, and means the folder above.
        if part == "..":
            continue
        # With any ending, too: under Windows ``nul.txt`` and ``nul .txt`` are the device (see CPython's
        # PureWindowsPath.is_reserved).
        if part.split(".")[0].strip().lower() in _DEVICES or part != part.rstrip(" .") or set(part) & set(_SIGNS):
            raise ConfigError(
                f"{option} {path}: {part!r} is no name for a file under Windows, which keeps {' '.join(_SIGNS)}, a dot "
                f"or blank at the end, and names such as CON and NUL. Choose another {option}."
            )


def require_apart(source: Path | str, out: Path, *, given: str, option: str = "--out") -> None:
    """Refuse an output that is what is read, lies in it or holds it, however the two paths are spelt.

    Args:
        source: what is read; a name that is no path here, such as that of a hub data set, is not looked at.
        out: where something is to be written; it need not exist.
        given: the option that named ``source``.
        option: the option that named ``out``.

    Raises:
        ConfigError: with both paths and a place that can be used.
    """
    read = Path(source)
    if not read.exists():
        return
    place, real = out.expanduser().resolve(), read.resolve()
    if _is_same(place, real):
        how = "is"
    elif _holds(real, place):
        how = "lies in"
    elif _holds(place, real):
        how = "holds"
    else:
        return
    outer = place if how == "holds" else real if real.is_dir() else real.parent
    beside = outer.parent / f"{outer.name}-{place.name if how == 'lies in' else 'out'}"
    raise ConfigError(
        f"{option} {out} {how} {given} {source}: what is written there would be read again as the input. "
        f"Choose a place outside of it, for example {option} {beside}"
    )


def require_not_read(job: DataclassInstance, out: Path) -> None:
    """Refuse to write over what a job reads.

    Args:
        job: its fields are its options; those that are a path, or a name that is a file, are read.
        out: where something is to be written.

    Raises:
        ConfigError: naming the option.
    """
    for field in fields(job):
        value = getattr(job, field.name)
        # A text is no path, and may be too long for one; a word such as ``v2`` may also be the name of a folder.
        if field.name in ("out", "text") or not isinstance(value, (Path, str)) or not str(value):
            continue
        path = Path(value)
        if (path.exists() if isinstance(value, Path) else path.is_file()) and _is_same(out.resolve(), path.resolve()):
            given = "the source" if field.name == "source" else f"--{field.name}"
            raise ConfigError(f"--out {out} is {given} {value}, which is read. Choose another --out.")


def _holds(outer: Path, inner: Path) -> bool:
    return any(_is_same(outer, parent) for parent in inner.parents)


def _is_same(one: Path, other: Path) -> bool:
    """Also where letter case, mounts or hard links give one thing two names."""
    try:
        return one == other or (one.exists() and other.exists() and one.samefile(other))
    except OSError:
        return False
