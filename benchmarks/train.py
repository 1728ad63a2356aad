"""Training on a CPU, ours against Hugging Face's Trainer: real tokens a second, peak memory, the loss curve, levers.

    python benchmarks/train.py --name 2026-01-31-cpu-2core

Every side runs in a process of its own, with the same rows, weights, float32 and two threads. Speed is that of all
optimiser steps but the first.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from common import child, machine, save, wait_for_quiet
from train_table import report

SHAPES: dict[str, dict[str, int]] = {
    "head": {"hidden": 256, "layers": 4, "heads": 4, "kv_heads": 2, "mlp": 768},
    "body": {"hidden": 384, "layers": 24, "heads": 6, "kv_heads": 2, "mlp": 1536},
    "tiny": {"hidden": 64, "layers": 2, "heads": 4, "kv_heads": 2, "mlp": 192},
}
"""``head``: nearly all the work is the output layer's. ``body``: about half of it."""
HF: dict[str, dict[str, Any]] = {
    "hf batch 1 (upstream)": {"side": "hf", "batch": 1},
    "hf batch 1 x 4": {"side": "hf", "batch": 1, "accumulate": 4},
    "hf padded": {"side": "hf", "batch": -1},
}
OURS: dict[str, dict[str, Any]] = {
    "ours": {"side": "ours"},
    "ours, hf's batches": {"side": "ours", "plan": "groups"},
    "ours, hf's batches of 1": {"side": "ours", "plan": "ones"},
}
LEVERS: dict[str, dict[str, Any]] = {
    "no packing: padded by length": {"side": "ours", "batching": "padded"},
    "no chunked head: torch's cross-entropy": {"side": "ours", "plain_head": True},
    "head by rows instead of columns": {"side": "ours", "by_rows": True},
    "chunk 256": {"side": "ours", "chunk": 256},
    "chunk 512": {"side": "ours", "chunk": 512},
    "AdamW not fused": {"side": "ours", "plain_adamw": True},
    "another objective: softmax audio": {"side": "ours", "softmax": "audio"},
    "another objective: softmax slot": {"side": "ours", "softmax": "slot"},
}


LEAST_ROWS = 8
"""Two steps of four batches of one row."""


def main() -> None:
    """Run all sides and write the table."""
    arguments = _arguments()
    if arguments.task:
        from train_sides import run

        print(json.dumps(run(json.loads(arguments.task))))
        return
    results: dict[str, Any] = {"machine": machine(), "threads": arguments.threads, "shapes": {}}
    with tempfile.TemporaryDirectory() as folder:
        for shape in arguments.shapes:
            sides = {**HF, **OURS, **(LEVERS if shape == arguments.levers else {})}
            runs = {}
            for name, side in sides.items():
                wait_for_quiet(arguments.wait)
                task = {**side, "shape": SHAPES[shape], "rows": arguments.rows, "folder": folder}
                task["batch"] = arguments.padded if side.get("batch") == -1 else side.get("batch", arguments.padded)
                runs[name] = child(str(Path(__file__)), task, threads=arguments.threads)
                # Written after every run: what was measured is not lost if a later one cannot run.
                results["shapes"][shape] = {"model": SHAPES[shape], "rows": arguments.rows, "runs": runs}
                save(arguments.name, results, report(results, arguments.padded))
        print(report(results, arguments.padded))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", default="train-latest", help="name of the files in results/")
    parser.add_argument("--shapes", nargs="+", default=["head", "body"], choices=list(SHAPES))
    parser.add_argument("--levers", default="head", help="the shape that each lever is taken away from")
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--padded", type=int, default=4, help="rows in a padded batch")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--wait", type=float, default=0.0, help="minutes to wait for a quiet machine before each run")
    parser.add_argument("--task", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.rows < LEAST_ROWS:
        parser.error(f"--rows takes {LEAST_ROWS} or more, not {arguments.rows}: the first step is not timed")
    return arguments


if __name__ == "__main__":
    main()
