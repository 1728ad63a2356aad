"""Small corpora for the commands of the backend: tones with texts, and what is prepared of them."""

from __future__ import annotations

import json
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tts_train.cli import main

TINY = ("--codec", "tiny", "--tokenizer", "tiny")


def write_tone(path: Path, seconds: float, pitch: float = 200.0) -> None:
    """Write a voice-like tone of 24 kHz."""
    time = np.arange(round(24_000 * seconds)) / 24_000
    noise = np.random.default_rng(int(pitch)).standard_normal(len(time))
    sound = 0.3 * np.sin(2 * np.pi * pitch * time) * (1 + np.sin(2 * np.pi * 3 * time)) / 2 + 0.02 * noise
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(24_000)
        file.writeframes((sound * 32_767).astype("<i2").tobytes())


def write_rows(folder: Path, rows: list[dict[str, Any]], *, name: str = "train_raw.jsonl") -> Path:
    """Write rows as upstream's JSON lines, with a recording for each that names one that is not there and no codes."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, row in enumerate(rows):
        for sound in (row.get("audio"), row.get("ref_audio")):
            if sound and not (folder / sound).exists() and "audio_codes" not in row:
                write_tone(folder / sound, 1.1 + 0.1 * number, 150.0 + 40 * number)
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder / name


def texts(count: int, **more: Any) -> list[dict[str, Any]]:
    """Return rows with a recording and a text each."""
    return [{"audio": f"{number}.wav", "text": f"Sentence number {number}.", **more} for number in range(count)]


def prepare(corpus: Path, out: Path, *words: str) -> int:
    """Prepare with the small codec and tokenizer unless ``words`` say otherwise; return the exit code."""
    return main(["prepare", "--backend", "qwen3_tts", "--corpus", str(corpus), "--out", str(out), *TINY, *words])


def prepared_rows(out: Path) -> dict[str, dict[str, Any]]:
    """Return the rows of a prepared set by their text."""
    table = pa.concat_tables([pq.read_table(file) for file in sorted(out.glob("data/*.parquet"))])
    return {row["text"]: row for row in table.to_pylist()}


def dropped(out: Path) -> list[dict[str, Any]]:
    """Return what a prepared set says of rows that were not used."""
    return [json.loads(line) for line in (out / "dropped.jsonl").read_text(encoding="utf-8").splitlines()]


def fit_words(data: Path, run: Path, *words: str, init_from: str | Path = "tiny") -> list[str]:
    """Return the command that trains some steps on the CPU."""
    settings = ["--data.path", str(data), "--data.val_share", "0.3", "--trainer.accelerator", "cpu"]
    settings += ["--model.init_from", str(init_from), "--model.optimizer.lr", "0.02", "--listen.sentences", "0"]
    return ["fit", "--backend", "qwen3_tts", "--run_dir", str(run), "--trainer.max_steps", "2", *settings, *words]


def fit(data: Path, run: Path, *words: str, init_from: str | Path = "tiny") -> int:
    """Train some steps on the CPU; return the exit code."""
    return main(fit_words(data, run, *words, init_from=init_from))
