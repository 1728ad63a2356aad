"""Memory is not paid for with quality: loss curves of the small-memory full recipe beside plain float32 AdamW."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tts_train.optim import OptimizerOptions, ScheduleOptions
from tts_train.optim.build import build_optimizer
from tts_train.optim.schedule import build_schedule

STEPS, WINDOW, SYMBOLS = 300, 50, 64
SEEDS = (0, 1, 2)
LR = 2e-3


def chain() -> torch.Tensor:
    """Return the odds of each next symbol after each pair: a language with something to learn for 300 steps."""
    generator = torch.Generator().manual_seed(7)
    one, two = (torch.randn(SYMBOLS, SYMBOLS, generator=generator) for _ in range(2))
    return torch.softmax(1.5 * (one[:, None] + two[None, :]), dim=-1)


def batches(seed: int, odds: torch.Tensor):
    generator = torch.Generator().manual_seed(100 + seed)
    for _ in range(STEPS):
        ids = torch.randint(0, SYMBOLS, (8, 26), generator=generator)
        for position in range(2, ids.shape[1]):
            drawn = torch.multinomial(odds[ids[:, position - 2], ids[:, position - 1]], 1, generator=generator)
            ids[:, position] = drawn[:, 0]
        yield ids


def curve(seed: int, odds: torch.Tensor, options: OptimizerOptions, dtype: torch.dtype) -> torch.Tensor:
    """Return the mean training loss of each window of steps; data and first weights are the seed's."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=SYMBOLS, hidden_size=64, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4,
        num_key_value_heads=2, tie_word_embeddings=True,
    )  # fmt: skip
    model = LlamaForCausalLM(config).to(dtype)
    optimizer = build_optimizer(model, options)
    schedule = build_schedule(optimizer, ScheduleOptions(warmup_share=0.1), STEPS)
    losses = []
    for ids in batches(seed, odds):
        optimizer.zero_grad()
        logits = model(input_ids=ids[:, :-1]).logits.float()
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return torch.tensor(losses).view(-1, WINDOW).mean(1)


RECIPES = {
    "plain": (OptimizerOptions(lr=LR), torch.float32),
    "small": (OptimizerOptions("adamw8bit", lr=LR, in_backward=True, rounding="stochastic"), torch.bfloat16),
    "nearest": (OptimizerOptions("adamw8bit", lr=LR, in_backward=True), torch.bfloat16),
}


@pytest.mark.slow
def test_the_small_recipe_learns_as_plain_adamw_does():
    """In every window of 50 steps the mean distance is below what another seed makes; rounding to nearest is not."""
    odds = chain()
    plain, small = (torch.stack([curve(seed, odds, *RECIPES[name]) for seed in SEEDS]) for name in ("plain", "small"))
    spread = plain.amax(0) - plain.amin(0)
    gap = (small - plain).mean(0).abs()
    assert plain[:, -1].max() < plain[:, 0].min() - 0.2
    assert (gap < spread).all(), (gap, spread)
    nearest = curve(SEEDS[0], odds, *RECIPES["nearest"])
    assert nearest[-1] - plain[0, -1] > 5 * gap.max()
