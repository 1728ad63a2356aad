"""The rows that are left when findings were dropped, as a list that ``prepare --corpus`` reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tts_train.disk.files import disk_errors, write_atomically
from tts_train.errors import ConfigError, DataError
from tts_train.findings.measure import Measured
from tts_train.findings.search import SearchResult


def require_above(path: Path, file: Path) -> None:
    """Refuse a list whose folder does not hold the corpus: paths that lead out of a list's folder are not read.

    Raises:
        ConfigError: with a place that can be used.
    """
    if not path.exists():
        return
    home = (path if path.is_dir() else path.parent).resolve()
    folder = file.expanduser().resolve().parent
    # Not beside the recordings, where it would be taken for another list of theirs.
    if folder not in home.parents or not folder.is_dir():
        place = home.parent / f"{home.name}-kept.jsonl"
        raise ConfigError(f"--kept {file} must lie in a folder that holds the corpus {home}. Give --kept {place}.")


def write_kept(found: SearchResult, file: Path) -> None:
    """Write one JSON object a kept row, with the path of its recording from the list's folder.

    Raises:
        DataError: if rows hold their sound inside of a table, where no path leads to it, or have none.
    """
    inside = next((origin for origin, audio in found.audio.items() if audio is None), None)
    if inside is not None:
        raise DataError(
            f"--kept cannot name the sound of {inside}, which lies inside of a table. Bring the corpus into a folder "
            "of clips first, with: tts-train corpus merge PATH --out DIR"
        )
    if tokens := found.without_sound():
        raise DataError(
            f"--kept cannot list {tokens} rows that hold token ids and no recording. Leave --kept out, or give the "
            "recordings alone."
        )
    folder = file.expanduser().resolve().parent
    lines = [json.dumps(_line(row, found, folder)) for row in found.kept()]
    with disk_errors(file, option="--kept"):
        write_atomically(file.expanduser(), "".join(f"{line}\n" for line in lines))


def _line(row: Measured, found: SearchResult, folder: Path) -> dict[str, Any]:
    start, end = found.stretches[row.origin]
    audio = found.audio[row.origin]
    assert audio is not None
    values = {
        "audio": audio.resolve().relative_to(folder).as_posix(),
        "text": row.text,
        "speaker": row.speaker,
        "language": row.language,
        "start": start,
        "end": end,
    }
    return {name: value for name, value in values.items() if value is not None}
