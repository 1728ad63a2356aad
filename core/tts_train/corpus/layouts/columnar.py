"""Data sets in Parquet files or saved as Arrow, with ``audio`` and ``text`` or already tokenised."""

from __future__ import annotations

import json
import re
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from logging import getLogger
from pathlib import Path
from typing import Any

import numpy as np

from tts_train.corpus.columns import match_columns
from tts_train.corpus.layouts.base import Layout, RawRow
from tts_train.corpus.layouts.jsonl import from_mapping
from tts_train.corpus.own_output import refuse_shard
from tts_train.corpus.token_lists import MEANINGS, NO_LABEL, TokenLists, of_one_row, read_token_lists
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
                origins = [f"{self.shown(file)}:{number + place}" for place in range(1, batch.num_rows + 1)]
                number += batch.num_rows
                if is_tokenised(columns):
                    lists = {meaning: batch.column(columns[meaning]) for meaning in MEANINGS if meaning in columns}
                    yield from token_rows(read_token_lists(lists), origins)
                    continue
                for row, origin in zip(batch.select(list(columns.values())).to_pylist(), origins, strict=True):
                    yield read_row(row, columns, origin)

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


def is_tokenised(columns: Mapping[str, str]) -> bool:
    """Tell whether rows with these columns, by meaning, are read as ids: there are ``input_ids`` and no sound."""
    return "input_ids" in columns and columns.get("audio") != "audio"


def read_row(row: dict[str, Any], columns: dict[str, str], origin: str) -> RawRow | TokenRow | Rejected:
    """Make a raw row, or a token row where there are ``input_ids`` and no audio."""
    by_meaning = {meaning: row[name] for meaning, name in columns.items()}
    if is_tokenised(columns):
        return next(token_rows(of_one_row(by_meaning), [origin]))
    return from_mapping(by_meaning, origin, None)


def token_rows(lists: TokenLists, origins: Sequence[str]) -> Iterator[TokenRow | Rejected]:
    """Yield each row of ids, or why it cannot be used."""
    ends = np.cumsum(lists.sizes)
    for end, size, fault, origin in zip(ends.tolist(), lists.sizes.tolist(), lists.faults, origins, strict=True):
        ids = lists.ids[end - size : end]
        fault = fault or ("" if size else "no tokens") or ("negative numbers" if ids.min() < 0 else "")
        if fault:
            yield Rejected(origin, "bad_tokens", fault)
            continue
        learnt = None if lists.learnt is None else lists.learnt[end - size : end]
        labels = None if learnt is None else np.where(learnt, ids, NO_LABEL)
        yield TokenRow(utterance_id(origin), ids, origin, labels)


def _training_split(files: list[Path]) -> list[Path]:
    """Test data that trains a model is lost as test data: where files are named by split, only train is read."""
    splits = {file: _SPLIT.match(file.name) or _SPLIT.match(file.parent.name) for file in files}
    train = [file for file, split in splits.items() if split and split[1].startswith("train")]
    others = [file for file, split in splits.items() if split and not split[1].startswith("train")]
    if train and others:
        _log.warning("Reading %d files of the train split; not reading %s", len(train), ", ".join(map(str, others)))
        return [file for file in files if file not in others]
    return files
