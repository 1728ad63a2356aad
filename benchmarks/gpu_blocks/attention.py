"""Step 2: which kernel each attention of the project takes, and what a new shape costs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from gpu_blocks.job import Job
from gpu_blocks.timing import kernels, once

SITES: dict[str, dict[str, Any]] = {
    "orpheus, generating": {"heads": 24, "keys": 8, "queries": 1, "length": 300, "head": 128},
    "orpheus, padded": {"batch": 4, "heads": 24, "keys": 8, "length": 500, "head": 128, "causal": True},
    "gpt, training": {"batch": 4, "heads": 16, "length": 400, "head": 32, "mask": True, "dropout": 0.1},
    "gpt, generating": {"heads": 16, "queries": 1, "length": 300, "head": 32},
    "sovits, text encoder": {"batch": 4, "heads": 2, "length": 200, "head": 96, "mask": True},
    "cfm, estimator": {"batch": 2, "heads": 16, "length": 400, "head": 64, "mask": True},
}


def run(job: Job) -> None:
    """Try every site as training leaves the switches, and with cuDNN's attention alone."""
    import tts_train.cli  # noqa: F401 - sets the switches that a run has

    with job.record.part("packed"):
        _packed(job)
    for name, site in SITES.items():
        with job.record.part(name):
            names = kernels(_call(job, site), cuda=job.cuda)
            job.record.figure(f"{name}: kernels", [each[:60] for each in names if not each.startswith("Mem")][:4])
            cudnn = [each for each in names if "cudnn" in each.lower()]
            job.record.criterion(f"{name}: no cuDNN attention by default", not cudnn, cudnn or "none", goal="none")
            job.record.figure(f"{name}: a new shape, then again", _new_shape(job, site), "ms")
    if job.needs_card("with cuDNN's attention"):
        for name, site in SITES.items():
            with job.record.part(f"{name}, cuDNN"):
                _cudnn(job, f"{name}, cuDNN", site)


def _cudnn(job: Job, name: str, site: dict[str, Any]) -> None:
    """Measure cuDNN's attention by itself: in which order torch tries the kinds is settled at the first attention."""
    try:
        with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
            names = kernels(_call(job, site), cuda=True)
            took = _new_shape(job, site)
    except RuntimeError as error:
        # The project never takes it, so what it cannot do is no failure.
        job.record.skipped(name, f"cuDNN does not serve it: {str(error)[:160]}")
        return
    job.record.figure(f"{name}: kernels", [each[:60] for each in names][:4])
    job.record.figure(f"{name}: a new shape, then again", took, "ms")


def _new_shape(job: Job, site: dict[str, Any]) -> list[float]:
    _call(job, site)()
    other = _call(job, {**site, "length": site["length"] + 16})
    return [round(once(other, cuda=job.cuda), 2) for _ in range(2)]


def _call(job: Job, site: dict[str, Any]) -> Callable[[], Any]:
    batch, length, head = site.get("batch", 1), site["length"] // (8 if job.tiny else 1), site["head"]
    queries, keys = site.get("queries", length), site.get("keys", site["heads"])
    kind = torch.bfloat16 if job.cuda else torch.float32
    shapes = [(site["heads"], queries), (keys, length), (keys, length)]
    trained = queries > 1
    q, k, v = (
        torch.randn(batch, heads, rows, head, device=job.device, dtype=kind, requires_grad=trained)
        for heads, rows in shapes
    )
    mask = torch.zeros(batch, 1, queries, length, device=job.device, dtype=kind) if site.get("mask") else None

    def call() -> None:
        done = scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=mask,
            dropout_p=site.get("dropout", 0.0),
            is_causal=site.get("causal", False),
            enable_gqa=keys != site["heads"],
        )
        if trained:
            done.sum().backward()

    return call


def _packed(job: Job) -> None:
    from tts_train.nn.packed_attention import packed_attention

    lengths = [60, 37] if job.tiny else [480, 610, 300, 658]
    total = sum(lengths)
    kind = torch.bfloat16 if job.cuda else torch.float32
    q, k, v = (torch.randn(1, heads, total, 128, device=job.device, dtype=kind) for heads in (24, 8, 8))
    ends = torch.tensor([0, *torch.tensor(lengths).cumsum(0).tolist()], dtype=torch.int32, device=job.device)

    def call() -> Any:
        return packed_attention(q, k, v, cu_seqlens=ends, max_seqlen=max(lengths))

    job.record.figure("orpheus, packed: kernels", [each[:60] for each in kernels(call, cuda=job.cuda)][:6])
    job.record.figure(
        "orpheus, packed: a call, then again", [round(once(call, cuda=job.cuda), 2) for _ in range(2)], "ms"
    )
