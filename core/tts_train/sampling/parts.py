"""Takes on their way to a set: whole texts at a time, in files that exist whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tts_train.datasets.store.parquet_rows import ParquetRows, damaged
from tts_train.datasets.takes import ABOUT, AGAIN, BEGUN, COLUMNS, FORMAT, TAKES, VERSION
from tts_train.disk.files import TEMPORARY, disk_errors, patiently, sync_directory, temporary_beside, write_json
from tts_train.errors import ConfigError, DataError
from tts_train.sampling.identity import require_same

AUDIO, PARTS, LOCK = "audio", "parts", "lock"
"""What lies in a set beside what a finished one has."""
ROW_GROUP = 32
"""Takes that are read at once where one is asked for."""
_NOTE = b"tts_train_part"

Lacking = Counter[tuple[str, str]]


def arrow_type(name: str) -> pa.DataType:
    """Return the type that Arrow writes as ``list<int32>`` or ``double``."""
    if name.startswith("list<"):
        return pa.list_(arrow_type(name[len("list<") : -1]))
    return pa.type_for_alias(name)


def schema_of(figures: Sequence[str], columns: Mapping[str, str]) -> pa.Schema:
    """Return the schema of a set: the columns of every set, figures, and what the backend keeps of a take.

    Raises:
        ConfigError: if a figure has the name of another column.
    """
    if taken := {*COLUMNS, *columns} & set(figures) | set(COLUMNS) & set(columns):
        raise ConfigError(
            f"A figure is called {min(taken)}, as a column of takes is. Leave its metric out (--metrics)."
        )
    # Figures before the backend's columns, which are long lists: a reader of figures stops before them.
    types = {**COLUMNS, **dict.fromkeys(figures, "double"), **columns}
    return pa.schema([(name, arrow_type(kind)) for name, kind in types.items()])


class Parts:
    """The parts of a set that is being drawn.

    Args:
        out: Folder of the set.
        schema: Of its rows.
        settings: What decides the takes, in plain types; see :mod:`tts_train.sampling.identity`.
    """

    def __init__(self, out: Path, schema: pa.Schema, settings: Mapping[str, Any]) -> None:
        self.out, self.schema = out, schema
        self._settings = dict(settings)

    def begin(self) -> None:
        """Make the folder, unless takes are there."""
        if not _has_takes(self.out):
            with disk_errors(self.out):
                (self.out / PARTS).mkdir(parents=True, exist_ok=True)
                self._note({})

    @property
    def complete(self) -> bool:
        """Whether all takes lie in one file, which was ranked or was about to be."""
        return ((self.out / TAKES).is_file() and not (self.out / PARTS).is_dir()) or (self.out / ABOUT).is_file()

    def require_whole(self) -> None:
        """Refuse a finished set that cannot be ranked anew, before what it says of itself is taken away.

        Raises:
            DataError: if it is damaged, or has other columns.
        """
        path = self.out / TAKES
        rows = ParquetRows([path], advice=AGAIN)
        for name, kind in zip(self.schema.names, self.schema.types, strict=True):
            if rows.types.get(name) != kind:
                raise damaged(path, f"its column {name} is {rows.types.get(name, 'missing')} and not {kind}", AGAIN)
        # A group at a time, with its checksums.
        for first in range(0, len(rows), ROW_GROUP):
            rows.row(first)
        if None in rows.column("text_id").to_pylist():
            raise damaged(path, "a take has no text_id", AGAIN)

    def reopened(self) -> Lacking:
        """Let a set be unfinished until it is ranked anew, and return what could not be measured in it.

        What says how the takes were ranked must not be there while they are ranked otherwise.
        """
        name = ABOUT if (self.out / ABOUT).is_file() else BEGUN
        told = _read(self.out / name).get("not_judged") or {}
        lacking = Counter({(metric, why): count for metric, reasons in told.items() for why, count in reasons.items()})
        with disk_errors(self.out):
            # First: without the description, parts that are left would be taken for all that there is.
            shutil.rmtree(self.out / PARTS, ignore_errors=True)
            self._note(lacking)
            (self.out / ABOUT).unlink(missing_ok=True)
        return lacking

    def _note(self, lacking: Mapping[tuple[str, str], int]) -> None:
        said = {"format": FORMAT, "version": VERSION, "settings": self._settings, "not_judged": nested(lacking)}
        write_json(self.out / BEGUN, said)

    def finished(self, number: int, takes: int) -> bool:
        """Tell whether a part is there, whole and readable."""
        path = self._path(number)
        if not path.is_file():
            return False
        # Read as a whole: what a disk has changed since is found here, and drawn again.
        try:
            with pq.ParquetFile(path, page_checksum_verification=True) as file:
                table = file.read()
        except (OSError, pa.ArrowException):
            return False
        return bool(table.num_rows == takes and table.schema.names == self.schema.names)

    def write(self, number: int, rows: Sequence[Mapping[str, Any]], lacking: Lacking) -> None:
        """Write a part, with what could not be measured in it."""
        # In the file of the takes it is about, so that both are there or neither is.
        note = json.dumps(nested(lacking)).encode()
        table = pa.Table.from_pylist(list(rows), schema=self.schema.with_metadata({_NOTE: note}))
        with disk_errors(self.out):
            write_parquet(self._path(number), [table], table.schema)

    def files(self, count: int) -> list[Path]:
        """Return the files of so many parts."""
        return [self._path(number) for number in range(count)]

    def lacking(self, count: int) -> Lacking:
        """Return how many takes of so many parts which metric could not measure, by reason."""
        found: Lacking = Counter()
        for path in self.files(count):
            note = (pq.read_schema(path).metadata or {})[_NOTE]
            for metric, reasons in json.loads(note).items():
                found.update({(metric, why): number for why, number in reasons.items()})
        return found

    def remove(self) -> None:
        """Remove what only a set that is not finished needs."""
        shutil.rmtree(self.out / PARTS, ignore_errors=True)
        for left in (self.out / BEGUN, *filter(is_temporary, self.out.iterdir())):
            left.unlink(missing_ok=True)

    def _path(self, number: int) -> Path:
        return self.out / PARTS / f"part-{number:06d}.parquet"


def write_parquet(path: Path, tables: Sequence[pa.Table] | Iterator[pa.Table], schema: pa.Schema) -> None:
    """Write tables as one file that exists whole or not at all, in small groups with checksums."""
    temporary = temporary_beside(path)
    try:
        with temporary.open("wb") as file:
            with pq.ParquetWriter(file, schema, compression="zstd", write_page_checksum=True) as writer:
                for table in tables:
                    writer.write_table(table, row_group_size=ROW_GROUP)
            # On the disk before it has its name: a power cut leaves the old file or the new one.
            file.flush()
            os.fsync(file.fileno())
        patiently(lambda: temporary.replace(path))
        sync_directory(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def nested(lacking: Mapping[tuple[str, str], int]) -> dict[str, dict[str, int]]:
    """Return counts by metric and reason as JSON has them."""
    found: dict[str, dict[str, int]] = {}
    for (metric, why), count in sorted(lacking.items()):
        found.setdefault(metric, {})[why] = count
    return found


def _read(file: Path) -> dict[str, Any]:
    try:
        about = json.loads(file.read_text(encoding="utf-8"))
        if about["format"] != FORMAT or not isinstance(about["settings"], dict):
            raise ValueError("it describes no takes")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file} cannot be read: {error}. Choose another --out.") from error
    return dict(about)


def require_begun_alike(out: Path, settings: Mapping[str, Any]) -> None:
    """Refuse a folder whose takes were drawn with something else, or that holds other files.

    Raises:
        ConfigError: naming the difference.
        DataError: if what it says of itself cannot be read.
    """
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out {out} is a file. Give the name of a folder for the takes.")
    begun = next((out / name for name in (ABOUT, BEGUN) if (out / name).is_file()), None)
    if begun is None:
        # A kill may have left the empty folder, and the lock.
        if out.is_dir() and any(path.name not in (PARTS, LOCK) for path in out.iterdir() if not is_temporary(path)):
            raise ConfigError(f"--out {out} holds files that are no takes. Choose another --out.")
    # Its takes may be added to or ranked anew, and never mixed with others.
    elif _has_takes(out):
        require_same(_read(begun)["settings"], settings, out=out)


def _has_takes(out: Path) -> bool:
    return (out / TAKES).is_file() or any((out / PARTS).glob("*.parquet"))


def is_temporary(path: Path) -> bool:
    """Tell whether a file is one that was being written when its writer was killed."""
    return path.name.startswith(TEMPORARY)
