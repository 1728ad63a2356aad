"""Prepared rows for the stage ``sovits``: short sums of tones with codes and phonemes of chance."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tts_train.datasets.store.shard_store import ShardStore
from tts_train_gpt_sovits.preparing.prepared import KIND

LANGUAGES = ("en", "zh")
_PLAIN = {"id": pa.string(), "text": pa.string(), "language": pa.string(), "frames": pa.int64()}
_LISTS = {
    "phonemes": pa.int32(),
    "codes": pa.int32(),
    "wave": pa.int16(),
    "speaker_vector": pa.float32(),
    "ssl": pa.float16(),
}


def write_rows(
    folder: Path,
    *,
    count: int = 10,
    settings: Mapping[str, Any] | None = None,
    speaker: bool = False,
    ssl: bool = False,
) -> str:
    """Write ``count`` utterances of 0.9 to 1.2 s in two languages, and one that is too short; return the folder."""
    chance = np.random.default_rng(0)
    codes = [12, *(int(chance.integers(22, 31)) for _ in range(count))]
    rows: dict[str, list[Any]] = {
        "id": [f"u{i}" for i in range(count + 1)],
        "text": [f"Text {i}." for i in range(count + 1)],
        "language": [LANGUAGES[i % 2] for i in range(count + 1)],
        "frames": [2 * n for n in codes],
        "phonemes": [chance.integers(1, 320, int(chance.integers(4, 9))) for _ in codes],
        "codes": [chance.integers(0, 1024, n) for n in codes],
        "wave": [_tones(n * 1280 + 500, chance) for n in codes],
    }
    if speaker:
        rows["speaker_vector"] = [chance.normal(size=20480) for _ in codes]
    if ssl:
        rows["ssl"] = [chance.normal(size=2 * n * 768).astype(np.float16) for n in codes]
    schema = pa.schema({name: pa.list_(_LISTS[name]) if name in _LISTS else _PLAIN[name] for name in rows})
    store = ShardStore(folder, schema, kind=KIND, length_column="frames")
    made = [dict(zip(rows, values, strict=True)) for values in zip(*rows.values(), strict=True)]
    shard = store.write("0" * 32, made, account={})
    store.finish([shard], settings=settings or {"version": "v2"}, report={})
    return str(folder)


def _tones(count: int, chance: np.random.Generator) -> np.ndarray[Any, Any]:
    time = np.arange(count) / 32000
    pitch = chance.uniform(100, 300)
    made = sum(np.sin(2 * np.pi * pitch * k * time) / k for k in range(1, 6)) + 0.05 * chance.normal(size=count)
    return (made / np.abs(made).max() * 12000).astype(np.int16)
