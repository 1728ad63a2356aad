"""Make a run directory with everything a report can show, out of the sample voice."""

from __future__ import annotations

import importlib.resources
import json
import math
from pathlib import Path

import numpy as np
import soundfile as sf

from tts_train.data.lengths import describe_lengths
from tts_train.report import History, write_sample

TEXTS = ("Good morning, and welcome to the workshop.", "A quick brown otter slid down the muddy bank.")
STEPS = (100, 200, 300, 400)


def clip(number: int) -> tuple[np.ndarray, int]:
    """Return a clip of the sample voice, counted from 1."""
    folder = importlib.resources.files("tts_train.demo") / "voice" / "wavs"
    with importlib.resources.as_file(folder / f"sample-{number:02d}.flac") as path:
        return sf.read(path)


def make_run(folder: Path, *, steps: int = 400) -> Path:
    """Write a run directory as ``fit`` leaves it, with a prepared folder beside it."""
    run, prepared = folder / "sample-voice", folder / "prepared"
    run.mkdir(parents=True)
    prepared.mkdir()
    rng = np.random.default_rng(0)
    history = History(run)
    for step in range(2, steps + 1, 2):
        decay = math.exp(-step / 90)
        values = {
            "train/loss": 2.2 + 6.8 * decay + rng.normal(0, 0.18),
            "train/loss/text": 1.2 + 3.0 * decay + rng.normal(0, 0.1),
            "train/loss/audio": 2.4 + 7.1 * decay + rng.normal(0, 0.15),
            "lr": 2e-4 * min(step / 40, 1.0) * (1 - step / (steps * 1.05)),
        }
        if step % 20 == 0:
            values |= {
                "throughput/tokens_per_s": 8200 + rng.normal(0, 250),
                "throughput/audio_s_per_s": 97 + rng.normal(0, 3),
                "throughput/data_wait": abs(rng.normal(0.02, 0.01)),
                "memory/peak_gib": 17.2,
            }
        if step % 50 == 0:
            values |= {"val/loss": 2.5 + 6.4 * decay}
            values |= {f"val/accuracy/slot{slot}": (0.6 - 0.06 * slot) * (1 - decay) for slot in range(7)}
        history.append(values, step=step, epoch=step // 100)
    (run / "config.yaml").write_text(
        "backend: example\nstage: lm\nseed_everything: 7\ntrainer:\n  max_steps: 400\n"
        f"model:\n  init_from: tiny\ndata:\n  path: {prepared}\n"
    )
    card = {"backend": "example", "stage": "lm", "versions": {"torch": "2.11.0"}, "seed": 7, "exit_reason": "finished"}
    (run / "run.json").write_text(json.dumps(card))
    dropped = {"too_long": 3, "empty_text": 1}
    facts = {
        "rows": 40,
        "kept": 36,
        "dropped": dropped,
        "hours": 0.0263,
        "speakers": {"heart": 36},
        "languages": {"en": 36},
    }
    lengths = describe_lengths(rng.normal(290, 55, 36).astype(int))
    index = {"rows": 36, "report": facts, "lengths": lengths, "length_column": "num_tokens"}
    (prepared / "dataset.json").write_text(json.dumps(index))
    for number, text in enumerate(TEXTS, start=1):
        wave, rate = clip(number)
        write_sample(run / "samples" / "reference", f"utterance-{number}", wave, rate, text=text)
        for step in STEPS:
            noisy = wave + rng.normal(0, 0.25 * math.exp(-step / 80), len(wave))
            name = f"utterance-{number}"
            write_sample(run / "samples" / f"step-{step:06d}", name, noisy, rate, text=text, facts={"similarity": 0.62})
    whole = run / "checkpoints" / "step-000400"
    whole.mkdir(parents=True)
    (whole / "weights.safetensors").write_bytes(bytes(2_000_000))
    (whole / "MANIFEST.json").write_text("{}")
    return run
