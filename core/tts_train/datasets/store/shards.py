"""Reads a prepared set: the folder that ``prepare`` writes, or Parquet files of the same columns made elsewhere."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tts_train.corpus.own_output import FORMAT, INDEX_FILE, is_finished
from tts_train.datasets.store.foreign import foreign_rows, hash_of_files
from tts_train.datasets.store.parquet_rows import ParquetRows, damaged, is_number_list
from tts_train.datasets.store.shard_store import VERSION, describe_lengths
from tts_train.errors import DataError
from tts_train.run.places import reachable

SPEAKER_COLUMNS = ("speaker", "source", "speaker_name", "speaker_id")
PREPARE = "tts-train prepare --backend B --corpus RECORDINGS --out"
"""The command that makes what is missing; the folder follows."""


class PreparedSet:
    """Rows of a prepared set by index, read when they are asked for.

    Opening checks the index, and that every shard is there with its size and number of rows; each page of a shard is
    checked against its own checksum when it is read.

    Args:
        path: a folder that ``prepare`` wrote, or a folder or file of Parquet with a column ``length_of``.
        kind: what the rows must be, as the writer said; None takes anything.
        length_of: the list column whose length counts in sets that have no index.
        columns: what :meth:`row` returns, as far as the set has it; None is all, and fewer are faster.

    Raises:
        DataError: if there is nothing to read at ``path``, or it is incomplete, damaged or of another kind.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        kind: str | None = None,
        length_of: str = "input_ids",
        columns: Sequence[str] | None = None,
    ) -> None:
        self.path = Path(path)
        self.index: Mapping[str, Any] = read_index(self.path) if (self.path / INDEX_FILE).is_file() else {}
        prepare = PREPARE if kind is None else PREPARE.replace("--backend B", f"--backend {kind.partition('/')[0]}")
        self._prepare = prepare
        if self.index and kind is not None and self.index["kind"] != kind:
            made = self.index["kind"]
            raise DataError(
                f"{self.path} holds {made!r} and {kind!r} is needed: it was prepared for another backend or stage. "
                f"Prepare the recordings for this one: {prepare} {self.path}-{kind.partition('/')[0]}"
            )
        self.length_of = length_of
        if self.index:
            self.rows = ParquetRows([self.path / shard["file"] for shard in self.index["shards"]], columns=columns)
        else:
            self.rows = foreign_rows(self.path, columns=columns, prepare=prepare)
        self._check(prepare)

    def require_columns(self, names: Sequence[str]) -> None:
        """Refuse a set without one of these columns.

        Raises:
            DataError: naming those that are missing, those that there are, and how to make them.
        """
        if missing := [name for name in names if name not in self.rows.names]:
            raise DataError(
                f"{self.path} has no column {', '.join(missing)} (it has {', '.join(self.rows.names)}). Prepare the "
                f"recordings: {self._prepare} {self.path}-prepared"
            )

    def check_numbers(self, name: str, *, whole: bool = False, below: int | None = None) -> None:
        """Refuse a column that is not a list of numbers a row; for sets that ``prepare`` did not write.

        Args:
            name: the column.
            whole: whether its numbers must be integers.
            below: integers must be from 0 up to but not including this; None allows any.

        Raises:
            DataError: naming the column and the first number that is out of range.
        """
        kind = self.rows.types[name]
        if not is_number_list(kind) or (whole and pa.types.is_floating(kind.value_type)):
            what = "whole numbers" if whole else "numbers"
            raise DataError(f"The column {name} of {self.path} is not a list of {what} a row, but {kind}.")
        if below is not None:
            for table in self.rows.tables([name]):
                for chunk in table.column(name).chunks:
                    self._check_range(name, chunk.flatten(), below)

    def _check_range(self, name: str, values: pa.Array, below: int) -> None:
        if values.null_count:
            raise DataError(f"The column {name} of {self.path} has lists in which a number is missing.")
        least, most = (pc.min_max(values)[end].as_py() for end in ("min", "max"))
        if least is not None and not 0 <= least <= most < below:
            wrong = least if least < 0 else most
            raise DataError(f"The column {name} of {self.path} has {wrong}, and its numbers are from 0 to {below - 1}.")

    def __len__(self) -> int:
        return len(self.rows)

    def row(self, index: int) -> dict[str, Any]:
        """Return one row by column name; lists of numbers come as numpy arrays."""
        return self.rows.row(index)

    @property
    def hash(self) -> str:
        """A hash of the content, the same for the same rows in the same order; of the files if there is no index."""
        return str(self.index["hash"]) if self.index else hash_of_files(self.rows.files)

    @property
    def settings(self) -> Mapping[str, Any]:
        """How the rows were made, with paths as they are reached from here; empty for sets that have no index."""
        return reachable(self.index.get("settings", {}))

    @property
    def facts(self) -> dict[str, Any]:
        """What :func:`facts_of` says of the set; empty if it has no index."""
        return facts_of(self.index) if self.index else {}

    @cached_property
    def lengths(self) -> npt.NDArray[np.int64]:
        """(rows,) length of each row in the unit that batches are bounded in."""
        if self.index:
            sizes: npt.NDArray[np.int64] = self._narrow.column(self.index["length_column"]).to_numpy().astype(np.int64)
            return sizes
        return self.rows.list_lengths(self.length_of)

    @cached_property
    def ids(self) -> list[str]:
        """Utterance ids; ``file:row`` where the set has no such column."""
        if "id" in self.rows.names:
            return [str(value) for value in self._narrow.column("id").to_pylist()]
        files = zip(self.rows.files, self.rows.counts, strict=True)
        return [f"{path.name}:{row}" for path, count in files for row in range(count)]

    @cached_property
    def speakers(self) -> list[str | None]:
        """The speaker of each row, None where there is none."""
        name = next((name for name in SPEAKER_COLUMNS if name in self._narrow.column_names), None)
        if name is None:
            return [None] * len(self)
        return [None if value is None else str(value) for value in self._narrow.column(name).to_pylist()]

    @property
    def speaker_counts(self) -> dict[str, int]:
        """Rows of each named speaker, most first."""
        names, counts = np.unique([name for name in self.speakers if name], return_counts=True)
        ranked = sorted(zip(names.tolist(), counts.tolist(), strict=True), key=lambda item: (-item[1], item[0]))
        return dict(ranked)

    @cached_property
    def _narrow(self) -> pa.Table:
        """What batching needs of every row, read in one pass; the wide columns stay on disk."""
        wanted = {"id", self.index.get("length_column")}
        speaker = [name for name in SPEAKER_COLUMNS if name in self.rows.names][:1]
        return self.rows.table([name for name in self.rows.names if name in wanted] + speaker)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what only batching needs: data workers are sent a copy."""
        return {name: value for name, value in self.__dict__.items() if name not in ("_narrow", "ids", "speakers")}

    def _check(self, prepare: str) -> None:
        if self.index:
            for shard, path in zip(self.index["shards"], self.rows.files, strict=True):
                # Sizes at once, bytes when they are read: hashing a set of 100 GB would hold each start for minutes.
                if path.stat().st_size != shard["size"]:
                    raise damaged(path, f"it has {path.stat().st_size} bytes instead of {shard['size']}")
            if len(self.rows) != self.index["rows"]:
                raise damaged(self.path, f"it has {len(self.rows)} rows instead of {self.index['rows']}")
        elif self.length_of not in self.rows.names:
            found = ", ".join(self.rows.names)
            raise DataError(
                f"{self.path} has no column {self.length_of!r} (it has {found}). Recordings must be prepared first: "
                f"{prepare} {self.path.name}-prepared"
            )


def is_prepared(path: Path | str) -> bool:
    """Tell whether ``path`` is a folder that ``prepare`` finished."""
    return is_finished(Path(path))


def read_index(path: Path) -> Mapping[str, Any]:
    """Return the index of a prepared folder.

    Raises:
        DataError: if it is not one, or of a newer format than this version reads.
    """
    file = path / INDEX_FILE
    try:
        index = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise damaged(file, error) from error
    if not isinstance(index, dict) or index.get("format") != FORMAT or not isinstance(index.get("version"), int):
        raise DataError(f"{file} is not the index of a prepared set. Write one: {PREPARE} FOLDER")
    if index["version"] > VERSION:
        raise DataError(f"{file} is of format {index['version']} and this version reads {VERSION}. Update tts-train.")
    missing = {"kind", "hash", "rows", "shards", "length_column", "report"} - set(index)
    if missing:
        raise damaged(file, f"it lacks {', '.join(sorted(missing))}")
    return index


def facts_of(index: Mapping[str, Any]) -> dict[str, Any]:
    """Return what must be known when a set is gone: its settings, speakers and languages, most frequent first.

    Paths among the settings are as they were given; see :func:`tts_train.run.places.reachable`.
    """
    named = {name: list(index["report"].get(name, ())) for name in ("speakers", "languages")}
    return {"settings": dict(index.get("settings", {})), **named}


def prepared_facts(path: Path | str) -> dict[str, Any]:
    """Return what :func:`facts_of` says of a prepared folder, its paths as they are reached from here.

    Empty if ``path`` is no prepared folder, or none any more.
    """
    if not is_prepared(path):
        return {}
    facts = facts_of(read_index(Path(path)))
    return {**facts, "settings": reachable(facts["settings"])}


def describe_prepared(path: Path | str) -> dict[str, Any]:
    """Say what is in a prepared folder, in plain types: the report of the run that made it, its lengths and hash.

    ``rows`` counts the corpus's rows, ``kept`` those that are in the folder; ``rows == kept + sum(dropped)``.
    """
    prepared = PreparedSet(path)
    if not prepared.index:
        kept = len(prepared)
        report = {"rows": kept, "kept": kept, "dropped": {}, "hours": None, "speakers": prepared.speaker_counts}
        return {**report, "languages": {}, "hash": prepared.hash, "lengths": describe_lengths(prepared.lengths)}
    index = prepared.index
    about = {name: index[name] for name in ("kind", "hash", "columns", "settings", "lengths")}
    return {**index["report"], **about, "shards": len(index["shards"])}
