"""Names of recordings in the ledger, and what the names of their clips begin with on every system."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from unicodedata import normalize

import xxhash

from tts_train.corpus.rows.names import fold, printable_name, recordings_in
from tts_train.errors import DataError

# What Windows allows in no name, blanks, and dots, behind which a suffix would be looked for.
_UNSAFE = re.compile(r'[<>:"/\\|?*\x00-\x1f\s.]+')
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)", re.IGNORECASE)
# File systems take 255 bytes; the time, the suffix and the name of a file that is being written come on top.
_MOST_BYTES = 120


def named_recordings(source: Path) -> dict[str, Path]:
    """Return the recordings by their path below the folder, ``/`` between.

    Raises:
        DataError: if there is none, or two have one name.
    """
    if not source.exists():
        raise DataError(f"There is no {source}. Give a recording, or a folder of recordings.")
    if source.is_file():
        return {_name(source.name): source}
    found: dict[str, Path] = {}
    for path in recordings_in(source):
        other = found.setdefault(_name(path.relative_to(source).as_posix()), path)
        # An accent may be a letter's own or a sign behind it: on Linux these are two files, elsewhere one.
        if other is not path:
            raise DataError(f"{other} and {path} have the same name in another spelling. Rename one of them.")
    return found


def _name(path: str) -> str:
    # NFC: macOS gives names taken apart, and a ledger that was moved would not know them again.
    return normalize("NFC", printable_name(path))


def stems(names: Iterable[str], known: Mapping[str, str]) -> dict[str, str]:
    """Return what each recording's clips are called, before the time; no two are alike in any letter case.

    Args:
        names: of the recordings, as the ledger has them.
        known: those that have clips keep theirs, so that a new recording renames none.
    """
    found = {name: known[name] for name in names if name in known}
    taken = {fold(stem) for stem in known.values()}
    for name in names:
        if name in found:
            continue
        stem = safe_stem(name)
        if fold(stem) in taken:
            stem = f"{stem}_{xxhash.xxh3_64_hexdigest(name.encode())[:6]}"
        taken.add(fold(stem))
        found[name] = stem
    return found


def safe_stem(name: str) -> str:
    """Return the last part of a path, without its suffix, as a name that every system takes."""
    stem = _UNSAFE.sub("_", Path(name).stem).strip("_") or "recording"
    stem = f"{stem}_" if _DEVICES.fullmatch(stem) else stem
    return stem.encode()[:_MOST_BYTES].decode(errors="ignore")
