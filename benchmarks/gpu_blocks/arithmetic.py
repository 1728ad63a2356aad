"""A model's arithmetic a token, and what cards can do by their makers' data sheets."""

from __future__ import annotations

import re
from typing import Any

import torch

from tts_train.memory.cards import CARDS

SLOWER = {"H100 PCIe": 756, "A10G": 70}
"""Dense bf16 TFLOP/s of cards that a plan does not tell from faster ones of nearly the same name."""


def share_of_peak(measured: Any) -> float | None:
    """Return the share of the card's bf16 peak that a run reached, recomputation not counted; None off a known card."""
    peak = peak_tflops()
    if peak is None:
        return None
    length = float(measured.timed_work) / max(1, measured.documents)
    return measured.speed * flops_a_token(measured.module, length) / 1e12 / peak


def peak_tflops() -> float | None:
    """Return the card's dense bf16 peak, if it is a card that is known."""
    return peak_of(torch.cuda.get_device_name()) if torch.cuda.is_available() else None


def peak_of(device: str) -> float | None:
    """Return the dense bf16 TFLOP/s of a card by the name that its driver gives, such as ``NVIDIA H100 80GB HBM3``."""
    peaks = SLOWER | {re.sub(r" \d+GB$", "", card.name): card.half_flops / 1e12 for card in CARDS}
    words = set(re.split(r"[ -]", device))
    named = [name for name in peaks if words.issuperset(name.split())]
    return peaks[max(named, key=len)] if named else None


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
