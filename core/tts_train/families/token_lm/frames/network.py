"""The network of frames: a language model says the first codebook, a depth network the others, frame by frame."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel

from tts_train.errors import ConfigError
from tts_train.families.token_lm.network.layers import run_stack
from tts_train.families.token_lm.network.network import HeadOptions, NetworkOutput, TokenNetwork
from tts_train.families.token_lm.network.start import ATTENTION
from tts_train.nn.linear_cross_entropy import HeadOutput, RowGroup, linear_cross_entropy

if TYPE_CHECKING:
    from tts_train.families.token_lm.frames.batch import FrameBatch
    from tts_train.families.token_lm.frames.layout import FrameLayout


class FrameLM(Protocol):
    """What a model of transformers is asked besides ``lm_head``, whose rows are codes, and ``model``, the backbone."""

    depth: Any
    """The depth network's layers: a model with ``layers``, ``norm``, ``rotary_emb`` and ``config``."""

    def tied_names(self) -> Sequence[str]:
        """Return the second names of weights in its ``state_dict()``."""

    def get_input_embeddings(self) -> Any:  # noqa: ANN401 - a module of torch
        """Return the embedding (..., H) of text ids.

        A model whose positions are more than a row of one table has ``embed_ids(ids)`` besides, which takes its place.
        """

    def embed_frames(self, codes: Tensor) -> Tensor:
        """Return the embeddings (..., H) of frames (..., K): the sums of their codes'."""

    def depth_state(self, hidden: Tensor) -> Tensor:
        """Return what the depth network reads first (..., D): the backbone's state before the frame (..., H)."""

    def depth_codes(self, codes: Tensor, first: int = 0) -> Tensor:
        """Return what the depth network reads (..., n, D) of codes (..., n) of the codebooks from ``first`` on."""

    def depth_weight(self) -> Tensor:
        """Return the output matrices of the codebooks from 1 on, one below the other ((K - 1) * V, D)."""


class FrameNetwork(TokenNetwork):
    """A model of frames with its loss in ``forward``: the mean over first codes, and the mean over all others with the
    weight that the layout gives it.

    Args:
        lm: A :class:`FrameLM` whose attention is ``tts_packed``, also that of its depth network.
        layout: Its ids.
        head: How the loss is computed.

    Raises:
        ConfigError: if the softmax is to be restricted: each codebook has an output matrix of its own already.
    """

    layout: FrameLayout

    def __init__(self, lm: PreTrainedModel, layout: FrameLayout, head: HeadOptions = HeadOptions()) -> None:
        super().__init__(lm, layout, head)
        if head.softmax != "full":
            raise ConfigError(
                f"--model.head.softmax {head.softmax} restricts an output matrix that text and codes share, and here "
                "each codebook has its own. Leave it at full."
            )

    @property
    def tied_names(self) -> frozenset[str]:
        """Second names of weights in ``state_dict()``, which checkpoints leave out."""
        return frozenset(f"lm.{name}" for name in self.lm.tied_names())

    @property
    def stacks(self) -> tuple[Any, ...]:
        """The backbone and the depth network."""
        return self.lm.model, self.lm.depth

    def embeds(self, batch: FrameBatch) -> Tensor:  # type: ignore[override]
        """Return the embeddings (B, T, H) of text and frames."""
        return embed(self.lm, batch["input_ids"], batch["frame_places"], batch["codes"])

    def forward(self, batch: FrameBatch, *, tokenwise: bool = False) -> NetworkOutput:  # type: ignore[override]
        """Return the losses of a batch, those of the first codebook and those of the others.

        Args:
            batch: Its rows.
            tokenwise: Give each code's loss a gradient.
        """
        hidden = self.hidden_states(batch).flatten(0, 1)
        targets, kept = batch["targets"].flatten(), batch["kept"]
        how = self._how(tokenwise=tokenwise)
        first = linear_cross_entropy(hidden, self.lm.lm_head.weight, targets, kept=kept, **how)
        # Frames of a prompt's recording are read and not learnt: the depth network need not compute them.
        depth = self.depth_loss(hidden[batch["before"]], batch["codes"][batch["learnt"]], tokenwise=tokenwise)
        layout = self.layout
        base = layout.audio_base + layout.codebook_size
        heads = [_named(first, layout.first_ids), _named(depth, lambda rows: rows + base)]
        sums: dict[str, Any] = {"loss_sum": first.loss_sum, "count": first.count}
        return NetworkOutput(**sums, head=heads[0], depth=heads[1], depth_share=layout.depth_share)

    def depth_loss(self, hidden: Tensor, codes: Tensor, *, tokenwise: bool = False) -> HeadOutput:
        """Return the loss of codes 1 to K - 1 of frames (M, K) that follow the backbone's states (M, H).

        Targets and predictions are rows of the depth network's output matrices, one below the other.
        """
        count = len(codes)
        if not count:
            # Layers take no empty batch, and processes that train together wait for the gradient of every weight.
            hidden, codes = hidden.new_zeros(1, hidden.shape[-1]), codes.new_zeros(1, codes.shape[-1])
        # The first place answers the backbone's state, and its code is the backbone's to say.
        states = self.depth_states(hidden, codes)[:, 1:].flatten(0, 1)
        return linear_cross_entropy(
            states,
            self.lm.depth_weight(),
            self._depth_targets(codes),
            # All of them: what is not learnt was left out before.
            kept=torch.arange(count * (self.layout.slots - 1), device=states.device),
            # One loss for all codebooks, each position against the matrix of its own.
            row_groups=self._depth_groups(count, states.device),
            **self._how(tokenwise=tokenwise),
        )

    def _how(self, *, tokenwise: bool) -> dict[str, Any]:
        return {"chunk_tokens": self.head.chunk_tokens, "fused": self.fused, "tokenwise": tokenwise}

    def depth_states(self, hidden: Tensor, codes: Tensor) -> Tensor:
        """Return the depth network's states (M, K, D) for frames (M, K) that follow the backbone's states (M, H)."""
        # The last code is said and read by no one in the frame.
        begins, read = self.lm.depth_state(hidden)[:, None], self.lm.depth_codes(codes[:, :-1])
        if self.lm.depth.config._attn_implementation != ATTENTION:
            raise ValueError(f"Set the attention to {ATTENTION}: with another, forward projects its input twice.")
        # A frame is a row of its own: the depth network sees no other frame.
        places = torch.arange(codes.shape[1], device=codes.device)[None]
        return run_stack(self.lm.depth, torch.cat([begins, read.to(begins.dtype)], dim=1), places)

    def _depth_targets(self, codes: Tensor) -> Tensor:
        """Return the rows of ``depth_weight`` that codes 1 to K - 1 are, flattened frame after frame."""
        books = torch.arange(codes.shape[1] - 1, device=codes.device)
        return (codes[:, 1:] + books * self.layout.codebook_size).flatten()

    def _depth_groups(self, frames: int, device: torch.device) -> Sequence[RowGroup]:
        books, size = self.layout.slots - 1, self.layout.codebook_size
        tokens = torch.arange(frames * books, device=device).view(frames, books)
        return [RowGroup(tokens=tokens[:, book], rows=((book * size, (book + 1) * size),)) for book in range(books)]


def embed(lm: FrameLM, ids: Tensor, places: Tensor, codes: Tensor) -> Tensor:
    """Return the embeddings (B, T, H) of ids (B, T) and, at flattened ``places`` (F,), of frames (F, K)."""
    embed_ids = getattr(lm, "embed_ids", None) or lm.get_input_embeddings()
    flat = ids.flatten()
    framed = torch.zeros_like(flat, dtype=torch.bool).index_fill(0, places, True)
    # Text is looked up where text stands. Sorted and not searched for, which a card would have to be waited for.
    others = framed.to(torch.uint8).argsort(stable=True)[: len(flat) - len(places)]
    said: Tensor = embed_ids(flat[others])
    frames = lm.embed_frames(codes).to(said.dtype)
    embeds = said.new_zeros(len(flat), said.shape[-1]).index_copy(0, others, said).index_copy(0, places, frames)
    return embeds.view(*ids.shape, -1)


def _named(head: HeadOutput, ids: Callable[[Tensor], Tensor]) -> HeadOutput:
    """Return a head's by-products with the layout's ids for its rows."""
    return replace(head, targets=ids(head.targets), predictions=ids(head.predictions))
