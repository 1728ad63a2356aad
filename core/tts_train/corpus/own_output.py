"""Knows by its marks what ``prepare`` wrote, so that it is not read as recordings again; and a corpus folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from tts_train.errors import DataError

FORMAT = "tts-train prepared set"
INDEX_FILE = "dataset.json"
CURATED = ("corpus.jsonl", "ledger.json")
"""Files of a corpus folder, as :mod:`tts_train.curation.folder` names them."""
SHARD_META = b"tts_train"
"""Key of a shard's own entry among the metadata of its Parquet schema."""


def is_finished(path: Path) -> bool:
    """Tell whether ``path`` is a folder that has the index of a prepared set; :func:`refuse_prepared` reads it."""
    return (path / INDEX_FILE).is_file()


def corpus_folder(path: Path) -> Path | None:
    """Return the folder if a path is one that the verbs of ``tts-train corpus`` work on, or its table; else None."""
    folder = path.parent if path.name == CURATED[0] else path
    # By the ledger beside it: a corpus.jsonl alone may be anybody's.
    return folder if all((folder / name).is_file() for name in CURATED) else None


def refuse_prepared(path: Path) -> None:
    """Refuse a folder that ``prepare`` finished.

    Raises:
        DataError: with what the folder is for.
    """
    try:
        index = json.loads((path / INDEX_FILE).read_text(encoding="utf-8"))
    # Whatever else lies under this name is the user's.
    except (OSError, ValueError):
        return
    # By what stands in it: a corpus may have a dataset.json of its own.
    if isinstance(index, dict) and index.get("format") == FORMAT:
        raise DataError(
            f"{path} is a folder that prepare wrote, not recordings with text. Train on it with --data.path {path}, or "
            "name the recordings that it was made from. If they lie in the same folder, move "
            f"{INDEX_FILE}, dropped.jsonl and data/ into another one first."
        )


def refuse_shard(file: Path, metadata: Mapping[bytes, bytes] | None) -> None:
    """Refuse a Parquet file that is a part of what ``prepare`` wrote, or was writing when it was stopped.

    Args:
        file: the file, for the message.
        metadata: that of its schema.

    Raises:
        DataError: with what to name instead.
    """
    if SHARD_META in (metadata or {}):
        raise DataError(
            f"{file} is a part of a folder that prepare wrote, not a corpus. Train on that folder with --data.path, or "
            "name the recordings that it was made from."
        )
