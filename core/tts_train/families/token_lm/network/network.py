"""The network: a language model whose forward is the loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from tts_train.errors import ConfigError
from tts_train.families.token_lm.network.layers import run_layers, use_fused_layers
from tts_train.nn.activations import OffloadedActivations, spread
from tts_train.nn.linear_cross_entropy import HeadOutput, RowGroup, linear_cross_entropy

if TYPE_CHECKING:
    from typing_extensions import Self

    from tts_train.families.token_lm.data.batch import TokenBatch
    from tts_train.families.token_lm.layout import TokenLayout


TIED_HEAD = "lm.lm_head.weight"
"""The second name of a tied embedding."""


@dataclass(frozen=True)
class HeadOptions:
    """How the output layer and its loss are computed."""

    chunk_tokens: int = 1024
    """Tokens whose logits exist at a time: 1,024 over 157,000 entries take 0.3 GiB in bf16 where one kernel makes loss
    and gradient in place, and 0.9 elsewhere; fewer take less."""
    softmax: Literal["full", "audio", "slot"] = "full"
    """Entries an audio position's training loss sees: ``full`` all of them, as the released models were trained;
    ``audio`` the added tokens; ``slot`` the codes of its own slot, and where a frame may begin also the end of
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
    """Target, loss and prediction of each of these tokens; the losses have a gradient where it was asked for."""
    depth: HeadOutput | None = None
    """The same of the codes that a depth network says, where there is one."""
    depth_share: float = 1.0
    """Weight of their mean in the loss."""

    @property
    def parts(self) -> tuple[HeadOutput, ...]:
        """Those whose means, each with its weight, add up to the loss."""
        return (self.head,) if self.depth is None else (self.head, self.depth)

    @property
    def weights(self) -> tuple[float, ...]:
        """The weight of each part."""
        return (1.0, self.depth_share)[: len(self.parts)]

    @property
    def loss(self) -> Tensor:
        """Mean loss of a token, and of a code of the depth network added to it; 0 where none carries one."""
        means = [part.loss_sum / max(part.count, 1) for part in self.parts]
        return torch.stack([mean * weight for mean, weight in zip(means, self.weights, strict=True)]).sum()


class TokenNetwork(nn.Module):
    """A causal language model with its loss in ``forward``, where sharding strategies have the output matrix at hand.

    Args:
        lm: A model such as ``LlamaForCausalLM`` whose attention is ``tts_packed``; it may have adapters.
        layout: Its ids.
        head: How the loss is computed.
    """

    lm: Any
    """A transformers model of Llama's shape: ``lm_head``, and ``model`` with ``layers``, ``norm``, ``rotary_emb``."""

    def __init__(self, lm: PreTrainedModel, layout: TokenLayout, head: HeadOptions = HeadOptions()) -> None:
        super().__init__()
        self.lm = lm
        self.layout = layout
        self.head = head
        self.offload_activations = False
        """Whether what the layers keep for backward waits in host memory."""
        self.fused = False
        """Whether fused kernels compute what they can, where they run."""

    @property
    def config(self) -> PretrainedConfig:
        """The language model's configuration."""
        config: PretrainedConfig = self.lm.config
        return config

    @property
    def tied(self) -> bool:
        """Whether the output matrix is the embedding."""
        return bool(self.lm.lm_head.weight is self.lm.get_input_embeddings().weight)

    @property
    def tied_names(self) -> frozenset[str]:
        """Second names of weights in ``state_dict()``, which checkpoints leave out."""
        return frozenset({TIED_HEAD} if self.tied else ())

    @property
    def kept_buffers(self) -> set[str]:
        """Names of the buffers that a run decides, and that its checkpoints hold whatever of its weights is trained."""
        # Those that are computed anew, such as rotary frequencies, are in no state_dict.
        buffers = {name for name, _ in self.named_buffers()}
        return buffers & set(self.state_dict(keep_vars=True))

    @property
    def stacks(self) -> tuple[Any, ...]:
        """The models of transformers in it that have layers."""
        return (self.lm.model,)

    def forward(self, batch: TokenBatch, *, tokenwise: bool = False) -> NetworkOutput:
        """Return the loss of a batch.

        Args:
            batch: Its rows.
            tokenwise: Give each token's loss a gradient, and restrict the softmax as in training whether or not this is
                training: log-probabilities are compared between the two. Without it only training restricts it.
        """
        hidden = self.hidden_states(batch)
        head = linear_cross_entropy(
            hidden.flatten(0, 1),
            self.lm.lm_head.weight,
            batch["targets"].flatten(),
            kept=batch["kept"],
            chunk_tokens=self.head.chunk_tokens,
            # Validation sees the whole vocabulary, so that runs with other settings can be compared.
            row_groups=self._row_groups(batch) if self.training or tokenwise else (),
            fused=self.fused,
            tokenwise=tokenwise,
        )
        return NetworkOutput(loss_sum=head.loss_sum, count=head.count, head=head)

    def _row_groups(self, batch: TokenBatch) -> Sequence[RowGroup]:
        return _row_groups(batch, self.layout, self.head.softmax, self.config.vocab_size)

    def hidden_states(self, batch: TokenBatch) -> Tensor:
        """Return the states (B, T, hidden) that the output matrix is applied to."""
        moved = OffloadedActivations() if self.offload_activations and self.training else nullcontext()
        with moved:
            return run_layers(self.lm, batch, self.embeds(batch))

    def embeds(self, batch: TokenBatch) -> Tensor:
        """Return the embeddings (B, T, hidden) of a batch's positions."""
        embeds: Tensor = self.lm.model.embed_tokens(batch["input_ids"])
        return embeds

    def use_fused_kernels(self, *, layers: bool = True) -> None:
        """Compute the loss and, with ``layers``, normalisation, positions, activations and adapters by fused kernels.

        Raises:
            ConfigError: if there are no such kernels for its layers.
        """
        if layers:
            use_fused_layers(self.lm)
        self.fused = True

    def enable_checkpointing(self, share: float = 1.0) -> None:
        """Recompute layers in backward instead of keeping their activations: all, or an evenly spread share."""
        # Renamed within transformers 5, which warns about the older name.
        enable = getattr(self.lm, "activation_checkpointing_enable", None) or self.lm.gradient_checkpointing_enable
        enable({"use_reentrant": False})
        # transformers switches all layers at once; which of them recompute is chosen here.
        for layers in (stack.layers for stack in self.stacks):
            for layer, chosen in zip(layers, spread(len(layers), share), strict=True):
                layer.gradient_checkpointing = chosen

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move and cast as usual, but keep the rotary frequencies in float32: bfloat16 would blur long positions."""
        # Buffers on meta have nothing to keep; they are made when the network is filled.
        kept = [
            (stack.rotary_emb, name, buffer)
            for stack in self.stacks
            for name, buffer in stack.rotary_emb.named_buffers()
            if buffer.device.type != "meta"
        ]
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for rotary, name, buffer in kept:
            setattr(rotary, name, buffer.to(getattr(rotary, name).device))
        return self


def _row_groups(batch: TokenBatch, layout: TokenLayout, softmax: str, vocabulary: int) -> Sequence[RowGroup]:
    """Return which tokens see which rows; the batch knows on the CPU how many there are of each."""
    if softmax == "full":
        return ()
    # By sizes that the CPU knows: a mask would have to be counted on the card, and waited for.
    places = torch.split(batch["by_place"], batch["place_sizes"])
    everything = ((0, vocabulary),)
    if softmax == "slot":
        slots = (_slot_rows(layout, slot) for slot in range(layout.slots))
        rows = [*slots, ((layout.added_base, layout.audio_base),), everything]
        return [RowGroup(tokens=tokens, rows=seen) for tokens, seen in zip(places, rows, strict=True)]
    audio, others = torch.cat(places[: layout.slots]), torch.cat(places[layout.slots :])
    return [
        RowGroup(tokens=audio.sort().values, rows=((layout.added_base, vocabulary),)),
        RowGroup(tokens=others.sort().values, rows=everything),
    ]


def _slot_rows(layout: TokenLayout, slot: int) -> tuple[tuple[int, int], ...]:
    start = layout.audio_base + slot * layout.codebook_size
    codes = (start, start + layout.codebook_size)
    end = (layout.end_of_speech, layout.end_of_speech + 1)
    return tuple(sorted((end, codes))) if slot == 0 else (codes,)
