"""A batch of token rows for training: packed without any padding, or padded on the right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from tts_train.families.token_lm.layout import TokenLayout

NO_TARGET = -100
"""What cross-entropy leaves out."""


class KeptTargets(TypedDict):
    """Where a batch's targets are; found on the CPU, so that no step waits for a GPU to count them."""

    kept: Tensor
    """(M,) int64, indices of the targets that are not -100 among the flattened ones, ascending."""
    by_place: Tensor
    """(M,) int64, indices into ``kept``: first those whose target is of place 0, then of place 1 and so on, each
    ascending. ``TokenLayout.place_of`` has the places."""
    place_sizes: list[int]
    """How many targets each place has."""


class TokenBatch(KeptTargets):
    """What the network takes; B rows of T positions, D documents."""

    input_ids: Tensor
    """(B, T) int64. Packed: B is 1 and T the sum of the documents' lengths. Padded: a document a row."""
    position_ids: Tensor
    """(B, T) int64, from 0 in every document."""
    targets: Tensor
    """(B, T) int64, the next token at each position; -100 at a document's end, in padding and where none is wanted."""
    cu_seqlens: Tensor | None
    """(D + 1,) int32, where documents begin and the last one ends, if packed; None if padded."""
    max_seqlen: int
    """Length of the longest document."""
    lengths: list[int]
    """Length of each document, without padding."""
    audio_seconds: float
    """Sound in the batch."""
    ids: list[str]
    """Utterance ids, in order."""


@dataclass(frozen=True)
class Document:
    """One row of ids as it goes into a batch."""

    id: str
    input_ids: NDArray[np.int64]
    """(tokens,), at least one."""
    learn_from: int = 0
    """The first token that is a target; 1 and 0 come to the same, since nothing stands before token 0."""
    seconds: float = 0.0
    """Of sound."""
    learnt: NDArray[np.bool_] | None = None
    """(tokens,) which tokens are targets, besides ``learn_from``; None for all."""

    def __len__(self) -> int:
        return len(self.input_ids)

    @property
    def targets(self) -> NDArray[np.int64]:
        """(tokens,) the next token at each position, or -100."""
        # The shift by one is done here and nowhere else: a loss that shifts again would teach the token after the next.
        shifted = np.append(self.input_ids[1:], NO_TARGET)
        # The prompt's last position says the first learnt token, so it keeps its target.
        shifted[: max(0, self.learn_from - 1)] = NO_TARGET
        if self.learnt is not None:
            # A mark belongs to a token, and its target stands one position before it.
            shifted[:-1][~self.learnt[1:]] = NO_TARGET
        return shifted


def pack_documents(documents: Sequence[Document], layout: TokenLayout) -> TokenBatch:
    """Put documents one behind the other, with nothing between and nothing after."""
    sizes = [len(document) for document in documents]
    targets = _joined([document.targets for document in documents])
    return TokenBatch(
        input_ids=_joined([document.input_ids for document in documents]),
        position_ids=_joined([np.arange(size) for size in sizes]),
        targets=targets,
        # int32 is what kernels of varying lengths take.
        cu_seqlens=torch.tensor([0, *np.cumsum(sizes).tolist()], dtype=torch.int32),
        max_seqlen=max(sizes),
        **kept_targets(targets, layout),
        **_about(documents),
    )


def pad_documents(documents: Sequence[Document], layout: TokenLayout) -> TokenBatch:
    """Put each document in a row of its own, padded on the right with the pad token.

    No mask comes with it: under a causal mask no real position sees the padding after it.
    """
    longest = max(len(document) for document in documents)
    targets = _stacked([document.targets for document in documents], longest, NO_TARGET)
    return TokenBatch(
        input_ids=_stacked([document.input_ids for document in documents], longest, layout.pad),
        position_ids=torch.arange(longest).expand(len(documents), longest).contiguous(),
        targets=targets,
        cu_seqlens=None,
        max_seqlen=longest,
        **kept_targets(targets, layout),
        **_about(documents),
    )


def kept_targets(targets: Tensor, layout: TokenLayout) -> KeptTargets:
    """Find the targets (any shape, on the CPU) that are not -100, and sort them by their place in a frame."""
    flat = targets.flatten()
    kept = (flat != NO_TARGET).nonzero().squeeze(1)
    places = layout.place_of(flat[kept])
    # As a list: splitting by sizes that lie on the card would wait for it in every step.
    sizes = torch.bincount(places, minlength=layout.places).tolist()
    # Stable, so that what belongs to a place is summed in the same order in every run.
    return KeptTargets(kept=kept, by_place=torch.argsort(places, stable=True), place_sizes=sizes)


class _About(TypedDict):
    lengths: list[int]
    audio_seconds: float
    ids: list[str]


def _about(documents: Sequence[Document]) -> _About:
    return {
        "lengths": [len(document) for document in documents],
        "audio_seconds": sum(document.seconds for document in documents),
        "ids": [document.id for document in documents],
    }


def _joined(arrays: Sequence[NDArray[np.int64]]) -> Tensor:
    return torch.from_numpy(np.concatenate(arrays).astype(np.int64))[None]


def _stacked(arrays: Sequence[NDArray[np.int64]], width: int, fill: int) -> Tensor:
    table = np.full((len(arrays), width), fill, dtype=np.int64)
    for row, array in zip(table, arrays, strict=True):
        row[: len(array)] = array
    return torch.from_numpy(table)
