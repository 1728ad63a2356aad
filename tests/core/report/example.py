"""Make a run directory with everything a report can show, out of the sample voice."""

from __future__ import annotations

import importlib.resources
import json
import math
from pathlib import Path

import numpy as np
import soundfile as sf

from tts_train.datasets.store.shard_store import describe_lengths
from tts_train.report import History, write_sample

TEXTS = ("Good morning, and welcome to the workshop.", "A quick brown otter slid down the muddy bank.")
STEPS = (100, 200, 300, 400)
GIB = 1024**3


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
                "throughput/steps_per_s": 3.1 + rng.normal(0, 0.05),
                "throughput/data_wait": abs(rng.normal(0.02, 0.01)),
                "memory/peak_gib": 17.2,
            }
        if step % 50 == 0:
            values |= {
                "val/loss": 2.5 + 6.4 * decay,
                "val/loss/en": 2.4 + 6.0 * decay,
                "val/loss/de": 3.1 + 6.9 * decay,
            }
            values |= {"val/loss/audio": 2.7 + 6.9 * decay, "val/loss/text": 1.5 + 3.4 * decay}
            values |= {f"val/slot_accuracy/{slot}": (0.6 - 0.06 * slot) * (1 - decay) for slot in range(7)}
            values |= {f"val/code_use/{level}": (0.9 - 0.2 * level) * (1 - decay) for level in range(3)}
            values |= {"listen/repetition": 1.0 if step < 200 else 0.0, "listen/swallowed": 0.0, "listen/runaway": 0.0}
            values |= {"listen/dnsmos": 3.4 - 1.2 * decay, "listen/share": 0.06}
        history.append(values, step=step, epoch=step // 100)
    (run / "config.yaml").write_text(
        "backend: example\nstage: lm\nseed_everything: 7\ntrainer:\n  max_steps: 400\n"
        f"model:\n  init_from: tiny\ndata:\n  path: {prepared}\n"
    )
    card = {"backend": "example", "stage": "lm", "versions": {"torch": "2.11.0"}, "seed": 7, "exit_reason": "finished"}
    card["formats"] = {"hf": "folder for transformers", "gguf": "file for llama.cpp"}
    card["titles"] = {
        "slot_accuracy": {"title": "Accuracy by slot of a frame", "part": "slot", "unit": ""},
        "code_use": {"title": "Share of each codebook in use", "part": "level", "unit": ""},
    }
    card["plan"] = {
        "peak_bytes": int(16.4 * GIB),
        "needed_bytes": int(17.6 * GIB),
        "gpu_bytes": 24 * GIB,
        "step_flops": 21_000_000_000_000,
        "ranks": 1,
        "batches_per_epoch": 100,
        "cards": {"one": {"fits": True, "epoch_hours": [0.01, 0.03]}, "small": {"fits": False, "epoch_hours": [1, 2]}},
    }
    (run / "run.json").write_text(json.dumps(card))
    dropped = {"too_long": 3, "empty_text": 1}
    facts = {
        "rows": 40,
        "kept": 36,
        "dropped": dropped,
        "hours": 0.0263,
        "speakers": {"heart": 36},
        "languages": {"en": 30, "de": 6},
    }
    lengths = describe_lengths(rng.normal(290, 55, 36).astype(int))
    index = {"rows": 36, "report": facts, "lengths": lengths, "length_column": "num_tokens"}
    (prepared / "dataset.json").write_text(json.dumps(index))
    rows = [{"origin": f"metadata.csv:{n}", "reason": "too_long", "detail": f"{60 + n} s"} for n in range(3)]
    rows += [{"origin": "metadata.csv:9", "reason": "empty_text", "detail": ""}]
    (prepared / "dropped.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for number, text in enumerate(TEXTS, start=1):
        wave, rate = clip(number)
        write_sample(run / "samples" / "reference", f"utterance-{number}", wave, rate, text=text)
        dull = np.convolve(wave, np.ones(4) / 4, mode="same")
        write_sample(run / "samples" / "codec", f"utterance-{number}", dull, rate, text=text)
        for step in STEPS:
            noisy = wave + rng.normal(0, 0.25 * math.exp(-step / 80), len(wave))
            name = f"utterance-{number}"
            facts = {"similarity": 0.62} | ({"repetition": "yes"} if step == 100 else {})
            write_sample(run / "samples" / f"step-{step:06d}", name, noisy, rate, text=text, facts=facts)
    whole = run / "checkpoints" / "step-000400"
    whole.mkdir(parents=True)
    (whole / "weights.safetensors").write_bytes(bytes(2_000_000))
    (whole / "MANIFEST.json").write_text("{}")
    return run
