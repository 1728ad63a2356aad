"""The text-to-semantic transformer: torch only, its forward is the loss over packed utterances."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from tts_train.nn import runs_on
from tts_train_gpt_sovits.networks.gpt.attention import PaddedRows, attend_grid, attend_spans, dropout, relu_dropout
from tts_train_gpt_sovits.networks.gpt.packing import PackedBatch
from tts_train_gpt_sovits.signal.versions import BERT_WIDTH, GptConfig

Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""Attention of a layer (its number, then queries, keys and values (..., heads, channels)) to (..., width)."""

Kernel = Literal["auto", "spans", "grid"]
"""How packed tokens attend: ``spans`` one call a span, ``grid`` one call a layer; ``auto`` takes the faster."""


@dataclass(frozen=True, kw_only=True)
class GptOutput:
    """What a forward gives; utterances in the batch's order."""

    losses: Tensor
    """Cross-entropy of each target in nats (M,), with a gradient."""
    hits: Tensor
    """Whether each target is among the three likeliest (M,)."""
    targets: Tensor
    """The targets (M,)."""
    counts: list[int]
    """Targets of each utterance."""
    rejected_losses: Tensor | None = None
    """The same beyond the shared start of each rejected sequence."""
    rejected_counts: list[int] | None = None
    shared: list[int] | None = None

    @property
    def loss_sum(self) -> Tensor:
        """Sum over all targets, upstream's loss without its padding."""
        return self.losses.sum()

    @property
    def chosen_logps(self) -> Tensor:
        """Log-probability of each utterance's codes and its end (B,)."""
        return torch.stack([-each.sum() for each in torch.split(self.losses, self.counts)])

    @property
    def rejected_logps(self) -> Tensor:
        """Log-probability of each rejected sequence and its end (B,).

        Raises:
            ValueError: if the batch holds no pairs.
        """
        if self.rejected_losses is None or self.rejected_counts is None or self.shared is None:
            raise ValueError("The batch holds no rejected sequences.")
        starts = zip(torch.split(self.losses, self.counts), self.shared, strict=True)
        suffixes = torch.split(self.rejected_losses, self.rejected_counts)
        parts = zip((each[:n].sum() for each, n in starts), suffixes, strict=True)
        return torch.stack([-(start + suffix.sum()) for start, suffix in parts])

    def top3(self, end: int) -> Tensor:
        """Return the share of codes (the end token left out) that are among the three likeliest."""
        spoken = self.targets != end
        return (self.hits & spoken).sum() / spoken.sum().clamp(min=1)


class Positions(nn.Module):
    """Add sines and cosines of the position, scaled by a learned number."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1))
        self._width = width
        # Neither parameter nor buffer: upstream's state dict has no table, and files must have the same names
        # (AR/modules/embedding.py). 4,000 rows to begin with are upstream's, too.
        self._table = torch.empty(0, width)

    def forward(self, states: Tensor, positions: Tensor, longest: int) -> Tensor:
        """Return states (..., T, width) plus the rows of ``positions`` (T,), all below ``longest``."""
        if longest > len(self._table) or self._table.device != states.device:
            self._table = _sines(max(longest, 4000), self._width).to(states.device, non_blocking=True)
        return states + self.alpha * self._table[positions].to(states.dtype)


class Layer(nn.Module):
    """Attention and a feed-forward network, each followed by its norm."""

    def __init__(self, config: GptConfig) -> None:
        super().__init__()
        # Declared in upstream's order, so that optimiser states can be exchanged.
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.out = nn.Linear(config.width, config.width)
        self.up = nn.Linear(config.width, 4 * config.width)
        self.down = nn.Linear(4 * config.width, config.width)
        self.norm1 = nn.LayerNorm(config.width)
        self.norm2 = nn.LayerNorm(config.width)
        self.heads = config.heads
        self.dropout = config.dropout
        nn.init.xavier_uniform_(self.qkv.weight)
        nn.init.zeros_(self.qkv.bias)
        nn.init.zeros_(self.out.bias)

    def forward(self, states: Tensor, attend: Attend, number: int) -> Tensor:
        """Return the states (..., width) after this layer."""
        query, key, value = self.qkv(states).unflatten(-1, (3, self.heads, -1)).unbind(-3)
        # Norms come after the sums, and none after the last layer: so were the released weights trained.
        states = self.norm1(states + self._drop(self.out(attend(number, query, key, value))))
        opened = relu_dropout(self.up(states), self.dropout, training=self.training)
        normed: Tensor = self.norm2(states + self._drop(self.down(opened)))
        return normed

    def _drop(self, states: Tensor) -> Tensor:
        return dropout(states, self.dropout, training=self.training)


class GptNetwork(nn.Module):
    """Predict semantic codes from phonemes, BERT features and the codes before.

    Args:
        config: Sizes.
        checkpointing: Recompute each layer in backward instead of keeping its activations.
        kernel: How packed tokens attend.
    """

    def __init__(
        self,
        config: GptConfig = GptConfig(),  # noqa: B008 - frozen
        *,
        checkpointing: bool = False,
        kernel: Kernel = "auto",
    ) -> None:
        super().__init__()
        self.config = config
        self.checkpointing = checkpointing
        self.kernel: Kernel = kernel
        self.bert_projection = nn.Linear(BERT_WIDTH, config.width)
        self.phoneme_embedding = nn.Embedding(config.phonemes, config.width)
        self.text_position = Positions(config.width)
        self.code_embedding = nn.Embedding(config.codes, config.width)
        self.code_position = Positions(config.width)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        # Not tied to the codes' embedding, as in the released files.
        self.head = nn.Linear(config.width, config.codes, bias=False)

    @property
    def attention_dropout(self) -> float:
        """Share of attention weights dropped now."""
        return self.config.dropout if self.training else 0.0

    def forward(self, batch: PackedBatch) -> GptOutput:
        """Return the losses of a packed batch, with those of rejected sequences where it holds pairs."""
        states = self.packed_states(batch)
        logits = self.head(states[batch["rows"]])
        losses = token_losses(logits, batch["targets"])
        pairs = {}
        if "rejected_rows" in batch:
            others = self.head(states[batch["rejected_rows"]])
            pairs["rejected_losses"] = token_losses(others, batch["rejected_targets"])
        return GptOutput(
            losses=losses,
            hits=in_top3(logits, batch["targets"]),
            targets=batch["targets"],
            counts=batch["counts"],
            rejected_counts=batch.get("rejected_counts"),
            shared=batch.get("shared"),
            **pairs,
        )

    def packed_states(self, batch: PackedBatch) -> Tensor:
        """Return the last layer's states (N, width) of a packed batch's tokens."""
        longest = batch["grid"].tokens.shape[1]
        text = self.embed_text(batch["phonemes"], batch["bert"], batch["text_positions"], longest)
        codes = self.embed_codes(batch["codes"], batch["code_positions"], longest)
        states = torch.cat([text, codes])
        return self.run_layers(states, self._packed_attention(batch, states))

    def embed_text(self, phonemes: Tensor, bert: Tensor, positions: Tensor, longest: int) -> Tensor:
        """Embed phonemes (..., X) with features (..., X, 1024) at positions (X,), all below ``longest``."""
        # Zeros still get the projection's bias: languages without features were trained with it
        # (AR/models/t2s_model.py).
        projected = self.bert_projection(bert.to(self.bert_projection.weight.dtype))
        states = self.text_position(self.phoneme_embedding(phonemes) + projected, positions, longest)
        return dropout(states, self.config.dropout, training=self.training)

    def embed_codes(self, codes: Tensor, positions: Tensor, longest: int) -> Tensor:
        """Embed codes (..., Y) at positions (Y,), all below ``longest``."""
        states = self.code_position(self.code_embedding(codes), positions, longest)
        return dropout(states, self.config.dropout, training=self.training)

    def run_layers(self, states: Tensor, attend: Attend) -> Tensor:
        """Return embedded states after all layers."""
        for number, layer in enumerate(self.layers):
            # Only in training: validation keeps nothing for backward, and would pay the bookkeeping for nothing.
            if self.checkpointing and self.training:
                states = checkpoint(layer, states, attend, number, use_reentrant=False)
            else:
                states = layer(states, attend, number)
        return states

    def _packed_attention(self, batch: PackedBatch, states: Tensor) -> Attend:
        share = self.attention_dropout
        if self.kernel == "spans" or (self.kernel == "auto" and runs_on(states.device) == "cpu"):
            return lambda _, query, key, value: attend_spans(query, key, value, batch["spans"], share)
        rows = PaddedRows(batch["grid"], states)
        return lambda _, query, key, value: attend_grid(query, key, value, rows, share)


def token_losses(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the cross-entropy of each target, in float32 or wider."""
    # 1,025 exponentials are summed for each target, which 16 bits would round.
    wide = logits if logits.dtype == torch.float64 else logits.float()
    return F.cross_entropy(wide, targets, reduction="none")


def in_top3(logits: Tensor, targets: Tensor) -> Tensor:
    """Return whether each target is among the three largest logits."""
    with torch.no_grad():
        # Counted, without sorting 1,025 codes for each target. A tie with the third is a hit.
        return (logits > logits.gather(-1, targets[..., None])).sum(-1) < 3


def _sines(length: int, width: int) -> Tensor:
    """Return the position table (length, width): sines on even channels, cosines on odd ones, in float32."""
    rates = torch.exp(torch.arange(0, width, 2, dtype=torch.float32) * -(math.log(10000.0) / width))
    angles = torch.arange(length, dtype=torch.float32)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)
