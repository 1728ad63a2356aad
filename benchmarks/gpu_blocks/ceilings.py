"""Step 1: what the card itself can do, in the shapes that count here."""

from __future__ import annotations

import torch

from gpu_blocks.arithmetic import peak_tflops
from gpu_blocks.job import Job
from gpu_blocks.timing import on_device
from tts_train.nn.chunk_logits import row_stride
from tts_train_orpheus.layout import VOCAB_SIZE

PADDED = row_stride(VOCAB_SIZE)
"""Rows of the output matrix, up to the next multiple of 64."""


def run(job: Job) -> None:
    """Time copies, products and the 8-bit optimiser."""
    parts = {"copy": _copy, "product": _product, "output layer": _output_layer, "adamw8bit": _adamw8bit}
    for name, part in parts.items():
        with job.record.part(name):
            part(job)


def _copy(job: Job) -> None:
    count = 2**20 if job.tiny else 2**30
    source = torch.empty(count, dtype=torch.bfloat16, device=job.device)
    target = torch.empty_like(source)
    took = on_device(lambda: target.copy_(source), cuda=job.cuda)
    job.record.figure("copy, read and written", 2 * source.nbytes / took / 1e9, "TB/s")
    if job.needs_card("host copies"):
        host = torch.empty(2**28, dtype=torch.uint8, pin_memory=True)
        card = torch.empty(2**28, dtype=torch.uint8, device=job.device)
        for name, copy in (("to the card", lambda: card.copy_(host)), ("to the host", lambda: host.copy_(card))):
            took = on_device(copy, cuda=True, times=4)
            job.record.figure(f"pinned copy {name}", host.nbytes / took / 1e6, "GB/s")


def _product(job: Job) -> None:
    side = 256 if job.tiny else 8192
    a, b = (torch.randn(side, side, device=job.device, dtype=torch.bfloat16) for _ in range(2))
    took = on_device(lambda: a @ b, cuda=job.cuda)
    job.record.figure(f"bf16 product of {side} cubed", 2 * side**3 / took / 1e9, "TFLOP/s")
    if peak := peak_tflops():
        job.record.figure("share of the maker's peak", 100 * 2 * side**3 / took / 1e9 / peak, "%")


def _output_layer(job: Job) -> None:
    """Time the three products of a chunk of 1,024 tokens: logits, and the gradients of states and matrix."""
    tokens, width = (8, 64) if job.tiny else (1024, job.sizes["hidden"])
    hidden = torch.randn(tokens, width, device=job.device, dtype=torch.bfloat16)
    cases = {
        f"{VOCAB_SIZE} columns": (VOCAB_SIZE, VOCAB_SIZE),
        f"{VOCAB_SIZE} columns, rows {PADDED} apart": (VOCAB_SIZE, PADDED),
        f"{PADDED} columns": (PADDED, PADDED),
    }
    for name, (columns, stride) in cases.items():
        weight = torch.randn(columns, width, device=job.device, dtype=torch.bfloat16)
        logits = torch.zeros(tokens, stride, device=job.device, dtype=torch.bfloat16)[:, :columns]
        states, grown = torch.empty_like(hidden), torch.empty_like(weight)
        products = {
            "logits": lambda w=weight, to=logits: torch.mm(hidden, w.T, out=to),
            "gradient of the states": lambda w=weight, of=logits, to=states: torch.mm(of, w, out=to),
            "gradient of the matrix": lambda of=logits, to=grown: torch.mm(of.T, hidden, out=to),
        }
        work = 2 * tokens * width * columns
        speeds = {
            product: round(work / on_device(call, cuda=job.cuda, times=2 if job.tiny else 5, warm=1) / 1e9, 1)
            for product, call in products.items()
        }
        job.record.figure(f"output layer, {name}", speeds, "TFLOP/s")


def _adamw8bit(job: Job) -> None:
    from tts_train.optim import OptimizerOptions
    from tts_train.optim.build import build_optimizer

    count = 2**16 if job.tiny else 2**27
    module = torch.nn.Module()
    module.weight = torch.nn.Parameter(torch.zeros(count // 1024, 1024, dtype=torch.bfloat16, device=job.device))
    module.weight.grad = torch.ones_like(module.weight)
    optimizer = build_optimizer(module, OptimizerOptions(name="adamw8bit", lr=1e-5))
    took = on_device(optimizer.step, cuda=job.cuda, times=5)
    # Gradient read, weight and two states of a byte read and written.
    job.record.figure("adamw8bit step", count * (2 + 4 + 4) / took / 1e6, "GB/s")
