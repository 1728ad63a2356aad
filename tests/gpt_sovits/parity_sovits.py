"""Recompute the reference figures of the stage ``sovits``; the fields of a file tell which kind it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from tests.figures import Figure, unknown
from tests.gpt_sovits import parity_audio, parity_cfm
from tests.gpt_sovits.filling import inputs
from tests.gpt_sovits.parity_sovits_case import CaseRun
from tests.gpt_sovits.sovits_figures import compare_probe, filled, named
from tts_train_gpt_sovits.networks.sovits.quantizer import Quantizer


def check(data: dict[str, Any]) -> Iterator[Figure]:
    """Yield every figure of a file of this stage."""
    if isinstance(data.get("cases"), dict):
        yield from _cases(data)
    elif "dit_kwargs" in data:
        yield from parity_cfm.check(data)
    else:
        yield from parity_audio.check(data)


def _cases(data: dict[str, Any]) -> Iterator[Figure]:
    for field in data.keys() - {"salt", "cases", "quantizer_unfrozen", "frames", "text_lens"}:
        yield unknown(field, data[field])
    for version, case in data["cases"].items():
        frames, texts = (case.get(field, data.get(field)) for field in ("frames", "text_lens"))
        for kind, expected in case.items():
            if kind in ("float32", "float64"):
                run = CaseRun(data["salt"], version, case["model_kwargs"], frames, texts, kind)
                yield from named(run.check(expected), f"{version}.{kind}.")
            elif kind not in ("model_kwargs", "frames", "text_lens"):
                yield unknown(f"{version}.{kind}", expected)
    for kind, expected in data.get("quantizer_unfrozen", {}).items():
        yield from named(_quantizer(expected, data["salt"], getattr(torch, kind)), f"quantizer_unfrozen.{kind}.")


def _quantizer(expected: dict[str, Any], salt: str, dtype: torch.dtype) -> Iterator[Figure]:
    quantizer = Quantizer(
        expected["bins"], expected["dimension"], decay=expected["decay"], epsilon=expected["epsilon"], dead_below=0.0
    )
    holder = nn.ModuleDict({"quantizer": quantizer})
    filled(holder, salt=salt, kind=dtype)
    quantizer.train()
    features = inputs("vq.x", expected["x_shape"], salt=salt, dtype=dtype).requires_grad_()
    values, codes, commitment = quantizer(features)
    weights = inputs("vq.w", expected["x_shape"], salt=salt, dtype=dtype)
    (commitment + (values * weights).sum()).backward()
    yield Figure("codes", expected["codes"], codes.tolist())
    yield Figure("commit_loss", expected["commit_loss"], float(commitment.detach()), relative=1e-5)
    assert features.grad is not None
    for name, tensor in (
        ("quantized", values),
        ("grad_x", features.grad),
        ("cluster_size_after", quantizer.counts),
        ("embed_avg_after", quantizer.sums),
        ("embed_after", quantizer.embedding),
    ):
        yield from compare_probe(name, expected[name], tensor)
