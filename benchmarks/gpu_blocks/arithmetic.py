"""A model's arithmetic a token, and what cards can do by their makers' data sheets."""

from __future__ import annotations

from typing import Any

import torch

PEAKS = {"H200": 989, "H100 PCIe": 756, "H100": 989, "A100": 312, "L40S": 362, "A10G": 70, "RTX 4090": 165, "L4": 121}
"""Dense bf16 TFLOP/s; the first name that the card's name holds counts."""


def share_of_peak(measured: Any) -> float | None:
    """Return the share of the card's bf16 peak that a run reached, recomputation not counted; None off a known card."""
    peak = peak_tflops()
    if peak is None:
        return None
    length = float(measured.timed_work) / max(1, measured.documents)
    return measured.speed * flops_a_token(measured.module, length) / 1e12 / peak


def peak_tflops() -> float | None:
    """Return the card's dense bf16 peak, if it is a card that is known."""
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    return next((peak for card, peak in PEAKS.items() if card in name), None)


def flops_a_token(module: Any, length: float) -> float:
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
