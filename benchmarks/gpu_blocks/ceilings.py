"""Step 1: what the card itself can do, in the shapes that count here."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

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
        products: dict[str, Callable[[], object]] = {
            "logits": lambda w=weight, to=logits: torch.mm(hidden, w.T, out=to),
            "gradient of the states": lambda w=weight, of=logits, to=states: torch.mm(of, w, out=to),
            "gradient of the matrix": lambda of=logits, to=grown: torch.mm(of.T, hidden, out=to),
        }
        _speeds(job, name, products, 2 * tokens * width * columns)
    _in_two(job, hidden)


def _speeds(job: Job, name: str, products: dict[str, Callable[[], object]], work: int) -> None:
    times = 2 if job.tiny else 5
    speeds = {
        product: round(work / on_device(call, cuda=job.cuda, times=times, warm=1) / 1e9, 1)
        for product, call in products.items()
    }
    job.record.figure(f"output layer, {name}", speeds, "TFLOP/s")


def in_two(hidden: Tensor, weight: Tensor, logits: Tensor) -> dict[str, Callable[[], Tensor]]:
    """Return the three products, each as one of a multiple of 64 columns and one of the few that are left.

    An H200 multiplies a matrix of 156,992 columns three times as fast as one of 156,940, and rows that are only so far
    apart help the matrix's gradient alone; this may get the speed without a padded matrix.
    """
    whole = weight.shape[0] // 64 * 64
    parts = slice(None, whole), slice(whole, None)
    states, grown = torch.empty_like(hidden), torch.empty_like(weight)

    def forward() -> Tensor:
        for part in parts:
            torch.mm(hidden, weight[part].T, out=logits[:, part])
        return logits

    def to_states() -> Tensor:
        torch.mm(logits[:, parts[0]], weight[parts[0]], out=states)
        return states.addmm_(logits[:, parts[1]], weight[parts[1]])

    def to_matrix() -> Tensor:
        for part in parts:
            torch.mm(logits[:, part].T, hidden, out=grown[part])
        return grown

    return {"logits": forward, "gradient of the states": to_states, "gradient of the matrix": to_matrix}


def _in_two(job: Job, hidden: Tensor) -> None:
    tokens, width = hidden.shape
    weight = torch.randn(VOCAB_SIZE, width, device=job.device, dtype=hidden.dtype)
    logits = torch.zeros(tokens, PADDED, device=job.device, dtype=hidden.dtype)[:, :VOCAB_SIZE]
    name = f"{VOCAB_SIZE} columns in two products, rows {PADDED} apart"
    _speeds(job, name, dict(in_two(hidden, weight, logits)), 2 * tokens * width * VOCAB_SIZE)


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
