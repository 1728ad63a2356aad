"""Small prepared sets for the stages gpt and dpo, and trainers that are quiet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

TYPES = {"phonemes": pa.int16(), "codes": pa.int16(), "bert": pa.float16(), "rejected": pa.int16()}


def write_set(
    path: Path, rows: int = 12, *, seed: int = 0, languages: tuple[str, ...] = (), too_long: bool = False
) -> str:
    """Write rows of 8 to 19 phonemes and 20 to 44 codes; every second has BERT features."""
    chance = np.random.default_rng(seed)
    sizes = [(int(chance.integers(8, 20)), int(chance.integers(20, 45))) for _ in range(rows)]
    sizes += [(400, 30)] if too_long else []
    columns: dict[str, Any] = {
        "id": [f"s{seed}-u{i}" for i in range(len(sizes))],
        "phonemes": [chance.integers(0, 50, x).astype(np.int16) for x, _ in sizes],
        "codes": [(np.arange(y, dtype=np.int16) + seed) % 7 for _, y in sizes],
        "bert": [chance.normal(size=x * 1024).astype(np.float16) if i % 2 else None for i, (x, _) in enumerate(sizes)],
        "rejected": [np.arange(y // 2, dtype=np.int16) % 7 for _, y in sizes],
    }
    if languages:
        columns["language"] = [languages[i % len(languages)] for i in range(len(sizes))]
    arrays = {
        name: pa.array(columns[name], pa.list_(TYPES[name]) if name in TYPES else pa.string()) for name in columns
    }
    pq.write_table(pa.table(arrays), path)
    return str(path)


def trainer_for(folder: Path, steps: int = 6, **options: Any) -> lightning.Trainer:
    return lightning.Trainer(
        accelerator="cpu",
        max_steps=steps,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=folder,
        **{"enable_checkpointing": False, **options},
    )


def fit(module: Any, data: Any, folder: Path, steps: int) -> lightning.Trainer:
    trainer = trainer_for(folder, steps)
    trainer.fit(module, data)
    return trainer
