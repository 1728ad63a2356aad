"""Single rows out of many Parquet files, read a row group at a time when they are asked for."""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tts_train.errors import DataError

CACHE_BYTES = 256 << 20
"""Decompressed row groups kept by each process."""
OPEN_FILES = 64
PREPARE_AGAIN = "Run the same tts-train prepare again (only what is damaged is redone), or copy the file again."


class ParquetRows:
    """Rows of Parquet files by index, in the order of the files; only what is asked for is read.

    Opening reads the footers alone. Copies in other processes (``DataLoader`` workers) open the files anew.

    Args:
        files: Parquet files.
        columns: what :meth:`row` returns, as far as the files have it; None is all.
        advice: what to do where a file is damaged.
    """

    advice = PREPARE_AGAIN

    def __init__(
        self, files: Sequence[Path], *, columns: Sequence[str] | None = None, advice: str = PREPARE_AGAIN
    ) -> None:
        self.files, self.advice = list(files), advice
        self.names = list(self._open(self.files[0]).schema_arrow.names) if self.files else []
        """Columns of the first file."""
        self.columns = [name for name in self.names if columns is None or name in columns]
        self.groups: list[tuple[int, int]] = []
        starts = [0]
        for number, path in enumerate(self.files):
            metadata = self._open(path).metadata
            for group in range(metadata.num_row_groups):
                self.groups.append((number, group))
                starts.append(starts[-1] + metadata.row_group(group).num_rows)
        self._starts = starts
        self._reset()

    def __len__(self) -> int:
        return self._starts[-1]

    def row(self, index: int) -> dict[str, Any]:
        """Return one row; lists of numbers come as numpy arrays.

        Raises:
            IndexError: if there is no such row.
            DataError: if the file is gone or damaged.
        """
        table, offset = self._at(index)
        return {name: _plain(column[offset]) for name, column in zip(table.column_names, table.columns, strict=True)}

    def record(self, index: int) -> pa.Table:
        """Return one row as a table; raises what :meth:`row` does."""
        table, offset = self._at(index)
        return table.slice(offset, 1)

    @property
    def types(self) -> dict[str, pa.DataType]:
        """The type of each column, as the first file has it."""
        schema = self._open(self.files[0]).schema_arrow
        return dict(zip(schema.names, schema.types, strict=True))

    @property
    def counts(self) -> list[int]:
        """Rows of each file."""
        rows = [0] * len(self.files)
        for (number, _), (start, end) in zip(self.groups, pairwise(self._starts), strict=True):
            rows[number] += end - start
        return rows

    def tables(self, names: Sequence[str]) -> Iterator[pa.Table]:
        """Yield some columns of each file, in memory."""
        return (self._read(path, list(names)) for path in self.files)

    def table(self, names: Sequence[str]) -> pa.Table:
        """Return some columns of all rows, in memory.

        Raises:
            DataError: if a file is gone or damaged, or the columns of two files differ.
        """
        tables = list(self.tables(names))
        try:
            return pa.concat_tables(tables)
        except pa.ArrowException as error:
            raise DataError(
                f"The columns of {self.files[0]} and the files beside it differ: {str(error).splitlines()[0]}. Write "
                "all files with the same types."
            ) from error

    def column(self, name: str) -> pa.ChunkedArray:
        """Return one column of all rows, in memory."""
        return self.table([name]).column(0)

    def list_lengths(self, name: str) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Return the length of each row's list in a column, reading a file at a time.

        Raises:
            DataError: if the column does not hold lists of numbers.
        """
        sizes = [np.empty(0, np.int64)]
        for path, table in zip(self.files, self.tables([name]), strict=True):
            for chunk in table.column(0).chunks:
                if not is_number_list(chunk.type):
                    raise DataError(f"The column {name!r} of {path} is not a list of numbers, but {chunk.type}.")
                lengths = pc.list_value_length(chunk).fill_null(0)
                sizes.append(lengths.to_numpy(zero_copy_only=False).astype(np.int64))
        return np.concatenate(sizes)

    def __getstate__(self) -> dict[str, Any]:
        # Workers open files of their own: handles cannot be sent, and two readers of one would move its position.
        kept = ("files", "advice", "names", "columns", "groups", "_starts")
        return {name: getattr(self, name) for name in kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset()

    def _reset(self) -> None:
        self._handles: OrderedDict[Path, pq.ParquetFile] = OrderedDict()
        self._tables: OrderedDict[int, pa.Table] = OrderedDict()
        self._cached = 0

    def _at(self, index: int) -> tuple[pa.Table, int]:
        """Return a row's group, and its place there."""
        if not 0 <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        place = bisect_right(self._starts, index) - 1
        return self._group(place), index - self._starts[place]

    def _group(self, place: int) -> pa.Table:
        if place in self._tables:
            self._tables.move_to_end(place)
            return self._tables[place]
        number, group = self.groups[place]
        path = self.files[number]
        try:
            # In one piece: taking a row of a table in many chunks searches them each time.
            table = self._handle(path).read_row_group(group, columns=self.columns).combine_chunks()
        except (OSError, pa.ArrowException) as error:
            raise damaged(path, error, self.advice) from error
        self._tables[place] = table
        self._cached += table.nbytes
        # By bytes, not by number: groups of sound are a hundred times as large as groups of tokens.
        # One stays, however large it is: it was just asked for.
        while self._cached > CACHE_BYTES and len(self._tables) > 1:
            self._cached -= self._tables.popitem(last=False)[1].nbytes
        return table

    def _handle(self, path: Path) -> pq.ParquetFile:
        if path in self._handles:
            self._handles.move_to_end(path)
        else:
            self._handles[path] = self._open(path)
            if len(self._handles) > OPEN_FILES:
                self._handles.popitem(last=False)[1].close()
        return self._handles[path]

    def _open(self, path: Path) -> pq.ParquetFile:
        try:
            # Shards have checksums (ShardStore.write); pages without one, of other writers, are read all the same.
            return pq.ParquetFile(path, memory_map=True, page_checksum_verification=True)
        except (OSError, pa.ArrowException) as error:
            raise damaged(path, error, self.advice) from error

    def _read(self, path: Path, names: list[str]) -> pa.Table:
        try:
            with self._open(path) as file:
                # read() leaves out a column that the file lacks, without a word; select() refuses it.
                return file.read(columns=names).select(names)
        except (OSError, pa.ArrowException, KeyError) as error:
            raise damaged(path, error, self.advice) from error


def damaged(path: Path, error: Exception | str, advice: str = PREPARE_AGAIN) -> DataError:
    """Return the error for a file that is gone or cannot be read."""
    first = (str(error).splitlines() or [type(error).__name__])[0]
    return DataError(f"{path} cannot be read: {first}. {advice}")


def is_number_list(kind: pa.DataType) -> bool:
    """Tell whether a column of this type holds lists of numbers."""
    listed = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    held = kind.value_type if listed else None
    return held is not None and (pa.types.is_integer(held) or pa.types.is_floating(held) or pa.types.is_null(held))


def _plain(value: pa.Scalar) -> Any:  # noqa: ANN401 - a cell of any column
    if is_number_list(value.type):
        return value.values.to_numpy(zero_copy_only=False) if value.values is not None else None
    return value.as_py()
