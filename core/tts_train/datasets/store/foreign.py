"""Sets that have no index: which rows they have, what else lies there, and a hash by which a change is noticed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import xxhash
from numpy.typing import NDArray

from tts_train.corpus.layouts.columnar import Arrow, Parquet
from tts_train.corpus.own_output import INDEX_FILE, SHARD_META
from tts_train.corpus.rows.names import AUDIO_SUFFIXES
from tts_train.datasets.store.arrow_rows import ArrowRows
from tts_train.datasets.store.parquet_rows import ParquetRows
from tts_train.datasets.store.shard_store import SHARD_FOLDER
from tts_train.disk.files import hash_file
from tts_train.errors import DataError

WHOLE_BYTES = 1 << 30
"""Files together not larger than this are hashed whole, which takes a second; of larger ones the ends are."""
_END = 1 << 16


def hash_of_files(files: Sequence[Path]) -> str:
    """Return a hash of files: their names and what is in them, or their sizes and ends where they are large."""
    whole = sum(path.stat().st_size for path in files) <= WHOLE_BYTES
    digest = xxhash.xxh3_128()
    for path in files:
        digest.update(json.dumps([path.name, path.stat().st_size]).encode())
        if whole:
            digest.update(hash_file(path).encode())
            continue
        with path.open("rb") as file:  # the footer of Parquet: the sizes and extremes of all columns
            file.seek(-min(path.stat().st_size, _END), 2)
            digest.update(file.read())
    return str(digest.hexdigest())


def hash_of_arrays(rows: Iterable[NDArray[np.integer[Any]]]) -> str:
    """Return a hash of rows of numbers."""
    digest = xxhash.xxh3_128()
    for row in rows:
        # Lengths between: [1, 2] and [3] must not have the hash of [1] and [2, 3].
        digest.update(len(row).to_bytes(8, "little"))
        digest.update(np.ascontiguousarray(row, dtype="<i8").tobytes())
    return str(digest.hexdigest())


_DICT, _STATE = "dataset_dict.json", "state.json"
# Files that are looked through for a message; a folder may hold millions.
_LOOKED_AT = 10_000


def foreign_rows(path: Path, *, columns: Sequence[str] | None, prepare: str) -> ParquetRows:
    """Open Parquet files, or a folder that ``save_to_disk`` wrote; where sets are split, the rows of ``train``.

    Args:
        path: what the user named.
        columns: what a row returns; None is all.
        prepare: the command that makes a prepared set, without its last word, the folder.

    Raises:
        DataError: saying what is there instead, and what to type.
    """
    if path.name in ("", ".."):  # which name no folder beside
        path = path.resolve()
    if (path / _DICT).is_file() or (path / _STATE).is_file():
        return ArrowRows(_saved(path), columns=columns)
    return ParquetRows(_parquet_in(path, prepare), columns=columns)


def _saved(path: Path) -> list[Path]:
    splits = sorted(state.parent.name for state in path.glob(f"*/{_STATE}"))
    if (path / _DICT).is_file() and "train" not in splits:
        named = ", ".join(splits) or "none"
        advice = f"Give one of them: {path / splits[0]}." if splits else "Save the data set again."
        raise DataError(f"{path} was written by save_to_disk and has no split 'train'; it has: {named}. {advice}")
    found = Arrow.detect(path)
    if found is None or not found.files:
        raise DataError(f"{path} was written by save_to_disk and lists no data files. Save the data set again.")
    return found.files


def _parquet_in(path: Path, prepare: str) -> list[Path]:
    if not path.exists():
        raise DataError(f"There is nothing at {path}. Prepare recordings first: {prepare} {path}")
    found = Parquet.detect(path)
    files = found.files if found else []
    if not files and path.is_dir():
        files = sorted(file for file in path.rglob("*.parquet") if not _is_hidden(file.relative_to(path)))
    if not files:
        raise DataError(_what_is_there(path, prepare))
    if _is_shard(files[0]) and (path.parent / INDEX_FILE).is_file():
        raise DataError(f"{path} is a part of the prepared folder {path.parent}. Give that: --data.path {path.parent}")
    if path.is_dir() and _is_shard(files[0]):
        raise DataError(f"{path} was not finished. Run this (it continues what was begun): {prepare} {path}")
    return files


def _what_is_there(path: Path, prepare: str) -> str:
    beside = f"{path.with_name(f'{path.stem}-prepared')}"
    needs = f"Give the folder that this writes: {prepare} {beside}"
    if path.is_file():
        return f"{path} is a file, and no prepared set is one (Parquet files with the right columns are). {needs}"
    from tts_train.run.directory import RunDirectory  # with what trains, which reading rows does without

    if RunDirectory(path).checkpoints.is_dir() or (path / "MANIFEST.json").is_file():
        return (
            f"{path} is a run directory or a checkpoint; it holds no prepared set. Give the data that it was trained "
            f"on, --data.path of its config.yaml. To train on from it, see --model.init_from. {needs}"
        )
    if (path / SHARD_FOLDER).is_dir() and not any((path / SHARD_FOLDER).iterdir()):
        return f"{path} was not finished. Run this (it continues what was begun): {prepare} {path}"
    names = [file.name for _, file in zip(range(_LOOKED_AT), path.rglob("*"), strict=False) if file.is_file()]
    sounds = [name for name in names if Path(name).suffix.lower() in AUDIO_SUFFIXES]
    if sounds:
        # The recordings are these, so the command can name them in place of the word RECORDINGS.
        return f"{path} holds recordings ({sounds[0]}, for one) and no prepared set. {needs}".replace(
            "RECORDINGS", str(path)
        )
    what = f"holds no prepared set (but {names[0]}, for one)" if names else "is empty; it holds no prepared set"
    return f"{path} {what}. Prepare recordings first: {prepare} {path}"


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _is_shard(file: Path) -> bool:
    """Shards of ours without an index are those of a run that was stopped: rows are missing."""
    try:
        return SHARD_META in (pq.read_schema(file).metadata or {})
    except (OSError, ValueError):  # what is damaged is named when it is opened; ArrowInvalid is a ValueError
        return False
