"""Orpheus's network: a Llama whose forward is the loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from tts_train.errors import ConfigError
from tts_train.nn.activations import OffloadedActivations, spread
from tts_train.nn.linear_cross_entropy import HeadOutput, RowGroup, linear_cross_entropy
from tts_train_orpheus import layout
from tts_train_orpheus.blocks import run_layers, use_fused_layers

if TYPE_CHECKING:
    from typing_extensions import Self

    from tts_train_orpheus.batch import TokenBatch


@dataclass(frozen=True)
class HeadOptions:
    """How the output layer and its loss are computed."""

    chunk_tokens: int = 1024
    """Tokens whose logits exist at a time: 1,024 over 156,940 entries take 0.3 GiB in bf16 where one kernel makes loss
    and gradient in place, and 0.9 elsewhere; fewer take less."""
    softmax: Literal["full", "audio", "slot"] = "full"
    """Entries an audio position's training loss sees: ``full`` all of them, as the released models were trained;
    ``audio`` the added tokens; ``slot`` the 4,096 codes of its own slot, and where a frame may begin also the end of
    speech; the other added control tokens then see each other. With ``slot`` generation must be held to the slots too.
    Validation always sees all of them."""

    def __post_init__(self) -> None:
        if self.chunk_tokens < 1:
            raise ConfigError(f"--model.head.chunk_tokens must be at least 1, and {self.chunk_tokens} was given.")
        if self.softmax not in ("full", "audio", "slot"):
            raise ConfigError(f"--model.head.softmax is full, audio or slot, and {self.softmax!r} was given.")


@dataclass(frozen=True, kw_only=True)
class NetworkOutput:
    """What a forward gives."""

    loss_sum: Tensor
    """Sum of the token losses in nats, with a gradient."""
    count: int
    """Tokens that carry a loss."""
    head: HeadOutput
    """Target, loss and prediction of each of these tokens, without a gradient."""

    @property
    def loss(self) -> Tensor:
        """Mean loss of a token; 0 where no token carries one."""
        return self.loss_sum / max(self.count, 1)


class OrpheusNetwork(nn.Module):
    """A Llama with its loss in ``forward``, where sharding strategies have the output matrix at hand.

    Args:
        lm: A ``LlamaForCausalLM`` whose attention is ``tts_packed``; adapters may have been put into it.
        head: How the loss is computed.
    """

    lm: LlamaForCausalLM

    def __init__(self, lm: LlamaForCausalLM, head: HeadOptions = HeadOptions()) -> None:
        super().__init__()
        self.lm = lm
        self.head = head
        self.offload_activations = False
        """Whether what the layers keep for backward waits in host memory."""
        self.fused = False
        """Whether fused kernels compute what they can, where they run."""

    @property
    def config(self) -> LlamaConfig:
        """The Llama's configuration."""
        return self.lm.config

    @property
    def tied(self) -> bool:
        """Whether the output matrix is the embedding."""
        return self.lm.lm_head.weight is self.lm.model.embed_tokens.weight

    def forward(self, batch: TokenBatch) -> NetworkOutput:
        """Return the loss of a batch; the softmax is restricted only while training."""
        hidden = self.hidden_states(batch)
        head = linear_cross_entropy(
            hidden.flatten(0, 1),
            self.lm.lm_head.weight,
            batch["targets"].flatten(),
            kept=batch["kept"],
            chunk_tokens=self.head.chunk_tokens,
            row_groups=_row_groups(batch, self.head.softmax, self.config.vocab_size) if self.training else (),
            fused=self.fused,
        )
        return NetworkOutput(loss_sum=head.loss_sum, count=head.count, head=head)

    def hidden_states(self, batch: TokenBatch) -> Tensor:
        """Return the states (B, T, hidden) that the output matrix is applied to."""
        moved = OffloadedActivations() if self.offload_activations and self.training else nullcontext()
        with moved:
            return run_layers(self.lm, batch)

    def use_fused_kernels(self) -> None:
        """Compute normalisation, positions, activations, adapters and the loss by fused kernels where they run."""
        use_fused_layers(self.lm)
        self.fused = True

    def enable_checkpointing(self, share: float = 1.0) -> None:
        """Recompute layers in backward instead of keeping their activations: all, or an evenly spread share."""
        # Renamed within transformers 5, which warns about the older name.
        enable = getattr(self.lm, "activation_checkpointing_enable", None) or self.lm.gradient_checkpointing_enable
        enable({"use_reentrant": False})
        layers = self.lm.model.layers
        for layer, chosen in zip(layers, spread(len(layers), share), strict=True):
            layer.gradient_checkpointing = chosen

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move and cast as usual, but keep the rotary frequencies in float32: bfloat16 would blur long positions."""
        rotary = self.lm.model.rotary_emb
        kept = {name: buffer for name, buffer in rotary.named_buffers() if buffer.device.type != "meta"}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, buffer in kept.items():
            setattr(rotary, name, buffer.to(getattr(rotary, name).device))
        return self


def _row_groups(batch: TokenBatch, softmax: str, vocabulary: int) -> Sequence[RowGroup]:
    """Return which tokens see which rows; the batch knows on the CPU how many there are of each."""
    if softmax == "full":
        return ()
    places = torch.split(batch["by_place"], batch["place_sizes"])
    everything = ((0, vocabulary),)
    if softmax == "slot":
        rows = [*map(_slot_rows, range(layout.SLOTS)), ((layout.CUSTOM_BASE, layout.AUDIO_BASE),), everything]
        return [RowGroup(tokens=tokens, rows=seen) for tokens, seen in zip(places, rows, strict=True)]
    audio, others = torch.cat(places[: layout.SLOTS]), torch.cat(places[layout.SLOTS :])
    return [
        RowGroup(tokens=audio.sort().values, rows=((layout.CUSTOM_BASE, vocabulary),)),
        RowGroup(tokens=others.sort().values, rows=everything),
    ]


def _slot_rows(slot: int) -> tuple[tuple[int, int], ...]:
    start = layout.AUDIO_BASE + slot * layout.CODEBOOK_SIZE
    codes = (start, start + layout.CODEBOOK_SIZE)
    return ((layout.END_OF_SPEECH, layout.END_OF_SPEECH + 1), codes) if slot == 0 else (codes,)
