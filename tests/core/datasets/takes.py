"""Write a set of takes in the format of ``tts-train sample``, without a model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tts_train.datasets.takes import ABOUT, COLUMNS, FORMAT, TAKES, VERSION
from tts_train.disk.files import hash_file

TYPES = {"list<string>": pa.list_(pa.string()), "list<int32>": pa.list_(pa.int32()), "double": pa.float64()}
TYPES |= {"list<halffloat>": pa.list_(pa.float16())}


def take(text_id: str, number: int, reward: float | None, **more: Any) -> dict[str, Any]:
    """Return a take that ended by itself and misses no floor."""
    known = {"text": f"Text {text_id}.", "speaker": None, "language": "en", "seconds": 1.0, "ended": True}
    known |= {"error": None, "missed": [], "sound": None, "seed": number}
    return {"text_id": text_id, "take": number, "reward": reward, **known, **more}


def write_takes(
    folder: Path,
    rows: Sequence[Mapping[str, Any]],
    *,
    backend: str = "orpheus",
    columns: Mapping[str, str] | None = None,
    **about: Any,
) -> Path:
    """Write rows, which may have figures and a backend's ``columns`` besides, and what they are."""
    folder.mkdir(parents=True, exist_ok=True)
    types = {**COLUMNS, **dict.fromkeys(about.get("figures", {}), "double"), **(columns or {})}
    fields = [(name, TYPES.get(kind) or pa.type_for_alias(kind)) for name, kind in types.items()]
    pq.write_table(pa.Table.from_pylist([dict(row) for row in rows], schema=pa.schema(fields)), folder / TAKES)
    known = {"format": FORMAT, "version": VERSION, "backend": backend, "takes": len(rows)}
    (folder / ABOUT).write_text(json.dumps({**known, "hash": hash_file(folder / TAKES), **about}))
    return folder
