"""Data sets in Parquet files or saved as Arrow: ``audio`` as files or samples with ``text``, or already tokenised."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tts_train.corpus.layouts.base import Layout, RawRow
from tts_train.corpus.layouts.jsonl import from_mapping
from tts_train.corpus.layouts.splits import no_training_part, part_of, training_part, warn_left_out
from tts_train.corpus.own_output import refuse_shard
from tts_train.corpus.rows.token_lists import MEANINGS, NO_LABEL, TokenLists, of_one_row, read_token_lists
from tts_train.corpus.rows.utterance import Rejected, TokenRow, utterance_id
from tts_train.errors import DataError

FAULT = ""
"""Key of a row that cannot be read, with the reason; no column is called so that has a meaning."""


def rows_of(batch: Any, columns: Mapping[str, str]) -> Iterator[dict[str, Any]]:  # noqa: ANN401 - pyarrow is not typed
    """Yield rows as plain Python, their samples as arrays; a row that cannot be converted as its fault."""
    audio = columns.get("audio")
    decoded = audio is not None and _holds_samples(batch.schema.field(audio).type)
    plain = batch.select([name for name in columns.values() if not decoded or name != audio])
    try:
        rows = plain.to_pylist() if not decoded else None
    except (ValueError, OverflowError):
        rows = None
    if rows is not None:
        yield from rows
        return
    for number in range(batch.num_rows):
        try:
            row = plain.slice(number, 1).to_pylist()[0] if plain.num_columns else {}
            if decoded and audio:
                row[audio] = _samples(batch.column(audio)[number])
        except (ValueError, OverflowError) as error:
            row = {FAULT: f"a value cannot be read: {error}"}
        yield row


def _holds_samples(kind: Any) -> bool:  # noqa: ANN401
    import pyarrow as pa

    return bool(pa.types.is_struct(kind)) and kind.get_field_index("array") >= 0


def _samples(value: Any) -> dict[str, Any] | None:  # noqa: ANN401
    """Keep samples out of Python's lists, which take eight times the memory."""
    if not value.is_valid:
        return None
    found = {name: value[name] for name in value}
    array = found.pop("array")
    row = {name: one.as_py() for name, one in found.items()}
    if array.is_valid:
        values: Any = getattr(array, "values", None)
        # Numbers without gaps in one list; of several channels the values are lists themselves.
        flat = values is not None and not hasattr(values, "values") and not values.null_count
        row["array"] = values.to_numpy(zero_copy_only=False) if flat else array.as_py()
    return row


# Few, since a row may hold a whole recording.
_BATCH_ROWS = 64


class Columnar(Layout):
    """Rows by column name; audio as bytes, as a path or as samples."""

    # Reading the rows reads the recordings in them.
    replayable = False

    def __init__(self, path: Path, root: Path, files: list[Path]) -> None:
        super().__init__(path, root)
        self.files = files

    def raws(self) -> Iterator[RawRow | TokenRow | Rejected]:
        """Yield every row in order."""
        for file in self.files:
            shown, number = self.shown(file), 0
            columns: dict[str, str] = {}
            for batch in self._batches(file):
                # Once a file: all batches of a file have one schema.
                columns = columns or require_columns(self, batch.schema.names, str(file))
                origins = [f"{shown}:{number + place}" for place in range(1, batch.num_rows + 1)]
                number += batch.num_rows
                if is_tokenised(columns):
                    lists = {meaning: batch.column(columns[meaning]) for meaning in MEANINGS if meaning in columns}
                    yield from token_rows(read_token_lists(lists), origins)
                    continue
                for row, origin in zip(rows_of(batch, columns), origins, strict=True):
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
        return cls(path, path, training_part(files, path)) if files else None

    def _batches(self, file: Path) -> Iterator[Any]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            with pq.ParquetFile(file) as table:
                refuse_shard(file, table.schema_arrow.metadata)
                names = list(require_columns(self, table.schema_arrow.names, str(file)).values())
                yield from table.iter_batches(batch_size=_BATCH_ROWS, columns=names)
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise DataError(f"{file} cannot be read as Parquet: {error}. Download or copy it again.") from None


class Arrow(Columnar):
    """A folder that the ``datasets`` library saved (``save_to_disk``)."""

    name = "arrow"
    summary = "a folder written by save_to_disk of the datasets library"

    @classmethod
    def detect(cls, path: Path) -> Arrow | None:
        """Return the layout if ``path`` has it."""
        folder = _training_folder(path) if (path / "dataset_dict.json").is_file() else path
        state = folder / "state.json"
        if not state.is_file():
            return None
        try:
            names = [entry["filename"] for entry in json.loads(state.read_text(encoding="utf-8"))["_data_files"]]
            outside = any(Path(name).name != name for name in names)
        except (ValueError, KeyError, TypeError, OSError, RecursionError):
            raise DataError(f"{state} does not list the data files. Save the data set again.") from None
        if outside:
            raise DataError(f"{state} names files outside of its folder; they are not read.")
        return cls(path, path, [folder / name for name in names])

    def _batches(self, file: Path) -> Iterator[Any]:
        import pyarrow as pa

        try:
            with pa.memory_map(str(file)) as source, pa.ipc.open_stream(source) as reader:
                for batch in reader:
                    yield from (batch.slice(at, _BATCH_ROWS) for at in range(0, batch.num_rows, _BATCH_ROWS))
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise DataError(f"{file} cannot be read as Arrow: {error}. Save the data set again.") from None


def require_columns(layout: Layout, names: Sequence[str], where: str) -> dict[str, str]:
    """Return meaning -> column name.

    Raises:
        DataError: if there is neither audio with text nor ``input_ids``.
    """
    columns = layout.match(names, layout.shown(Path(where)))
    absent = [name for name in layout.asked.names.values() if name not in names]
    twice = [name for name in columns.values() if list(names).count(name) > 1]
    enough = "input_ids" in columns or ("audio" in columns and {"text", "normalised"} & set(columns))
    if enough and not absent and not twice:
        return columns
    fault = f"no {', '.join(absent)} is one of them" if absent else "it needs audio and text, or input_ids"
    if twice:
        fault = f"{', '.join(twice)} stands there twice"
    raise DataError(
        f"{where} has the columns {', '.join(names) or 'none'}; {fault}. "
        "Name them: --corpus_format 'audio=NAME,text=NAME,speaker=NAME'."
    )


def is_tokenised(columns: Mapping[str, str]) -> bool:
    """Tell whether rows with these columns, by meaning, are read as ids: there are ``input_ids`` and no sound."""
    return "input_ids" in columns and columns.get("audio") != "audio"


def read_row(row: Mapping[str, Any], columns: Mapping[str, str], origin: str) -> RawRow | TokenRow | Rejected:
    """Make a raw row, or a token row where there are ``input_ids`` and no audio."""
    if fault := row.get(FAULT):
        return Rejected(origin, "bad_row", fault)
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


def _training_folder(path: Path) -> Path:
    """The folder of the train split of a saved dictionary of data sets, or of its only one."""
    folders = sorted(state.parent for state in path.glob("*/state.json"))
    others = [folder for folder in folders if part_of(folder.name) == "other"]
    kept = [folder for folder in folders if folder not in others]
    if not folders:
        raise DataError(f"{path} has a dataset_dict.json and no split beside it. Copy the whole folder.")
    if not kept:
        raise no_training_part(path, others)
    if len(kept) > 1 and path / "train" not in kept:
        raise DataError(f"{path} holds the splits {', '.join(folder.name for folder in kept)}. Name one: {kept[0]}")
    chosen = path / "train" if path / "train" in kept else kept[0]
    if left := [folder.name for folder in folders if folder != chosen]:
        warn_left_out(chosen.name, left)
    return chosen
