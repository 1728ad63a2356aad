"""Data sets in Parquet files or saved as Arrow, with ``audio`` and ``text`` or already tokenised."""

from __future__ import annotations

import json
import re
from abc import abstractmethod
from collections.abc import Iterator
from logging import getLogger
from pathlib import Path
from typing import Any

import numpy as np

from tts_train.corpus.columns import match_columns
from tts_train.corpus.layouts.base import Layout, RawRow
from tts_train.corpus.layouts.jsonl import from_mapping
from tts_train.corpus.own_output import refuse_shard
from tts_train.corpus.utterance import Rejected, TokenRow, utterance_id
from tts_train.errors import DataError

_log = getLogger(__name__)
_SPLIT = re.compile(r"^(train|training|validation|valid|val|dev|test)\b")
_BATCH_ROWS = 64


class Columnar(Layout):
    """Rows by column name; audio as bytes or as a path."""

    replayable = False

    def __init__(self, path: Path, root: Path, files: list[Path]) -> None:
        super().__init__(path, root)
        self.files = files

    def raws(self) -> Iterator[RawRow | TokenRow | Rejected]:
        """Yield every row in order."""
        for file in self.files:
            number = 0
            for batch in self._batches(file):
                columns = require_columns(batch.schema.names, str(file))
                for row in batch.select(list(columns.values())).to_pylist():
                    number += 1
                    yield read_row(row, columns, f"{self.shown(file)}:{number}")

    @abstractmethod
    def _batches(self, file: Path) -> Iterator[Any]:
        """Yield the file's record batches."""


class Parquet(Columnar):
    """A Parquet file, or a folder with Parquet files in it or in ``data/``."""

    name = "parquet"
    summary = "Parquet files with audio and text columns, or with input_ids"

    @classmethod
    def detect(cls, path: Path) -> Parquet | None:
        """Return the layout if ``path`` has it."""
        if path.is_file():
            return cls(path, path.parent, [path]) if path.suffix == ".parquet" else None
        files = (
            sorted(path.glob("*.parquet")) or sorted(path.glob("data/*.parquet")) or sorted(path.glob("*/*.parquet"))
        )
        return cls(path, path, _training_split(files)) if files else None

    def _batches(self, file: Path) -> Iterator[Any]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            with pq.ParquetFile(file) as table:
                refuse_shard(file, table.schema_arrow.metadata)
                names = list(match_columns(table.schema_arrow.names).values())
                require_columns(names, str(file))
                yield from table.iter_batches(batch_size=_BATCH_ROWS, columns=names)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{file} cannot be read as Parquet: {error}. Download or copy it again.") from None


class Arrow(Columnar):
    """A folder that the ``datasets`` library saved (``save_to_disk``)."""

    name = "arrow"
    summary = "a folder written by save_to_disk of the datasets library"

    @classmethod
    def detect(cls, path: Path) -> Arrow | None:
        """Return the layout if ``path`` has it."""
        folder = path / "train" if (path / "dataset_dict.json").is_file() else path
        state = folder / "state.json"
        if not state.is_file():
            return None
        try:
            names = [entry["filename"] for entry in json.loads(state.read_text(encoding="utf-8"))["_data_files"]]
        except (ValueError, KeyError, TypeError, OSError):
            raise DataError(f"{state} does not list the data files. Save the data set again.") from None
        if any(Path(name).name != name for name in names):
            raise DataError(f"{state} names files outside of its folder; they are not read.")
        return cls(path, path, [folder / name for name in names])

    def _batches(self, file: Path) -> Iterator[Any]:
        import pyarrow as pa

        try:
            with pa.memory_map(str(file)) as source, pa.ipc.open_stream(source) as reader:
                for batch in reader:
                    yield from (batch.slice(at, _BATCH_ROWS) for at in range(0, batch.num_rows, _BATCH_ROWS))
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{file} cannot be read as Arrow: {error}. Save the data set again.") from None


def require_columns(names: list[str], where: str) -> dict[str, str]:
    """Return meaning -> column name.

    Raises:
        DataError: if there is neither audio with text nor ``input_ids``.
    """
    columns = match_columns(names)
    if "input_ids" in columns or ("audio" in columns and {"text", "normalised"} & set(columns)):
        return columns
    raise DataError(f"{where} has the columns {', '.join(names) or 'none'}; it needs audio and text, or input_ids.")


def read_row(row: dict[str, Any], columns: dict[str, str], origin: str) -> RawRow | TokenRow | Rejected:
    """Make a raw row, or a token row where there are ``input_ids`` and no audio."""
    by_meaning = {meaning: row[name] for meaning, name in columns.items()}
    if "input_ids" in columns and columns.get("audio") != "audio":
        return _token_row(by_meaning, origin)
    return from_mapping(by_meaning, origin, None)


def _token_row(row: dict[str, Any], origin: str) -> TokenRow | Rejected:
    try:
        ids, labels = _whole_numbers(row["input_ids"]), row.get("labels")
        labels = None if labels is None else _whole_numbers(labels)
        mask = row.get("attention_mask")
        real = np.ones(len(ids), bool) if mask is None else _whole_numbers(mask) != 0
        ids, labels = ids[real], None if labels is None else labels[real]
    except (TypeError, ValueError, OverflowError, IndexError) as error:
        return Rejected(origin, "bad_tokens", str(error))
    if not len(ids) or ids.min() < 0:
        return Rejected(origin, "bad_tokens", "negative numbers" if len(ids) else "no tokens")
    return TokenRow(utterance_id(origin), ids, origin, labels)


def _whole_numbers(values: Any) -> np.ndarray[tuple[int], np.dtype[np.int64]]:  # noqa: ANN401 - whatever the column holds
    array = np.asarray(values)
    if array.ndim != 1 or (len(array) and not np.issubdtype(array.dtype, np.integer)):
        raise ValueError("not a list of whole numbers")
    return array.astype(np.int64)


def _training_split(files: list[Path]) -> list[Path]:
    """Test data that trains a model is lost as test data: where files are named by split, only train is read."""
    splits = {file: _SPLIT.match(file.name) or _SPLIT.match(file.parent.name) for file in files}
    train = [file for file, split in splits.items() if split and split[1].startswith("train")]
    others = [file for file, split in splits.items() if split and not split[1].startswith("train")]
    if train and others:
        _log.warning("Reading %d files of the train split; not reading %s", len(train), ", ".join(map(str, others)))
        return [file for file in files if file not in others]
    return files
