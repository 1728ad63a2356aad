"""Record batches of Parquet and Arrow as rows of plain Python, samples as arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

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
        flat = values is not None and not hasattr(values, "values") and not values.null_count
        row["array"] = values.to_numpy(zero_copy_only=False) if flat else array.as_py()
    return row
