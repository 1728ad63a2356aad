"""Single rows out of Arrow files as the ``datasets`` library saves them, mapped into memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from tts_train.datasets.store.parquet_rows import OPEN_FILES, ParquetRows
from tts_train.errors import DataError


class ArrowRows(ParquetRows):
    """Rows of Arrow stream files by index; the system reads what is asked for.

    Args:
        files: Arrow stream files.
        columns: what :meth:`row` returns, as far as the files have it; None is all.
    """

    def __init__(self, files: Sequence[Path], *, columns: Sequence[str] | None = None) -> None:
        self.files = list(files)
        self._reset()
        self.names = list(self._mapped(self.files[0]).column_names) if self.files else []
        self.columns = [name for name in self.names if columns is None or name in columns]
        self.groups, self._starts = [], [0]
        for number, path in enumerate(self.files):
            for place, batch in enumerate(self._mapped(path).to_batches()):
                self.groups.append((number, place))
                self._starts.append(self._starts[-1] + batch.num_rows)

    @property
    def types(self) -> dict[str, pa.DataType]:
        """The type of each column, as the first file has it."""
        schema = self._mapped(self.files[0]).schema
        return dict(zip(schema.names, schema.types, strict=True))

    def _reset(self) -> None:
        self._maps: OrderedDict[Path, pa.Table] = OrderedDict()

    def _group(self, place: int) -> pa.Table:
        number, batch = self.groups[place]
        mapped = self._mapped(self.files[number])
        try:
            # A KeyError: files may differ in their columns, and those of the first are asked for.
            return pa.Table.from_batches([mapped.to_batches()[batch]]).select(self.columns)
        except KeyError as error:
            raise _damaged(self.files[number], error) from error

    def _read(self, path: Path, names: list[str]) -> pa.Table:
        try:
            return self._mapped(path).select(names)
        except KeyError as error:
            raise _damaged(path, error) from error

    def _mapped(self, path: Path) -> pa.Table:
        if path in self._maps:
            self._maps.move_to_end(path)
            return self._maps[path]
        try:
            with pa.memory_map(str(path)) as source, pa.ipc.open_stream(source) as reader:
                self._maps[path] = reader.read_all()
        except (pa.ArrowException, OSError) as error:
            raise _damaged(path, error) from error
        if len(self._maps) > OPEN_FILES:
            self._maps.popitem(last=False)
        return self._maps[path]


def _damaged(path: Path, error: Exception) -> DataError:
    first = (str(error).splitlines() or [type(error).__name__])[0]
    return DataError(f"{path} cannot be read: {first}. Save the data set again with save_to_disk, or copy it again.")
