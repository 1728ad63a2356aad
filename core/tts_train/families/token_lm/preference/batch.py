"""A batch of pairs, packed: chosen and rejected share the positions of their prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor

from tts_train.families.token_lm.data.batch import Document, TokenBatch
from tts_train.families.token_lm.frames.batch import FrameBatch
from tts_train.families.token_lm.frames.layout import FrameLayout
from tts_train.families.token_lm.network.build import joined

if TYPE_CHECKING:
    from tts_train.families.token_lm.layout import Ids, TokenLayout
    from tts_train.families.token_lm.network.network import NetworkOutput


@dataclass(frozen=True)
class IdPair:
    """A prompt and two answers to it, as ids, the better one first."""

    id: str
    prompt: Ids
    """(tokens,), at least one position: its last one says the first id of both answers."""
    chosen: Ids
    """(tokens,), the end of speech included where it was said."""
    rejected: Ids
    """(tokens,), likewise."""
    seconds: float = 0.0
    """Sound of both answers."""

    def __post_init__(self) -> None:
        empty = [name for name in ("prompt", "chosen", "rejected") if not len(getattr(self, name))]
        if empty:
            raise ValueError(f"A pair has ids of all three, and {' and '.join(empty)} of {self.id} has none.")

    @property
    def documents(self) -> tuple[Document, Document]:
        """Both answers behind their prompt, of which only the answers are learnt."""
        start, rows = len(self.prompt), (self.chosen, self.rejected)
        chosen, rejected = (np.concatenate([self.prompt, answer]) for answer in rows)
        return Document(self.id, chosen, start, self.seconds), Document(self.id, rejected, start)


class PairBatch(TokenBatch):
    """As :class:`TokenBatch` with 2 P documents in the order chosen, rejected of pair after pair, P pairs; a batch of
    frames has what :class:`FrameBatch` has besides.

    ``cu_seqlens``, ``max_seqlen`` and ``lengths`` are of whole documents. T is less than they have together: of a
    rejected document's prompt only the last position is computed, the others are the chosen document's.
    """

    expand: Tensor
    """(positions of whole documents,) int64, where each of them is computed."""
    collapse: Tensor
    """(T,) int64, which position of the whole documents each one is."""
    target_sizes: list[int]
    """Targets of each document (2 P,), which ``kept`` has in this order."""
    frame_sizes: list[int]
    """Frames of each document (2 P,) that a depth network learns; of zeros where there is none."""
    said: Tensor
    """(2 P,) int64, how many log-probabilities each answer has: one a target, and one for each further code of a
    frame."""


def pair_batch(pairs: Sequence[IdPair], layout: TokenLayout) -> PairBatch:
    """Pack pairs, with each prompt once.

    Args:
        pairs: At least one.
        layout: Of their ids.
    """
    documents = [document for pair in pairs for document in pair.documents]
    # As whole documents first: what is learnt in a document, and where, is decided in one place for all stages.
    whole = joined(documents, layout, packed=True)
    prompts = [len(layout.starts(pair.prompt)) for pair in pairs]
    here, expand = _shared(prompts, whole["lengths"])
    target_sizes = _counted(whole["kept"], whole["lengths"])
    frame_sizes = [0] * len(documents)
    thinned = {**whole, **_thinned(whole, here, expand)}
    said = torch.tensor(target_sizes)
    if isinstance(layout, FrameLayout):
        framed = cast("FrameBatch", whole)
        frame_sizes = _counted(framed["before"], whole["lengths"])
        thinned |= _thinned_frames(framed, here, expand)
        said += torch.tensor(frame_sizes) * (layout.slots - 1)
    about: dict[str, Any] = {"target_sizes": target_sizes, "frame_sizes": frame_sizes, "said": said}
    return cast("PairBatch", {**thinned, "expand": expand, "collapse": here, **about})


def sequence_logps(output: NetworkOutput, batch: PairBatch) -> Tensor:
    """Return the log-probability (2 P,) of each answer behind its prompt, over all codes of its frames.

    The order of the sums is fixed and the host waits for nothing. ``PairBatch.said`` has the number of terms.

    Args:
        output: What the network gives for the batch; with ``tokenwise``, the result has a gradient.
        batch: Of :func:`pair_batch`.
    """
    sizes = batch["target_sizes"]
    logps = _sums(output.head.losses, sizes)
    if output.depth is not None:
        # As many for each frame; frames come in the order of their documents.
        codes = output.depth.count // max(sum(batch["frame_sizes"]), 1)
        logps = logps + _sums(output.depth.losses, [size * codes for size in batch["frame_sizes"]])
    return -logps


def _sums(losses: Tensor, sizes: Sequence[int]) -> Tensor:
    return torch.stack([piece.sum() for piece in torch.split(losses, list(sizes))])


def _shared(prompts: Sequence[int], lengths: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return which positions of the whole documents are computed (T,), and where among them each one is.

    Args:
        prompts: Positions of each pair's prompt.
        lengths: Positions of each document.
    """
    ends = np.cumsum(lengths)
    begins = ends - lengths
    source = np.arange(ends[-1])
    for prompt, chosen, rejected in zip(prompts, begins[::2], begins[1::2], strict=True):
        # The last one says another id in each answer, so each answer has one of its own.
        source[rejected : rejected + prompt - 1] = np.arange(chosen, chosen + prompt - 1)
    here = source == np.arange(len(source))
    places = np.cumsum(here) - 1
    return torch.from_numpy(np.flatnonzero(here)), torch.from_numpy(places[source])


def _counted(places: Tensor, lengths: Sequence[int]) -> list[int]:
    """Return how many of these flattened positions, ascending, lie in each document."""
    bounds = np.searchsorted(places.numpy(), np.cumsum([0, *lengths]))
    counts: list[int] = np.diff(bounds).tolist()
    return counts


def _thinned(whole: TokenBatch, here: Tensor, expand: Tensor) -> dict[str, Any]:
    """Return what a batch says of each position, of those that are computed."""
    # Nothing is learnt in the prompts, so every target stands at a position that stays.
    return {
        "input_ids": whole["input_ids"][:, here],
        "position_ids": whole["position_ids"][:, here],
        "targets": whole["targets"][:, here],
        "kept": expand[whole["kept"]],
    }


def _thinned_frames(whole: FrameBatch, here: Tensor, expand: Tensor) -> dict[str, Any]:
    """Return the frames at the positions that are computed."""
    stay = torch.isin(whole["frame_places"], here)
    renumbered = stay.cumsum(0) - 1
    return {
        "frame_places": expand[whole["frame_places"][stay]],
        "codes": whole["codes"][stay],
        "learnt": renumbered[whole["learnt"]],
        "before": expand[whole["before"]],
    }
