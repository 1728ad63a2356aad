"""How figures of the text-to-semantic stage are measured and compared."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from tests.figures import Figure, unknown
from tts_train_gpt_sovits.networks.gpt.network import GptNetwork
from tts_train_gpt_sovits.released.gpt_names import upstream_name

_LOSS = {torch.float32: 1e-4, torch.float64: 1e-5}
_GRADIENT = {torch.float32: 1e-3, torch.float64: 1e-4}
_PROBE = 1e-4


def compared(where: str, expected: Mapping[str, Any], got: Mapping[str, Any], dtype: torch.dtype) -> Iterator[Figure]:
    """Yield a figure for each field of a case with the tolerance of its kind; unknown fields fail."""
    for name, value in expected.items():
        place = f"{where}.{name}"
        if name not in got:
            yield unknown(place, value)
        elif isinstance(value, dict) and "sumsq" in value and "idx" in value:
            yield from _probed(place, value, got[name])
        elif name == "final_param_sums":
            yield from _summed(place, value, got[name])
        elif name == "grad_l2":
            yield Figure(place, value, got[name], relative=_GRADIENT[dtype])
        elif name == "dpo_term":
            # The term is a function of a difference of log-probabilities, whose tolerance is that of the losses.
            scale = 0.2 * sum(abs(each) for each in expected["chosen_logps"]) / len(expected["chosen_logps"])
            yield Figure(place, value, got[name], relative=max(_LOSS[dtype] * scale, _LOSS[dtype]), tolerance=1e-15)
        elif name == "top3_acc":
            yield Figure(place, value, got[name], tolerance=1e-6)
        else:
            yield Figure(place, value, got[name], relative=_LOSS[dtype])


def _probed(where: str, expected: dict[str, Any], got: dict[str, Any]) -> Iterator[Figure]:
    rms = math.sqrt(expected["sumsq"] / max(expected["numel"], 1))
    for name, value in expected.items():
        allowed = {"sum": _PROBE * math.sqrt(expected["sumsq"]), "sumsq": _PROBE * expected["sumsq"]}
        yield Figure(f"{where}.{name}", value, got.get(name), tolerance=allowed.get(name, _PROBE * rms))


def _summed(where: str, expected: dict[str, Any], got: dict[str, Any]) -> Iterator[Figure]:
    for child, sums in expected.items():
        yield Figure(f"{where}.{child}", sums, got.get(child), tolerance=_PROBE * math.sqrt(sums["sumsq"]))


def equal(where: str, expected: dict[str, Any], got: dict[str, Any], tolerance: float) -> Iterator[Figure]:
    for name in [*expected, *(set(got) - set(expected))]:
        yield Figure(f"{where}.{name}", expected.get(name), got.get(name), tolerance=tolerance, relative=tolerance)


def probe(tensor: Tensor) -> dict[str, Any]:
    flat = tensor.detach().double().flatten()
    places = [(i * (len(flat) - 1)) // 9 for i in range(10)]
    return {
        "numel": len(flat),
        "sum": flat.sum().item(),
        "sumsq": flat.square().sum().item(),
        "idx": places,
        "values": flat[places].tolist(),
    }


def gradients(network: GptNetwork) -> dict[str, dict[str, float]]:
    """Return the gradients' norms of upstream's top-level modules and of all."""
    found: dict[str, dict[str, float]] = {}
    for name, parameter in network.named_parameters():
        for child in (upstream_name(name).split(".")[1], "<all>"):
            entry = found.setdefault(child, {"l2": 0.0, "params_with_grad": 0, "params": 0})
            entry["params"] += 1
            if parameter.grad is not None:
                entry["params_with_grad"] += 1
                entry["l2"] += parameter.grad.double().square().sum().item()
    everything = found.pop("<all>")
    ordered = {**found, "<all>": everything}
    return {child: {**entry, "l2": math.sqrt(entry["l2"])} for child, entry in ordered.items()}
