"""What the parity checks of the stage ``sovits`` share: filled networks, probes, gradients and sums."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, dtype, nn

from tests.figures import Figure
from tests.gpt_sovits.filling import fill_all
from tts_train_gpt_sovits.released.sovits_names import load_upstream, upstream_names


def compare_probe(name: str, expected: Mapping[str, Any], got: Tensor, share: float = 1e-4) -> Iterator[Figure]:
    """Yield the figures of a tensor's probe: its values and sum within ``share`` of its root mean square."""
    flat = got.detach().double().flatten()
    count = expected["numel"]
    yield Figure(f"{name}.numel", count, flat.numel())
    if flat.numel() != count:
        return
    rms = max((expected["sumsq"] / count) ** 0.5, 1e-12)
    index = [i * (count - 1) // 9 for i in range(10)]
    yield Figure(f"{name}.idx", expected["idx"], index)
    yield Figure(f"{name}.values", expected["values"], flat[index].tolist(), tolerance=share * rms)
    yield Figure(f"{name}.sum", expected["sum"], float(flat.sum()), tolerance=share * rms * count**0.5)
    yield Figure(f"{name}.sumsq", expected["sumsq"], float(flat.square().sum()), relative=share)


def gradients(network: nn.Module) -> dict[str, dict[str, Any]]:
    """Return norm and counts of the gradients of each part by its released name."""
    parts: dict[str, list[nn.Parameter]] = {}
    names = upstream_names(network)
    for name, parameter in network.named_parameters():
        for part in (names[name].split(".")[0], "<all>"):
            parts.setdefault(part, []).append(parameter)
    whole = parts.pop("<all>")
    return {part: _norm(parameters) for part, parameters in (*parts.items(), ("<all>", whole))}


def filled(network: nn.Module, *, salt: str, kind: dtype, prefix: str = "") -> nn.Module:
    """Return the network in eval mode with the figures' weights."""
    network = network.to(kind).eval()
    shapes = [(upstream, network.state_dict()[ours].shape) for ours, upstream in upstream_names(network).items()]
    weights = fill_all(shapes, prefix=prefix, salt=salt, dtype=kind)
    load_upstream(network, weights, omitted=("rotary_embed.",))
    return network


def parameter_sums(network: nn.Module) -> dict[str, dict[str, float]]:
    """Return sum and sum of squares of the parameters of each part by its released name."""
    names = upstream_names(network)
    sums: dict[str, dict[str, float]] = {}
    for name, parameter in network.named_parameters():
        part = sums.setdefault(names[name].split(".")[0], {"sum": 0.0, "sumsq": 0.0})
        part["sum"] += float(parameter.detach().sum())
        part["sumsq"] += float(parameter.detach().square().sum())
    return sums


def named(figures: Iterator[Figure], prefix: str) -> Iterator[Figure]:
    """Put ``prefix`` before the names of figures."""
    for figure in figures:
        yield replace(figure, name=prefix + figure.name)


def _norm(parameters: Sequence[nn.Parameter]) -> dict[str, Any]:
    grads = [parameter.grad for parameter in parameters if parameter.grad is not None]
    total = sum(float(grad.double().square().sum()) for grad in grads)
    return {"l2": total**0.5, "params_with_grad": len(grads), "params": len(parameters)}
