"""Writes a prepared set: Parquet shards named by what they were made from, and an index that is written last."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from tts_train.corpus import Utterance
from tts_train.corpus.own_output import FORMAT, INDEX_FILE, SHARD_META
from tts_train.corpus.rows.utterance import TokenRow
from tts_train.disk.files import disk_errors, hash_file, patiently, sync_directory, write_json
from tts_train.errors import TTSTrainError

BINS = 12
"""Most bars of the histogram."""


def describe_lengths(lengths: Sequence[int] | npt.NDArray[np.integer]) -> dict[str, Any]:
    """Return total, min, median, p95, max and ``histogram``: [from, below, rows] bars of one round width."""
    sizes = np.asarray(lengths, dtype=np.int64)
    if not len(sizes):
        return {"total": 0, "min": 0, "median": 0, "p95": 0, "max": 0, "histogram": []}
    return {
        "total": int(sizes.sum()),
        "min": int(sizes.min()),
        # lower: a length that a row has, and so a whole number.
        "median": int(np.quantile(sizes, 0.5, method="lower")),
        "p95": int(np.quantile(sizes, 0.95, method="lower")),
        "max": int(sizes.max()),
        "histogram": _bars(sizes),
    }


def _bars(sizes: npt.NDArray[np.int64]) -> list[list[int]]:
    width = _round_width(int(sizes.max()) + 1)
    counts = np.bincount(sizes // width)
    return [[i * width, (i + 1) * width, int(count)] for i, count in enumerate(counts)]


def _round_width(span: int) -> int:
    """Return the smallest of 1, 2, 5, 10, 20, 50, … with which ``span`` needs at most BINS bars."""
    width = 1
    while True:
        for factor in (1, 2, 5):
            if width * factor * BINS >= span:
                return width * factor
        width *= 10


def input_of(row: Utterance | TokenRow) -> Iterator[bytes | str]:
    """Yield everything about a row that its shard depends on, the content of its recording included."""
    yield row.id
    yield row.origin
    if isinstance(row, TokenRow):
        yield row.input_ids.astype("<i8").tobytes()
        # Padding that no mask named was kept before there were labels here: such rows are made again.
        yield "labels" if row.labels is None else row.labels.astype("<i8").tobytes()
        return
    # As repr, which keeps None apart from an empty text, and each field from the next.
    yield repr((row.text, row.speaker, row.language, row.start, row.end, row.warnings))
    yield _content(row.audio)
    # Only where there are some: shards of rows without are those of earlier versions.
    if row.instruct is not None:
        yield f"instruct {row.instruct}"
    if row.reference is not None:
        yield "reference"
        # A reference that cannot be used may lie outside of the corpus, where nothing is opened.
        yield "none" if "reference_missing" in row.warnings else _content(row.reference)
    if row.codes is not None:
        yield f"codes {row.codes.shape}"
        yield row.codes.astype("<i8").tobytes()


def printable(origin: str) -> str:
    """Return an origin as text: file names may hold bytes that are none, and a Parquet string cannot."""
    return origin.encode("utf-8", "backslashreplace").decode()


def _content(recording: Path | bytes) -> bytes | str:
    return recording if isinstance(recording, bytes) else _hash_of(recording)


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


VERSION = 1
DROPPED_FILE = "dropped.jsonl"
SHARD_FOLDER = "data"
"""With ``train-`` names in a ``data`` folder, Hugging Face ``datasets`` opens the shards and leaves the JSON files."""

_PREFIX, _SUFFIX, _TEMPORARY = "train-", ".parquet", ".tmp-"
_ROW_GROUP = 16
"""Rows that are read and decompressed together: a random row costs little more than its own bytes."""


@dataclass(frozen=True)
class Shard:
    """A finished shard."""

    file: str
    """Path in the prepared folder, ``/`` between."""
    rows: int
    size: int
    """Bytes."""
    hash: str
    """Of its rows, whatever the file's encoding: 32 hexadecimal digits."""
    account: Mapping[str, Any]
    """What became of the rows that went in, in plain types; kept in the file so that a continued run has it."""


class ShardStore:
    """The shards of one prepared folder; several processes may write into it at once.

    Args:
        folder: the prepared folder; made with the first shard if it is not there.
        schema: columns of a row.
        kind: what the rows are, for readers: ``"<backend>/<what>"``.
        length_column: an integer column, the length of a row in the unit that batches are bounded in.
    """

    def __init__(self, folder: Path, schema: pa.Schema, *, kind: str, length_column: str) -> None:
        self.folder = folder
        self.schema = schema
        self.kind = kind
        self.length_column = length_column

    def find(self, key: str) -> Shard | None:
        """Return the finished shard made from ``key``, or None; a damaged one counts as none."""
        path = self._path(key)
        try:
            return self._read(path, key) if path.exists() else None
        except (OSError, pa.ArrowException, ValueError, KeyError):
            return None

    def write(self, key: str, rows: Sequence[Mapping[str, Any]], *, account: Mapping[str, Any]) -> Shard:
        """Write a shard; it is there whole, under its name, or not at all."""
        table = self._table(rows)
        digest = table_hash(table)
        meta = {"key": key, "hash": digest, "account": account}
        table = table.replace_schema_metadata({SHARD_META: json.dumps(meta).encode()})
        path = self._path(key)
        # Two commands may make the same shard at once; the last rename wins, with the same bytes.
        temporary = path.with_name(f"{_TEMPORARY}{os.getpid()}-{path.name}")
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                # Checksums, since a flipped bit would be read as a value; small groups, since rows are read at random.
                pq.write_table(table, file, compression="zstd", row_group_size=_ROW_GROUP, write_page_checksum=True)
                file.flush()
                os.fsync(file.fileno())
            patiently(lambda: temporary.replace(path))
            sync_directory(path.parent)
        return Shard(self._name(path), table.num_rows, path.stat().st_size, digest, account)

    def finish(
        self,
        shards: Sequence[Shard],
        *,
        settings: Mapping[str, Any],
        report: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Write the index of exactly these shards, in this order, then remove every other shard; return the index."""
        index = {
            "format": FORMAT,
            "version": VERSION,
            "kind": self.kind,
            "hash": xxhash.xxh3_128_hexdigest("".join(shard.hash for shard in shards).encode()),
            "rows": sum(shard.rows for shard in shards),
            "columns": {field.name: str(field.type) for field in self.schema},
            "length_column": self.length_column,
            # Read from the files: the rows of a shard that is used again were never in this process.
            "lengths": describe_lengths(self._lengths(shards)),
            "settings": dict(settings),
            "report": dict(report),
            "shards": [{k: v for k, v in asdict(shard).items() if k != "account"} for shard in shards],
        }
        with disk_errors(self.folder):
            # Until here readers see the set as it was before, if there was one: no other file was changed.
            write_json(self.folder / INDEX_FILE, index)
        self._remove_others({shard.file for shard in shards})
        return index

    def _table(self, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
        columns = []
        for field in self.schema:
            values = [row.get(field.name) for row in rows]
            try:
                _refuse_fractions(values, field.type)
                columns.append(pa.array(values, type=field.type))
            except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
                told = str(error).splitlines()[0]
                raise TTSTrainError(
                    f"The column {field.name!r} of {self.kind} rows holds {field.type} by its schema, and got something"
                    f" else: {told}. Make what is written and the schema agree."
                ) from error
        return pa.Table.from_arrays(columns, schema=self.schema)

    def _read(self, path: Path, key: str) -> Shard:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            table = file.read()
        meta = json.loads((table.schema.metadata or {})[SHARD_META])
        if meta["key"] != key or meta["hash"] != table_hash(table) or table.schema.names != self.schema.names:
            raise ValueError(f"{path} does not hold what its name says")
        return Shard(self._name(path), table.num_rows, path.stat().st_size, meta["hash"], meta["account"])

    def _lengths(self, shards: Iterable[Shard]) -> np.ndarray[Any, np.dtype[np.int64]]:
        sizes = [np.empty(0, np.int64)]
        for shard in shards:
            with pq.ParquetFile(self.folder / shard.file, memory_map=True) as file:
                sizes.append(file.read(columns=[self.length_column]).column(0).to_numpy().astype(np.int64))
        return np.concatenate(sizes)

    def _remove_others(self, wanted: set[str]) -> None:
        for path in (self.folder / SHARD_FOLDER).glob("*"):
            ours = path.name.startswith((_PREFIX, _TEMPORARY)) and path.name.endswith(_SUFFIX)
            if ours and self._name(path) not in wanted:
                with suppress(FileNotFoundError, PermissionError):  # Windows keeps what a run reads; no index names it
                    path.unlink()

    def _path(self, key: str) -> Path:
        return self.folder / SHARD_FOLDER / f"{_PREFIX}{key}{_SUFFIX}"

    def _name(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()


def _refuse_fractions(values: Sequence[Any], kind: pa.DataType) -> None:
    """Refuse arrays of fractions where whole numbers are wanted: Arrow would cut them off without a word."""
    if pa.types.is_list(kind) and pa.types.is_integer(kind.value_type):
        for value in values:
            if isinstance(value, np.ndarray) and value.size and np.issubdtype(value.dtype, np.floating):
                raise TypeError(f"an array of {value.dtype}")


def input_key(settings: Mapping[str, Any], parts: Iterable[bytes | str]) -> str:
    """Return 32 hexadecimal digits that change when a setting or any part of the input does."""
    # Sorted: the same settings in another order make the same rows.
    try:
        digest = xxhash.xxh3_128(json.dumps(settings, sort_keys=True).encode())
    except TypeError as error:
        raise TTSTrainError(
            f"What shards are found again by is no plain data: {error}. Let fingerprint() return str, int, float, "
            "bool, lists and dicts of them."
        ) from error
    for part in parts:
        raw = part if isinstance(part, bytes) else part.encode("utf-8", "surrogatepass")
        # Lengths between: "ab", "c" must not have the key of "a", "bc".
        digest.update(len(raw).to_bytes(8, "little"))
        digest.update(raw)
    return digest.hexdigest()


def table_hash(table: pa.Table) -> str:
    """Return a hash of a table's values and column names, whatever their chunks and encoding."""
    digest = xxhash.xxh3_128()
    for name, column in zip(table.column_names, table.columns, strict=True):
        digest.update(json.dumps([name, len(column)]).encode())
        for part in _canonical(column.combine_chunks()):
            digest.update(part)
    return digest.hexdigest()


def _canonical(column: pa.Array) -> Iterator[bytes]:
    if isinstance(column, pa.ChunkedArray):  # an empty column has no chunk to combine
        column = pa.array([], column.type) if not column.num_chunks else column.chunk(0)
    if pa.types.is_list(column.type):
        lengths = column.value_lengths().fill_null(-1)  # a missing list is not an empty one
        yield np.asarray(lengths, dtype=np.int64).tobytes()
        column = column.flatten()
    # numpy would make floats of integers with gaps, in which large ones lose digits.
    if column.null_count:
        yield json.dumps(column.to_pylist()).encode()
    elif pa.types.is_integer(column.type):
        # One width and byte order, so that a set made on another machine has the same hash.
        yield np.ascontiguousarray(column.to_numpy(), dtype="<i8").tobytes()
    elif pa.types.is_floating(column.type):
        yield np.ascontiguousarray(column.to_numpy()).tobytes()
    else:
        yield json.dumps(column.to_pylist()).encode()
