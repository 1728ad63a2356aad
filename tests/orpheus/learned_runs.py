"""A run that has learnt a few sentences by heart: greedy speech differs from text to text and ends by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from tests.orpheus.trained_runs import write_run
from tts_train.families.token_lm.network.network import TokenNetwork
from tts_train.families.token_lm.prompts import IdRow
from tts_train_orpheus import layout
from tts_train_orpheus.prompt import encode_text, speech_row
from tts_train_orpheus.tokenizer import load_tokenizer

TEXTS = ("Hello there.", "One, two, three.")
_STEPS = 16
_OTHERS = 97
"""Every how many-th other token the learnt ones are told from; all 156,940 would take minutes."""


def write_learned_run(folder: Path, **model: Any) -> None:
    """Write a run that continues each of TEXTS with its own codes."""
    write_run(folder, change=_learn, **model)


def learned_rows() -> list[IdRow]:
    """Return what is learnt, as rows of training."""
    tokenizer, rows = load_tokenizer("tiny"), []
    for number, text in enumerate(TEXTS):
        places = np.arange((6 + 2 * number) * layout.SLOTS)
        codes = (37 * places + (11 + number) * places**2 + number) % layout.CODEBOOK_SIZE
        audio = layout.AUDIO_BASE + layout.CODEBOOK_SIZE * (places % layout.SLOTS) + codes
        rows.append(speech_row(encode_text(tokenizer, text), audio))
    return rows


def _learn(network: TokenNetwork) -> None:
    lm, rows = network.lm, learned_rows()
    lm.set_attn_implementation("sdpa")
    ids = [torch.as_tensor(row.input_ids) for row in rows]
    padded = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=layout.TEXT_PAD)
    wanted = torch.zeros_like(padded[:, 1:], dtype=torch.bool)
    for number, row in enumerate(rows):
        wanted[number, row.prompt - 1 : len(row.input_ids) - 1] = True
    said = padded[:, 1:][wanted]
    known = torch.unique(torch.cat([said, torch.arange(0, layout.VOCAB_SIZE, _OTHERS)]))
    target = torch.searchsorted(known, said)
    optimizer = torch.optim.Adam(lm.parameters(), lr=1e-2, fused=True)
    for _ in range(_STEPS):
        states = lm.model(input_ids=padded).last_hidden_state[:, :-1][wanted]
        loss = F.cross_entropy(states @ lm.lm_head.weight[known].T, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
