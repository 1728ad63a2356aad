"""Every figure of the reference's small Llamas, recomputed with our network, attention, head and optimiser."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import LlamaConfig

from tests.figures import Figure, unknown
from tests.orpheus.family import OrpheusNetwork, kept_targets
from tts_train.families.token_lm.network.adapters import LoraOptions, apply_method, merge, trainable_parameters
from tts_train.families.token_lm.network.network import HeadOptions
from tts_train.families.token_lm.network.start import empty_network
from tts_train.optim import OptimizerOptions
from tts_train.optim.build import build_optimizer

LOSS = 1e-5
"""The reference's tolerance for losses; gradient norms and logits get it as a share of their size besides."""

_IGNORE = -100
_PROBES = 24
_DESCRIPTIVE = {"salt", "name", "config", "sequences", "cases", "kind", "seed"}
_MASK = 0xFFFFFFFF


def check(data: dict[str, Any]) -> Iterator[Figure]:
    """Yield a figure for every value in a ``llama_tiny`` file."""
    for key, value in data.items():
        if key in _RULES:
            yield from _RULES[key](_Reference(data), value)
        elif key not in _DESCRIPTIVE or (key == "cases" and value):
            yield unknown(key, value)


class _Reference:
    """The file's networks and batches."""

    def __init__(self, data: dict[str, Any]) -> None:
        self.config: dict[str, Any] = data["config"]
        self.salt: str = data.get("salt", "")
        self.sequences: list[list[int]] = data["sequences"]

    def network(self) -> OrpheusNetwork:
        """Build and fill the network; chunks are small so that there are several."""
        given = dict(self.config)
        rope = {"rope_theta": given.pop("rope_theta"), **given.pop("rope_scaling")}
        config = LlamaConfig(**given, rope_parameters=rope, max_position_embeddings=131072)
        network = OrpheusNetwork(empty_network(config, dtype=torch.float32), HeadOptions(chunk_tokens=16))
        for name, parameter in network.lm.named_parameters():
            parameter.data = self.fill(name, parameter)
        return network.train()

    def fill(self, name: str, parameter: Tensor) -> Tensor:
        """Fill by parameter name: norms near 1, tables at 0.1, other matrices by fan-in."""
        r = 2 * self.uniform(name, parameter.numel()) - 1
        if "norm" in name:
            values = 1 + 0.1 * r
        elif "embed_tokens" in name or "lm_head" in name:
            values = 0.1 * r
        else:
            values = r * (1.5 / math.sqrt(parameter.shape[1]))
        return torch.from_numpy(values).to(torch.float32).reshape(parameter.shape)

    def uniform(self, name: str, size: int) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Return the reference's hash of 0..size-1 in [0, 1)."""
        h = np.arange(size, dtype=np.uint64) * 0x9E3779B1 + zlib.crc32((self.salt + name).encode())
        h &= _MASK
        h ^= h >> 16
        h = h * 0x85EBCA6B & _MASK
        h ^= h >> 13
        h = h * 0xC2B2AE35 & _MASK
        h ^= h >> 16
        return h.astype(np.float64) / 2**32

    def packed(self, sequences: list[list[int]] | None = None) -> dict[str, Any]:
        """One row of documents that do not see each other."""
        chosen = self.sequences if sequences is None else sequences
        lengths = torch.tensor([len(sequence) for sequence in chosen])
        return _batch(
            [list(chain(*chosen))],
            [list(chain(*map(_next, chosen)))],
            [[i for sequence in chosen for i in range(len(sequence))]],
            torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)]).int(),
            lengths=lengths.tolist(),
        )

    def padded(self, ignore_before: float = 0.0) -> dict[str, Any]:
        """One row a sequence, padded on the right with 0; labels in the first share are ignored."""
        width = max(map(len, self.sequences))
        fill = [width - len(sequence) for sequence in self.sequences]
        labels = [
            [_IGNORE] * int(ignore_before * len(sequence)) + sequence[int(ignore_before * len(sequence)) :]
            for sequence in self.sequences
        ]
        return _batch(
            [sequence + [0] * n for sequence, n in zip(self.sequences, fill, strict=True)],
            [_next(row) + [_IGNORE] * n for row, n in zip(labels, fill, strict=True)],
            [list(range(width)) for _ in self.sequences],
            lengths=[len(sequence) for sequence in self.sequences],
        )

    def chained(self) -> dict[str, Any]:
        """One document of everything, as if there were no boundaries."""
        return self.packed([list(chain(*self.sequences))])


def _batch(
    ids: list[list[int]],
    targets: list[list[int]],
    positions: list[list[int]],
    cu_seqlens: Tensor | None = None,
    *,
    lengths: list[int],
) -> dict[str, Any]:
    tensors = {"input_ids": ids, "targets": targets, "position_ids": positions}
    batch: dict[str, Any] = {name: torch.tensor(rows) for name, rows in tensors.items()}
    documents = {"cu_seqlens": cu_seqlens, "max_seqlen": max(lengths), "lengths": lengths}
    return {**batch, **documents, **kept_targets(batch["targets"]), "audio_seconds": 0.0, "ids": []}


def _next(sequence: list[int]) -> list[int]:
    return [*sequence[1:], _IGNORE]


def _params(reference: _Reference, value: Any) -> Iterator[Figure]:
    yield Figure("params", value, [[n, list(p.shape)] for n, p in reference.network().lm.named_parameters()])


def _single(reference: _Reference, value: list[dict[str, Any]]) -> Iterator[Figure]:
    for i, (sequence, case) in enumerate(zip(reference.sequences, value, strict=True)):
        got = _single_case(reference, sequence)
        for key, expected in case.items():
            if key in got:
                exact = key in ("n", "last_logits_top5")
                yield Figure(f"single[{i}].{key}", expected, got[key], *((0.0, 0.0) if exact else (LOSS, LOSS)))
            else:
                yield unknown(f"single[{i}].{key}", expected)


def _single_case(reference: _Reference, sequence: list[int]) -> dict[str, Any]:
    network, batch = reference.network(), reference.packed([sequence])
    output = network(batch)
    output.loss.backward()
    with torch.no_grad():
        logits = network.hidden_states(batch)[0] @ network.lm.lm_head.weight.T
    flat = logits.flatten()
    probes = [(2654435761 * i + 17) % flat.numel() for i in range(_PROBES)]
    return {
        "n": len(sequence),
        "loss_mean": output.loss.item(),
        "nll_sum": output.head.losses.double().sum().item(),
        "logits": {str(index): flat[index].item() for index in probes},
        "grad_norms": {n: p.grad.double().norm().item() for n, p in network.lm.named_parameters()},
        "last_logits_top5": logits[-1].topk(5).indices.tolist(),
    }


def _batch_rule(name: str, make: Callable[[_Reference], dict[str, Any]]) -> Callable[..., Iterator[Figure]]:
    def rule(reference: _Reference, value: dict[str, Any]) -> Iterator[Figure]:
        network = reference.network()
        output = network(make(reference))
        output.loss.backward()
        norms = [p.grad.double().norm() for p in network.parameters() if p.grad is not None]
        got = {
            "loss": output.loss.item(),
            "grad_norm_total": torch.stack(norms).norm().item(),
            "targets": output.count,
            "rule": "labels[:int(0.4*n)] = -100",
        }
        for key, expected in value.items():
            if key not in got:
                yield unknown(f"{name}.{key}", expected)
            else:
                yield Figure(f"{name}.{key}", expected, got[key], *(() if key in ("targets", "rule") else (LOSS, LOSS)))

    return rule


def _token_mean(reference: _Reference, value: float) -> Iterator[Figure]:
    outputs = [reference.network()(reference.packed([sequence])) for sequence in reference.sequences]
    mean = sum(o.loss_sum.item() for o in outputs) / sum(o.count for o in outputs)
    yield Figure("token_mean_over_all", value, mean, LOSS)


def _sequence_mean(reference: _Reference, value: float) -> Iterator[Figure]:
    losses = [reference.network()(reference.packed([sequence])).loss.item() for sequence in reference.sequences]
    yield Figure("mean_of_sequence_means", value, sum(losses) / len(losses), LOSS)


def _targets(reference: _Reference, value: int) -> Iterator[Figure]:
    yield Figure("targets", value, reference.network()(reference.packed()).count)


def _adamw(reference: _Reference, value: dict[str, Any]) -> Iterator[Figure]:
    network, batch = reference.network(), reference.packed()
    options = OptimizerOptions(lr=value["lr"], weight_decay=value["wd"], decay="all")
    steps = _train(network, batch, options, len(value["loss_gradnorm"]), clip=value["clip"])
    for key, expected in value.items():
        if key == "loss_gradnorm":
            yield Figure(f"adamw_full.{key}", expected, steps, LOSS, LOSS)
        elif key not in ("lr", "wd", "clip"):
            yield unknown(f"adamw_full.{key}", expected)


def _train(
    network: OrpheusNetwork, batch: dict[str, Any], options: OptimizerOptions, steps: int, *, clip: float
) -> list[list[float]]:
    optimizer = build_optimizer(network, options)
    history = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = network(batch).loss
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(trainable_parameters(network).values(), clip)
        optimizer.step()
        history.append([loss.item(), norm.item()])
    return history


def _lora_rule(name: str, *, rslora: bool) -> Callable[..., Iterator[Figure]]:
    def rule(reference: _Reference, value: dict[str, Any]) -> Iterator[Figure]:
        got = _lora(reference, LoraOptions(rank=value["r"], alpha=value["alpha"], rslora=rslora), value)
        for key, expected in value.items():
            if key in got:
                yield Figure(f"{name}.{key}", expected, got[key], *((0.0,) if key in _EXACT else (LOSS, LOSS)))
            elif key not in ("r", "alpha", "lr", "init"):
                yield unknown(f"{name}.{key}", expected)

    return rule


_EXACT = {"lora_A_name_example"}


def _lora(reference: _Reference, options: LoraOptions, value: dict[str, Any]) -> dict[str, Any]:
    network, batch = reference.network(), reference.packed()
    apply_method(network, "lora", options)
    for name, parameter in network.lm.named_parameters():
        if ".lora_A." in name:
            r = 0.2 * (2 * reference.uniform(f"base_model.model.{name}", parameter.numel()) - 1)
            parameter.data = torch.from_numpy(r).float().reshape(parameter.shape)
        elif ".lora_B." in name:
            parameter.data.zero_()
    optimizer = OptimizerOptions(lr=value["lr"])
    history = _train(network, batch, optimizer, len(value["losses"]), clip=math.inf)
    scaling = network.lm.model.layers[0].self_attn.q_proj.scaling["default"]
    names = [f"base_model.model.{n}".replace(".base_layer", "") for n, _ in network.lm.named_parameters()]
    with torch.no_grad():
        adapted = network(batch).loss.item()
        merge(network)
        merged = network(batch).loss.item()
    return {
        "scaling": scaling,
        "losses": [loss for loss, _ in history],
        "final_loss_adapter": adapted,
        "final_loss_merged": merged,
        "lora_A_name_example": names[:2],
    }


_RULES: dict[str, Callable[..., Iterator[Figure]]] = {
    "params": _params,
    "single": _single,
    "token_mean_over_all": _token_mean,
    "mean_of_sequence_means": _sequence_mean,
    "targets": _targets,
    "padded_batch": _batch_rule("padded_batch", _Reference.padded),
    "chained_naive": _batch_rule("chained_naive", _Reference.chained),
    "packed_masked": _batch_rule("packed_masked", _Reference.packed),
    "completion_only": _batch_rule("completion_only", lambda reference: reference.padded(0.4)),
    "adamw_full": _adamw,
    "lora": _lora_rule("lora", rslora=False),
    "lora_rs": _lora_rule("lora_rs", rslora=True),
}
