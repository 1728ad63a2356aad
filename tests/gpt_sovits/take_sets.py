"""Sets of takes as ``tts-train sample`` writes them, of what a synth job drew and of rewards that a test gives."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from tts_train.contract import Drawn, Line
from tts_train.datasets.takes import ABOUT, COLUMNS, FORMAT, TAKES, VERSION
from tts_train_gpt_sovits.voice.synth import GptSovitsSynth


def write_takes(
    folder: Path,
    taken: Sequence[tuple[str, Line, Drawn, float | None]],
    *,
    known: Mapping[str, Any],
    backend: str = "gpt_sovits",
) -> Path:
    """Write takes, each with its text's id and its reward, and what is known of the model's data."""
    types = {**COLUMNS, **GptSovitsSynth.drawn_columns(None)}
    numbers: dict[str, int] = {}
    rows = []
    for text_id, line, drawn, reward in taken:
        numbers[text_id] = numbers.get(text_id, -1) + 1
        row = {"text_id": text_id, "take": numbers[text_id], "seed": line.seed, "text": line.text}
        row |= {"speaker": line.speaker, "language": line.language, "ended": drawn.ended, "error": drawn.error}
        row |= {"seconds": drawn.sound.seconds if drawn.sound else None, "missed": [], "reward": reward}
        rows.append({name: {**row, **drawn.columns}.get(name) for name in types})
    folder.mkdir()
    arrays = {name: pa.array([row[name] for row in rows], type_of(kind)) for name, kind in types.items()}
    pq.write_table(pa.table(arrays), folder / TAKES)
    content = xxhash.xxh3_64_hexdigest((folder / TAKES).read_bytes())
    about = {"format": FORMAT, "version": VERSION, "backend": backend, "takes": len(rows), "hash": content}
    (folder / ABOUT).write_text(json.dumps({**about, "data": dict(known)}), encoding="utf-8")
    return folder


def type_of(kind: str) -> pa.DataType:
    if kind.startswith("list<"):
        return pa.list_(type_of(kind[len("list<") : -1]))
    found: pa.DataType = pa.type_for_alias(kind)
    return found
