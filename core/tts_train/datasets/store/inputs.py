"""What a shard is made from: everything about a row that its address must depend on."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from tts_train.corpus import TokenRow, Utterance
from tts_train.disk.files import hash_file


def input_of(row: Utterance | TokenRow) -> Iterator[bytes | str]:
    """Yield everything about a row that its shard depends on, the content of its recording included."""
    yield row.id
    yield row.origin
    if isinstance(row, TokenRow):
        yield row.input_ids.astype("<i8").tobytes()
        # Padding that no mask named was kept before there were labels here: such rows are made again.
        yield "labels" if row.labels is None else row.labels.astype("<i8").tobytes()
        return
    yield repr((row.text, row.speaker, row.language, row.start, row.end, row.warnings))
    yield row.audio if isinstance(row.audio, bytes) else _hash_of(row.audio)


def printable(origin: str) -> str:
    """Return an origin as text: file names may hold bytes that are none, and a Parquet string cannot."""
    return origin.encode("utf-8", "backslashreplace").decode()


def _hash_of(path: Path) -> str:
    try:
        about = path.stat()
        return _hash_once(path, about.st_size, about.st_mtime_ns)
    except OSError as error:
        return f"unreadable: {error.errno}"


@lru_cache(maxsize=256)
def _hash_once(path: Path, size: int, changed: int) -> str:
    """Hash a file once for all of its stretches; size and time only spare the repetition within one run."""
    del size, changed
    return hash_file(path)
