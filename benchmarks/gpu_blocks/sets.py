"""Prepared data of chance, the same on every machine, with the lengths of real speech."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from common import speech_rows

from tts_train_gpt_sovits.preparing.prepared import KIND

_GPT_TYPES = {"phonemes": pa.int16(), "codes": pa.int16(), "bert": pa.float16()}
_SOVITS_PLAIN = {"id": pa.string(), "text": pa.string(), "language": pa.string(), "frames": pa.int64()}
_SOVITS_LISTS = {"phonemes": pa.int32(), "codes": pa.int32(), "wave": pa.int16(), "speaker_vector": pa.float32()}


def orpheus_rows(folder: Path, *, tokens: int, batches: int) -> tuple[str, list[list[int]]]:
    """Write rows for so many batches of so many tokens; return the file and the rows."""
    rows: list[list[int]] = []
    seed, wanted = 0, int(1.3 * batches * tokens) + 2000
    while sum(map(len, rows)) < wanted:
        rows += [row for row in speech_rows(200, seed=seed) if len(row) <= tokens]
        seed += 1
    path = folder / "rows.parquet"
    pq.write_table(pa.table({"id": [f"{i:05}" for i in range(len(rows))], "input_ids": rows}), path)
    return str(path), rows


def gpt_rows(folder: Path, *, count: int, tiny: bool) -> str:
    """Write utterances of 3 to 12 s (in a dry run 1 s), every second one with BERT features."""
    chance = np.random.default_rng(0)
    low, high = (20, 45) if tiny else (75, 300)
    sizes = [(int(codes * chance.uniform(0.28, 0.45)), codes) for codes in map(int, chance.integers(low, high, count))]
    columns: dict[str, Any] = {
        "id": [f"u{i:04}" for i in range(count)],
        "phonemes": [chance.integers(0, 300, x).astype(np.int16) for x, _ in sizes],
        "codes": [chance.integers(0, 1024, y).astype(np.int16) for _, y in sizes],
        "bert": [chance.normal(size=x * 1024).astype(np.float16) if i % 2 else None for i, (x, _) in enumerate(sizes)],
    }
    kinds = {name: pa.list_(_GPT_TYPES[name]) if name in _GPT_TYPES else pa.string() for name in columns}
    path = folder / "gpt.parquet"
    pq.write_table(pa.table({name: pa.array(columns[name], kind) for name, kind in kinds.items()}), path)
    return str(path)


PLANNED_CODES = 250
"""Codes of the 10 s that a plan takes every utterance for (``sample_batch`` of the SoVITS data)."""


def sovits_rows(
    folder: Path,
    *,
    count: int,
    tiny: bool,
    version: str = "v2",
    speaker: bool = False,
    length: int | None = None,
) -> str:
    """Write utterances of 4 to 8 s (in a dry run 1 s): sums of tones with codes and phonemes of chance.

    Args:
        folder: Where the folder of the data is made.
        count: How many.
        tiny: Whether this is a dry run.
        version: That of SoVITS.
        speaker: Whether each has a speaker's vector.
        length: Codes of every utterance, 25 a second; by default they vary.
    """
    from tts_train.datasets.store.shard_store import ShardStore

    chance = np.random.default_rng(0)
    low, high = (22, 31) if tiny else (100, 200)
    codes = [length or int(each) for each in chance.integers(low, high, count)]
    rows: dict[str, list[Any]] = {
        "id": [f"u{i:04}" for i in range(count)],
        "text": [f"Text {i}." for i in range(count)],
        "language": ["en"] * count,
        "frames": [2 * each for each in codes],
        "phonemes": [chance.integers(1, 320, max(4, each // 3)) for each in codes],
        "codes": [chance.integers(0, 1024, each) for each in codes],
        "wave": [_tones(each * 1280 + 500, chance) for each in codes],
    }
    if speaker:
        rows["speaker_vector"] = [chance.normal(size=20480) for _ in codes]
    lists = {name: pa.list_(kind) for name, kind in _SOVITS_LISTS.items()}
    schema = pa.schema({name: lists.get(name) or _SOVITS_PLAIN[name] for name in rows})
    place = folder / f"sovits-{version}"
    store = ShardStore(place, schema, kind=KIND, length_column="frames")
    made = [dict(zip(rows, values, strict=True)) for values in zip(*rows.values(), strict=True)]
    store.finish([store.write("0" * 32, made, account={})], settings={"version": version}, report={})
    return str(place)


def _tones(count: int, chance: np.random.Generator) -> np.ndarray[Any, Any]:
    time = np.arange(count) / 32000
    pitch = chance.uniform(100, 300)
    made = sum(np.sin(2 * np.pi * pitch * k * time) / k for k in range(1, 6)) + 0.05 * chance.normal(size=count)
    return (made / np.abs(made).max() * 12000).astype(np.int16)
