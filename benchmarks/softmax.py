"""What ``--model.head.softmax`` costs and gives: ``python benchmarks/softmax.py --name DATE-softmax``.

The same small network is trained three times on the sample voice, with the softmax at audio positions over all rows,
over the added tokens, and over the slot's own codes. Compared: speed, validation loss under the full softmax, and what
free generation (no constraint) does with it.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

from tts_train import Training, prepare
from tts_train.demo.journey import VOICE

RESULTS = Path(__file__).parent / "results"
TEXTS = ("Good morning.", "The rain stopped at noon.", "Please say that again, slowly.")
FIGURES = ("tokens_per_cpu_s", "val_loss", "val_loss_audio", "val_wrong_slot", "generated", "not_audio", "wrong_slot")
COLUMNS = ("softmax", *FIGURES)


def measure(softmax: str, folder: Path, steps: int) -> dict:
    run = folder / softmax
    began = time.process_time()
    settings = {"data.path": folder / "prepared", "model.head.softmax": softmax, "checkpoint.every_n_steps": steps}
    trainer = {"max_steps": steps, "val_check_interval": steps, "num_sanity_val_steps": 0}
    figures = Training("lm-tiny", settings, backend="orpheus", trainer=trainer, run_dir=run).fit().figures
    seconds = time.process_time() - began
    tokens = json.loads((run / "run.json").read_text())["data"]["train_tokens"] / 17 * steps
    errors = {"generated": 0, "not_audio": 0, "wrong_slot": 0}
    for seed, text in enumerate(TEXTS):
        spoken = generate(run, text, seed)
        for name in errors:
            errors[name] += spoken[name]
    return {
        "softmax": softmax,
        "tokens_per_cpu_s": round(tokens / seconds, 1),
        "val_loss": round(figures["val/loss"], 3),
        "val_loss_audio": round(figures["val/loss/audio"], 3),
        "val_wrong_slot": round(figures["val/wrong_slot"], 3),
        **errors,
    }


def generate(run: Path, text: str, seed: int) -> dict:
    import torch

    from tts_train.families.token_lm.decoding import generate as generation
    from tts_train.families.token_lm.model import Sampling
    from tts_train.families.token_lm.speaking.sources import open_model
    from tts_train_orpheus import layout, prompt
    from tts_train_orpheus.model import ORPHEUS

    voice = open_model(ORPHEUS, run, device=torch.device("cpu"), dtype=torch.float32, tokenizer="tiny")
    ids = prompt.inference_prompt(prompt.encode_text(voice.tokenizer, text))
    sampling = Sampling(constrain="none")
    (spoken,) = generation.generate(layout.LAYOUT, voice.lm, [ids], seeds=[seed], max_new_tokens=140, sampling=sampling)
    read = layout.read_generated(spoken.ids)
    return {"generated": len(spoken.ids), "not_audio": read.not_audio, "wrong_slot": read.wrong_slot}


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", required=True, help="name of the result files")
    parser.add_argument("--steps", type=int, default=60, help="optimiser steps of each run")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(VOICE, backend="orpheus", out=folder / "prepared", codec="tiny", tokenizer="tiny")
        rows = [measure(softmax, folder, options.steps) for softmax in ("full", "audio", "slot")]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{options.name}.json").write_text(json.dumps({"steps": options.steps, "rows": rows}, indent=2) + "\n")
    lines = [" | ".join(COLUMNS), " | ".join("---" for _ in COLUMNS)]
    lines += [" | ".join(str(row[column]) for column in COLUMNS) for row in rows]
    table = "\n".join(f"| {line} |" for line in lines)
    (RESULTS / f"{options.name}.md").write_text(table + "\n")
    print(table)


if __name__ == "__main__":
    run()
