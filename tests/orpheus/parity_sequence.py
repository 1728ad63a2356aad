"""Reference figures about ids: frames, rows and labels, and the rotary frequencies of the real model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tests.figures import Figure, unknown
from tts_train_orpheus import layout
from tts_train_orpheus.prompt import speech_row

ROPE_RELATIVE = 1e-6
ORPHEUS_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
_DESCRIPTIONS = {"name", "note", "rule", "salt", "cases"}


def check(data: dict[str, Any]) -> Iterator[Figure]:
    """Yield every figure of an ``orpheus_sequence`` or ``rope_orpheus`` file."""
    known = {"audio_base": layout.AUDIO_BASE}
    if "inv_freq" in data:
        known["inv_freq"] = _inverse_frequencies()
    for name in (name for name in data if name not in _DESCRIPTIONS):
        if name in known:
            yield Figure(name, data[name], known[name], relative=ROPE_RELATIVE if name == "inv_freq" else 0.0)
        else:
            yield unknown(name, data[name])
    for number, case in enumerate(data.get("cases", [])):
        yield from _case(f"case {number}", case)


def _case(where: str, case: dict[str, Any]) -> Iterator[Figure]:
    flat = layout.codes_to_tokens(case["codes"])
    kept, dropped = layout.drop_repeated_frames(flat)
    row = speech_row(case["text_ids"], kept)
    ours = {
        "frames": len(flat) // layout.SLOTS,
        "codes": [level.tolist() for level in layout.tokens_to_codes(case["flat"])],
        "flat": flat.tolist(),
        "dedup": kept.tolist(),
        "dropped_frames": dropped,
        "input_ids": row.input_ids.tolist(),
        "labels_full": row.input_ids.tolist(),
        "labels_speech_only": np.where(row.spoken, row.input_ids, -100).tolist(),
        "n_prompt": row.prompt,
        "samples_full": len(flat) // layout.SLOTS * layout.FRAME_SAMPLES,
    }
    for name, expected in case.items():
        if name in ours:
            yield Figure(f"{where} {name}", expected, ours[name])
        elif name != "text_ids":
            yield unknown(f"{where} {name}", expected)


def _inverse_frequencies() -> list[float]:
    """Return what transformers makes of the real model's numbers."""
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    config = LlamaConfig(
        hidden_size=3072,
        num_attention_heads=24,
        head_dim=128,
        max_position_embeddings=131072,
        rope_parameters=ORPHEUS_ROPE,
    )
    frequencies: list[float] = LlamaRotaryEmbedding(config).inv_freq.double().tolist()
    return frequencies
