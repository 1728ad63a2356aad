"""Step 8: transformers' Trainer, with PEFT for adapters, on the same rows and weights."""

from __future__ import annotations

import time
from typing import Any

import torch

from gpu_blocks.fits import clean, release
from gpu_blocks.job import Job
from gpu_blocks.recipes import Run, measure
from gpu_blocks.sets import orpheus_rows
from gpu_blocks.watch import GIB
from gpu_blocks.weights import llama

IGNORED = -100
ALLOWED = 1e-4
TOKENS = 8192
STEPS, WARM = 8, 3
SIDES = {
    "lora, batch 8 padded": {"method": "lora", "batch": 8, "optim": "adamw_bnb_8bit"},
    "lora, batch 1": {"method": "lora", "batch": 1, "optim": "adamw_bnb_8bit"},
    "full, batch 8 padded": {"method": "full", "batch": 8, "optim": "adamw_bnb_8bit"},
    "full, batch 1, adamw fused": {"method": "full", "batch": 1, "optim": "adamw_torch_fused"},
}
_DRY = ("lora, batch 8 padded",)
OURS = {"lora": "lm-lora", "full": "lm-full-24gb"}


def run(job: Job) -> None:
    """Run the peers, then this project's recipes, and compare; each side is told the same rows in its own order."""
    figures: dict[str, dict[str, float]] = {}
    for name, side in SIDES.items():
        if job.tiny and name not in _DRY:
            job.record.skipped(name, "one peer is enough for a dry run")
            continue
        with job.record.part(name):
            figures[name] = _peer(job, side)
            _write(job, f"Trainer, {name}", figures[name])
        clean(job)
    for method, recipe in OURS.items():
        if job.tiny and method != "lora":
            continue
        with job.record.part(f"ours, {method}"):
            own = _ours(job, recipe)
            _write(job, f"ours, {method}", own)
            _compare(job, method, own, {name: each for name, each in figures.items() if name.startswith(method)})
    with job.record.part("the same loss at step 1"):
        _first_loss(job)


def _write(job: Job, name: str, figures: dict[str, float]) -> None:
    job.record.figure(f"{name}: tokens/s", figures["speed"], "tokens/s")
    if job.cuda:
        job.record.figure(f"{name}: tensors at the peak", figures["peak"] / GIB, "GiB")


def _compare(job: Job, method: str, own: dict[str, float], peers: dict[str, dict[str, float]]) -> None:
    if not job.needs_card(f"{method}: against the peers") or not peers:
        return
    best = max(each["speed"] for each in peers.values())
    goal = f"above the best peer's {best:,.0f} tokens/s"
    job.record.criterion(f"{method}: faster than Trainer", own["speed"] > best, own["speed"], goal=goal)
    # A batch of 8 rows is about as many tokens as ours; one of a single row is a sixteenth of them.
    alike = [each["peak"] for name, each in peers.items() if "batch 8" in name]
    if not alike:
        job.record.skipped(f"{method}: smaller than Trainer", "the peer with a batch of 8 has no figures")
        return
    goal = f"below the {min(alike) / GIB:.2f} GiB of the peer with a batch of 8"
    job.record.criterion(f"{method}: smaller than Trainer", own["peak"] < min(alike), own["peak"] / GIB, goal=goal)


def _ours(job: Job, recipe: str) -> dict[str, float]:
    measured = measure(job, Run(recipe, TOKENS, STEPS))
    figures = {"speed": measured.speed, "peak": float(measured.peak_bytes)}
    release(job, measured)
    return figures


def _network(job: Job, sizes: dict[str, int], method: str, *, dtype: torch.dtype = torch.bfloat16) -> Any:
    from tts_train.families.token_lm.network.start import TinyOptions
    from tts_train_orpheus.model import tiny_config

    lm = llama(tiny_config(TinyOptions(**sizes)), dtype=dtype, device=job.device)
    lm.model.rotary_emb.to(job.device)
    lm.set_attn_implementation("sdpa")
    lm.config.use_cache = False
    if method == "lora":
        from peft import LoraConfig, get_peft_model

        names = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
        lm.enable_input_require_grads()
        return get_peft_model(lm, LoraConfig(r=64, lora_alpha=64, target_modules=names, task_type="CAUSAL_LM"))
    return lm


def _peer(job: Job, side: dict[str, Any]) -> dict[str, float]:
    from torch.utils.data import SequentialSampler
    from transformers import Trainer, TrainerCallback, TrainingArguments

    # In a dry run a plain optimiser: bitsandbytes' own has no kernels for a CPU.
    tokens, batch, optim = (130, 2, "adamw_torch_fused") if job.tiny else (1100, side["batch"], side["optim"])
    steps = 4 if job.tiny else STEPS if batch > 1 else 3 * STEPS
    _, rows = orpheus_rows(job.folder("data"), tokens=tokens, batches=1 + steps * batch // 2)
    rows = rows[: steps * batch]
    items = [{"input_ids": row, "labels": row, "attention_mask": [1] * len(row)} for row in rows]
    marks: list[float] = []

    class Ordered(Trainer):
        def _get_train_sampler(self, *_: Any) -> SequentialSampler:
            return SequentialSampler(items)

    class Watch(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == 1 and job.cuda:
                torch.cuda.reset_peak_memory_stats()
            if state.global_step in (WARM, steps):
                if job.cuda:
                    torch.cuda.synchronize()
                marks.append(time.perf_counter())

    arguments = TrainingArguments(
        output_dir=str(job.folder("peer")),
        per_device_train_batch_size=batch,
        max_steps=steps,
        learning_rate=2e-5,
        lr_scheduler_type="constant",
        optim=optim,
        bf16=True,
        gradient_checkpointing=True,
        gradient_checkpointing_kwargs={"use_reentrant": False},
        logging_steps=10_000,
        save_strategy="no",
        report_to=[],
        use_cpu=not job.cuda,
        disable_tqdm=True,
        dataloader_num_workers=0 if job.tiny else 2,
        seed=0,
    )
    network = _network(job, job.sizes, side["method"])
    Ordered(model=network, args=arguments, train_dataset=items, data_collator=_pad, callbacks=[Watch()]).train()
    counted = sum(map(len, rows[WARM * batch : steps * batch]))
    peak = float(torch.cuda.max_memory_allocated()) if job.cuda else 0.0
    return {"speed": counted / max(marks[1] - marks[0], 1e-9), "peak": peak}


def _pad(items: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
    from tts_train_orpheus.layout import PAD

    longest = max(len(item["input_ids"]) for item in items)
    fills = {"input_ids": PAD, "labels": IGNORED, "attention_mask": 0}
    return {
        name: torch.tensor([item[name] + [fill] * (longest - len(item[name])) for item in items])
        for name, fill in fills.items()
    }


def _first_loss(job: Job) -> None:
    """Compare the loss of one batch of documents: padded there, packed here, from the same weights.

    In float32, and with a small network: the mean loss of one of chance is nearly that of guessing whatever its
    attention does, so only rounding may be between the two. Positions that begin nowhere make 1e-3, documents that see
    each other 6e-2.
    """
    from tts_train.families.token_lm.network.network import TokenNetwork
    from tts_train_orpheus.layout import LAYOUT

    rows = orpheus_rows(job.folder("loss"), tokens=130 if job.tiny else 1100, batches=4)[1][:4]
    lm = _network(job, job.small, "full", dtype=torch.float32)
    padded = {
        name: value.to(job.device)
        for name, value in _pad(
            [{"input_ids": row, "labels": row, "attention_mask": [1] * len(row)} for row in rows]
        ).items()
    }
    with torch.no_grad():
        theirs = float(lm(**padded).loss)
        ours = _packed_loss(job, TokenNetwork(lm, LAYOUT), rows)
    ok = abs(ours - theirs) < ALLOWED
    job.record.criterion("the same loss at step 1", ok, [ours, theirs], goal=f"{ALLOWED:g} apart")


def _packed_loss(job: Job, network: Any, rows: list[list[int]]) -> float:
    import numpy as np

    from tts_train.families.token_lm.data.batch import Document, pack_documents
    from tts_train.nn.packed_attention import register
    from tts_train_orpheus.layout import LAYOUT

    network.lm.set_attn_implementation(register())
    batch = pack_documents([Document(str(index), np.array(row)) for index, row in enumerate(rows)], LAYOUT)
    moved = {name: value.to(job.device) if isinstance(value, torch.Tensor) else value for name, value in batch.items()}
    output = network(moved)
    return float(output.loss_sum) / float(output.count)
