"""One side of the training benchmark in this process: Hugging Face's Trainer, or tts-train with a lever taken away."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from common import die_first, peak_mib, speech_rows
from torch import Tensor

LR = 1e-3
BUDGET = 2048
"""Tokens in one of our batches: what --data.max_tokens says if nothing is said."""


def run(task: dict[str, Any]) -> dict[str, Any]:
    """Train once over the rows and return figures."""
    die_first()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    rows = speech_rows(task["rows"])
    watch = Stopwatch()
    _refuse_too_large(task, rows)
    (_hf if task["side"] == "hf" else _ours)(task, rows, watch)
    return {**watch.figures(), "peak_mib": peak_mib(), "real_tokens": sum(map(len, rows)), **watch.extra}


class Stopwatch:
    """Wall and processor time, tokens and losses of optimiser steps."""

    def __init__(self) -> None:
        self.marks: list[tuple[float, float, int]] = []
        self.losses: list[float] = []
        self.extra: dict[str, Any] = {}
        self.tokens = 0
        self.head: list[tuple[float, float]] = []

    def step(self) -> None:
        """Note the end of an optimiser step."""
        self.marks.append((time.perf_counter(), time.process_time(), self.tokens))

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Note how long a function takes at each call."""

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            begun = time.perf_counter()
            result = function(*args, **kwargs)
            self.head.append((begun, time.perf_counter() - begun))
            return result

        return wrapped

    def figures(self) -> dict[str, Any]:
        """Return speeds over all steps but the first, and every loss."""
        (wall, cpu, tokens), (end, cpu_end, tokens_end) = self.marks[0], self.marks[-1]
        seconds, work = end - wall, tokens_end - tokens
        head = sum(spent for begun, spent in self.head if wall <= begun <= end)
        return {
            "tokens_per_s": round(work / seconds, 1),
            "tokens_per_cpu_s": round(work / (cpu_end - cpu), 1),
            "seconds": round(seconds, 2),
            "cpu_seconds": round(cpu_end - cpu, 2),
            "steps": len(self.marks),
            "timed_tokens": work,
            "head_share_of_time": round(head / seconds, 3) if self.head else None,
            "losses": self.losses,
        }


def _refuse_too_large(task: dict[str, Any], rows: list[list[int]]) -> None:
    import psutil

    # Logits, log-softmax and a gradient of each, float32: what plain cross-entropy holds at once.
    size = task["batch"] if task["side"] == "hf" else 1
    longest = max(map(len, rows)) if task["side"] == "hf" else BUDGET
    need = 4 * 4 * 156_940 * size * longest if task["side"] == "hf" or task.get("plain_head") else 0
    if need > 0.9 * psutil.virtual_memory().available:
        raise SystemExit(f"needs {need / 1024**3:.1f} GiB for logits alone, and so much is not free")


def _network(shape: dict[str, int]) -> Any:
    from tts_train.families.token_lm.network.start import TinyOptions, load_base
    from tts_train_orpheus.model import ORPHEUS

    return load_base(ORPHEUS, "tiny", tiny=TinyOptions(**shape))


def _hf(task: dict[str, Any], rows: list[list[int]], watch: Stopwatch) -> None:
    from torch.utils.data import SequentialSampler
    from transformers import Trainer, TrainerCallback, TrainingArguments

    lm = _network(task["shape"])
    lm.set_attn_implementation("sdpa")
    items = [{"input_ids": row, "labels": row, "attention_mask": [1] * len(row)} for row in rows]
    accumulate = task.get("accumulate", 1)
    per_step = task["batch"] * accumulate

    class Ordered(Trainer):
        def _get_train_sampler(self, *_: Any) -> SequentialSampler:  # the order that ours has, to compare losses
            return SequentialSampler(items)

    class Watch(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            watch.tokens = sum(map(len, rows[: state.global_step * per_step]))
            watch.step()

        def on_log(self, args: Any, state: Any, control: Any, logs: Any, **_: Any) -> None:
            if "loss" in logs:
                watch.losses.append(float(logs["loss"]))

    arguments = TrainingArguments(
        output_dir=str(Path(task["folder"]) / "hf"),
        per_device_train_batch_size=task["batch"],
        gradient_accumulation_steps=accumulate,
        num_train_epochs=1,
        learning_rate=LR,
        lr_scheduler_type="constant",
        optim="adamw_torch_fused",
        weight_decay=0.0,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        dataloader_pin_memory=False,
        seed=0,
    )
    collator = None if task["batch"] == 1 else _pad
    Ordered(model=lm, args=arguments, train_dataset=items, data_collator=collator, callbacks=[Watch()]).train()
    padded = sum(max(map(len, rows[i : i + task["batch"]])) * task["batch"] for i in range(0, len(rows), task["batch"]))
    watch.extra["positions_per_real_token"] = round(padded / sum(map(len, rows)), 3)


def _pad(items: list[dict[str, list[int]]]) -> dict[str, Tensor]:
    """What DataCollatorForSeq2Seq does, without a tokenizer: ids with the pad token, labels with -100."""
    longest = max(len(item["input_ids"]) for item in items)
    fills = {"input_ids": 128_263, "labels": -100, "attention_mask": 0}
    return {
        name: torch.tensor([item[name] + [fill] * (longest - len(item[name])) for item in items])
        for name, fill in fills.items()
    }


def _ours(task: dict[str, Any], rows: list[list[int]], watch: Stopwatch) -> None:
    import lightning

    import tts_train.families.token_lm.network.network as network
    from tts_train.families.token_lm.network.network import HeadOptions
    from tts_train.families.token_lm.network.start import TinyOptions
    from tts_train.optim import OptimizerOptions, ScheduleOptions
    from tts_train.training.survive.continuation import ExactContinuation
    from tts_train.training.survive.finite import FiniteGuard
    from tts_train.training.watch.throughput import Throughput
    from tts_train_orpheus.stage import OrpheusModule

    _take_away(task)
    if not task.get("plain_head"):  # its gradients are made in backward, where no one watches
        network.linear_cross_entropy = watch.timed(network.linear_cross_entropy)
    module = OrpheusModule(
        init_from="tiny",
        tiny=TinyOptions(**task["shape"]),
        head=HeadOptions(chunk_tokens=task.get("chunk", 1024), softmax=task.get("softmax", "full")),
        optimizer=OptimizerOptions(lr=LR),
        schedule=ScheduleOptions(name="constant"),
    )
    data = _data(task, rows)

    class Watch(lightning.Callback):
        def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, index: int) -> None:
            watch.tokens += int(module.work_in(batch).tokens)
            watch.losses.append(float(trainer.callback_metrics["train/loss"]))
            watch.step()

    trainer = lightning.Trainer(
        accelerator="cpu",
        precision="32-true",
        max_epochs=1,
        gradient_clip_val=1.0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        log_every_n_steps=10,
        callbacks=[ExactContinuation(0), FiniteGuard(), Throughput(), Watch()],
    )
    trainer.fit(module, datamodule=data)
    assert module.network is not None
    everything = sum(p.numel() for p in module.network.parameters())
    head = module.network.lm.lm_head.weight.numel()
    watch.extra |= {"parameters": everything, "head_parameters": head}


def _data(task: dict[str, Any], rows: list[list[int]]) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from tts_train_orpheus.stage import OrpheusData

    path = Path(task["folder"]) / f"rows-{len(rows)}.parquet"
    pq.write_table(pa.table({"id": [f"{i:04}" for i in range(len(rows))], "input_ids": rows}), path)
    plan, batch = task.get("plan"), task["batch"]
    padded = task.get("batching") == "padded"

    class Given(OrpheusData):
        def train_batches(self, epoch: int) -> Any:
            if not plan:
                return super().train_batches(epoch)
            size = 1 if plan == "ones" else batch
            return [list(range(i, min(i + size, len(rows)))) for i in range(0, len(rows), size)]

    # A padded batch holds four rows here as it does there; the budget would otherwise halve it.
    budget = 1200 * batch if padded else BUDGET
    options = {"batching": "padded", "batch_size": batch} if padded else {}
    return Given(str(path), max_tokens=budget, val_share=0.0, **options)


def _take_away(task: dict[str, Any]) -> None:
    """Take one lever away from our side."""
    import tts_train.families.token_lm.module as module
    import tts_train.families.token_lm.network.network as network
    import tts_train.nn.chunk_logits as head

    if task.get("plain_head"):
        network.linear_cross_entropy = _plain_head
    if task.get("by_rows"):
        head._BY_COLUMN_FROM = 1 << 60
    if task.get("plain_adamw"):
        module.build_optimizer = lambda of, _: torch.optim.AdamW(
            of.parameters(), lr=LR, weight_decay=0.0, foreach=False, fused=False
        )


def _plain_head(hidden: Tensor, weight: Tensor, targets: Tensor, **_: Any) -> Any:
    from torch.nn.functional import cross_entropy

    from tts_train.nn.linear_cross_entropy import HeadOutput

    logits = hidden @ weight.T
    total = cross_entropy(logits, targets, ignore_index=-100, reduction="sum")
    kept = targets != -100
    return HeadOutput(
        loss_sum=total,
        targets=targets[kept],
        losses=total.detach().expand(int(kept.sum())) / max(1, int(kept.sum())),
        predictions=targets[kept],
    )
