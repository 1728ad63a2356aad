"""Training of the 3.3 B configuration on one CUDA card: tokens a second, share of its bf16 peak, peak memory.

    python benchmarks/gpu.py --name 2026-01-31-h100
    python benchmarks/gpu.py --device cpu --tiny          # checks that the command runs; its figures mean nothing

Weights are seeded: neither speed nor memory hangs on their values. Each combination runs in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

from common import child, machine, peak_mib, save, speech_rows, table

FULL_SIZE = {"hidden": 3072, "layers": 28, "heads": 24, "kv_heads": 8, "mlp": 8192}
TINY = {"hidden": 64, "layers": 2, "heads": 4, "kv_heads": 2, "mlp": 192}
PEAKS = {"H200": 989, "H100 PCIe": 756, "H100": 989, "A100": 312, "L40S": 362, "A10G": 70, "RTX 4090": 165, "L4": 121}
"""Dense bf16 TFLOP/s by the makers' data sheets; the first name that the card's name holds counts."""
METHODS = {
    "full": {"method": "full", "optimizer": "adamw8bit"},
    "full, AdamW": {"method": "full", "optimizer": "adamw"},
    "lora": {"method": "lora", "optimizer": "adamw"},
    "qlora": {"method": "qlora", "optimizer": "adamw8bit"},
}
ANCHOR = (
    "Anchor: torchtune's own figures for Llama-3.2-3B on one A100: full 17.6 GiB at 6,960 tokens/s, LoRA 8.5 GiB at "
    "8,210, QLoRA 4.6 GiB at 8,035. Its vocabulary is smaller by 28,684 rows."
)


def main() -> None:
    """Run every combination and write the table."""
    arguments = _arguments()
    if arguments.task:
        print(json.dumps(_run(json.loads(arguments.task))))
        return
    runs: dict[str, Any] = {}
    for method in arguments.methods:
        for tokens in arguments.tokens:
            task = {**METHODS[method], "tokens": tokens, "device": arguments.device, "tiny": arguments.tiny}
            task["steps"] = arguments.steps
            try:
                runs[f"{method}, {tokens}"] = child(str(Path(__file__)), task, threads=arguments.threads)
            except SystemExit as error:  # one that does not fit must not hide the others
                runs[f"{method}, {tokens}"] = {"error": str(error)[-400:]}
                print(error, file=sys.stderr)
            results = {"machine": machine(), "anchor": ANCHOR, "runs": runs}
            save(arguments.name, results, _report(results))
    print(_report(results))


def _report(results: dict[str, Any]) -> str:
    rows = [
        [name, "-", "-", "-", run["error"].splitlines()[-1]]
        if "error" in run
        else [name, run["tokens_per_s"], run["peak_share"] or "-", run["peak_gib"], run["device"]]
        for name, run in results["runs"].items()
    ]
    about = results["machine"]
    head = f"torch {about['torch']}; revision {about['revision']}; {about['started']} UTC. `{about['command']}`"
    heads = ["method, tokens a batch", "real tokens/s", "share of bf16 peak", "peak GiB", "device"]
    return "\n\n".join(["# Orpheus 3.3 B on one card", head, table(heads, rows), results["anchor"]])


def _run(task: dict[str, Any]) -> dict[str, Any]:
    """Train a few steps on packed speech and return figures over all but the first two."""
    import lightning
    import torch

    from tts_train.optim import OptimizerOptions, ScheduleOptions
    from tts_train_orpheus.base import TinyOptions
    from tts_train_orpheus.module import OrpheusModule

    warnings.filterwarnings("ignore")
    cuda = task["device"] == "cuda"
    module = OrpheusModule(
        init_from="tiny",
        tiny=TinyOptions(**(TINY if task["tiny"] else FULL_SIZE)),
        method=task["method"],
        optimizer=OptimizerOptions(name=task["optimizer"], lr=2e-5),
        schedule=ScheduleOptions(name="constant"),
        gradient_checkpointing=True,
        dtype="bfloat16",
    )
    watch = _Watch(cuda)
    with tempfile.TemporaryDirectory() as folder:
        trainer = lightning.Trainer(
            accelerator="gpu" if cuda else "cpu",
            devices=1,
            precision="bf16-true" if task["method"] == "full" else "bf16-mixed",
            max_steps=task["steps"],
            gradient_clip_val=1.0,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            callbacks=[watch],
        )
        trainer.fit(module, datamodule=_data(Path(folder), task))
    speed = watch.speed()
    done = speed * _flops_a_token(module, watch.mean_length) / 1e12
    name = torch.cuda.get_device_name() if cuda else "cpu"
    peak = next((peak for card, peak in PEAKS.items() if card in name), None)
    memory = torch.cuda.max_memory_allocated() / 1024**3 if cuda else peak_mib() / 1024
    return {
        "tokens_per_s": round(speed, 1),
        "tflops": round(done, 2),
        "peak_share": round(done / peak, 3) if peak else None,
        "peak_gib": round(memory, 2),
        "device": name,
        "loss": watch.loss,
    }


class _Clock:
    """The end of each step, once the device has done it."""

    def __init__(self, cuda: bool) -> None:
        self.cuda = cuda
        self.marks: list[tuple[float, int]] = []
        self.tokens = self.documents = 0
        self.loss = 0.0

    def speed(self) -> float:
        (begun, tokens), (end, tokens_end) = self.marks[1], self.marks[-1]
        return (tokens_end - tokens) / (end - begun)

    @property
    def mean_length(self) -> float:
        return self.tokens / self.documents


def _Watch(cuda: bool) -> Any:
    import lightning
    import torch

    class Watch(_Clock, lightning.Callback):
        def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, index: int) -> None:
            if self.cuda:
                torch.cuda.synchronize()
            self.tokens += batch["input_ids"].numel()
            self.documents += len(batch["ids"])
            self.loss = float(trainer.callback_metrics["train/loss"])
            self.marks.append((time.perf_counter(), self.tokens))

    return Watch(cuda)


def _flops_a_token(module: Any, length: float) -> float:
    """Return the model's arithmetic a token, forward and backward; what checkpointing repeats is not counted.

    Six operations a weight of a trained product and four of a frozen one, whose own gradient is not made; adapters,
    a hundredth, are left out. Attention: causal, so half of the mean document's length.
    """
    config = module.network.config
    hidden, layers, head_dim = config.hidden_size, config.num_hidden_layers, config.head_dim
    queries, keys = config.num_attention_heads * head_dim, config.num_key_value_heads * head_dim
    layer = hidden * (2 * queries + 2 * keys + 3 * config.intermediate_size)
    products = layers * layer + config.vocab_size * hidden
    attention = 12 * layers * queries * length / 2
    return (6 if module.method == "full" else 4) * products + attention


def _data(folder: Path, task: dict[str, Any]) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from tts_train_orpheus.data import OrpheusData

    rows = speech_rows(2 + task["steps"] * task["tokens"] // 300)
    pq.write_table(pa.table({"id": [f"{i:05}" for i in range(len(rows))], "input_ids": rows}), folder / "rows.parquet")
    return OrpheusData(str(folder / "rows.parquet"), max_tokens=task["tokens"], val_share=0.0)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", default="gpu-latest", help="name of the files in results/")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--tiny", action="store_true", help="a network of two layers, to check the command")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--tokens", nargs="+", type=int, default=[2048, 8192])
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--task", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
