"""A batch of answers to prompts, packed: all answers to a prompt share its positions, as two of a pair do."""

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
class IdGroup:
    """A prompt and any number of answers to it, as ids."""

    id: str
    prompt: Ids
    """(tokens,), at least one position: its last one says the first id of every answer."""
    answers: tuple[Ids, ...]
    """(tokens,) each, the end of speech included where it was said."""
    seconds: float = 0.0
    """Sound of all answers."""

    @property
    def documents(self) -> list[Document]:
        """Each answer behind the prompt, of which only the answer is learnt."""
        rows = [np.concatenate([self.prompt, answer]) for answer in self.answers]
        # The seconds are those of all together, and are counted once.
        return [Document(self.id, row, len(self.prompt), 0.0 if n else self.seconds) for n, row in enumerate(rows)]


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
    def group(self) -> IdGroup:
        """The pair as a group of two."""
        return IdGroup(self.id, self.prompt, (self.chosen, self.rejected), self.seconds)

    @property
    def documents(self) -> list[Document]:
        """Both answers behind their prompt, of which only the answers are learnt."""
        return self.group.documents


class GroupBatch(TokenBatch):
    """As :class:`TokenBatch` with D documents, the answers of group after group; a batch of frames has what
    :class:`FrameBatch` has besides.

    ``cu_seqlens``, ``max_seqlen`` and ``lengths`` are of whole documents. T is less than they have together: of the
    prompt of all but a group's first document only the last position is computed, the others are the first one's.
    """

    expand: Tensor
    """(positions of whole documents,) int64, where each of them is computed."""
    collapse: Tensor
    """(T,) int64, which position of the whole documents each one is."""
    target_sizes: list[int]
    """Targets of each document (D,), which ``kept`` has in this order."""
    frame_sizes: list[int]
    """Frames of each document (D,) that a depth network learns; of zeros where there is none."""
    said: Tensor
    """(D,) int64, how many log-probabilities each answer has: one a target, and one for each further code of a
    frame."""


class PairBatch(GroupBatch):
    """Groups of two: D is 2 P, in the order chosen, rejected of pair after pair, P pairs."""


def pair_batch(pairs: Sequence[IdPair], layout: TokenLayout) -> PairBatch:
    """Pack pairs, with each prompt once.

    Args:
        pairs: At least one.
        layout: Of their ids.
    """
    return group_batch([pair.group for pair in pairs], layout)


def group_batch(groups: Sequence[IdGroup], layout: TokenLayout) -> GroupBatch:
    """Pack groups, with each prompt once.

    Args:
        groups: At least one.
        layout: Of their ids.
    """
    documents = [document for group in groups for document in group.documents]
    # As whole documents first: what is learnt in a document, and where, is decided in one place for all stages.
    whole = joined(documents, layout, packed=True)
    prompts = [len(layout.starts(group.prompt)) for group in groups]
    here, expand = _shared(prompts, [len(group.answers) for group in groups], whole["lengths"])
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
    return cast("GroupBatch", {**thinned, "expand": expand, "collapse": here, **about})


def sequence_logps(output: NetworkOutput, batch: GroupBatch) -> Tensor:
    """Return the log-probability (D,) of each answer behind its prompt, over all codes of its frames.

    The order of the sums is fixed and the host waits for nothing. ``GroupBatch.said`` has the number of terms.

    Args:
        output: What the network gives for the batch; with ``tokenwise``, the result has a gradient.
        batch: Of :func:`pair_batch` or :func:`group_batch`.
    """
    logps = _sums(output.head.losses, batch["target_sizes"])
    if output.depth is not None:
        logps = logps + _sums(output.depth.losses, _code_sizes(output, batch))
    return -logps


def token_logps(output: NetworkOutput, batch: GroupBatch) -> Tensor:
    """Return each log-probability (sum of ``said``,), those of an answer together: its targets, then further codes.

    Args:
        output: What the network gives for the batch; with ``tokenwise``, the result has a gradient.
        batch: Of :func:`group_batch`.
    """
    targets = torch.split(output.head.losses, batch["target_sizes"])
    if output.depth is None:
        return -output.head.losses
    codes = torch.split(output.depth.losses, _code_sizes(output, batch))
    return -torch.cat([part for both in zip(targets, codes, strict=True) for part in both])


def _code_sizes(output: NetworkOutput, batch: GroupBatch) -> list[int]:
    """Return how many codes of the depth network each document has; they come in the order of their documents."""
    assert output.depth is not None
    codes = output.depth.count // max(sum(batch["frame_sizes"]), 1)
    return [size * codes for size in batch["frame_sizes"]]


def _sums(losses: Tensor, sizes: Sequence[int]) -> Tensor:
    return torch.stack([piece.sum() for piece in torch.split(losses, list(sizes))])


def _shared(prompts: Sequence[int], answers: Sequence[int], lengths: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return which positions of the whole documents are computed (T,), and where among them each one is.

    Args:
        prompts: Positions of each group's prompt.
        answers: Documents of each group.
        lengths: Positions of each document.
    """
    ends = np.cumsum(lengths)
    begins = ends - lengths
    source = np.arange(ends[-1])
    for prompt, (first, *others) in zip(prompts, np.split(begins, np.cumsum(answers)[:-1]), strict=True):
        for other in others:
            # The last one says another id in each answer, so each answer has one of its own.
            source[other : other + prompt - 1] = np.arange(first, first + prompt - 1)
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
