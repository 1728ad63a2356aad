"""A batch of rows whose frames are one position each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor

from tts_train.families.token_lm.data.batch import NO_TARGET, Document, TokenBatch, pack_documents, pad_documents

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tts_train.families.token_lm.frames.layout import FrameLayout
    from tts_train.families.token_lm.layout import Ids


class FrameBatch(TokenBatch):
    """As :class:`TokenBatch`, where T counts positions and the targets are codes of the first codebook."""

    frame_places: Tensor
    """(F,) int64, where in the flattened (B * T) positions each frame stands, ascending."""
    codes: Tensor
    """(F, K) int64, the codes of each frame."""
    learnt: Tensor
    """(M,) int64, the frames that are learnt, as indices into ``codes``, ascending; none is a row's first position."""
    before: Tensor
    """(M,) int64, the flattened position before each of these: its state says the frame."""


def pack_frames(documents: Sequence[Document], layout: FrameLayout) -> FrameBatch:
    """Put documents one behind the other; see ``pack_documents``."""
    return _with_frames(documents, layout, packed=True)


def pad_frames(documents: Sequence[Document], layout: FrameLayout) -> FrameBatch:
    """Put each document in a row of its own; see ``pad_documents``."""
    return _with_frames(documents, layout, packed=False)


def _with_frames(documents: Sequence[Document], layout: FrameLayout, *, packed: bool) -> FrameBatch:
    # Before the ids are thinned out to one for each position.
    read = [layout.frames_in(document.input_ids) for document in documents]
    rows = [_at_positions(document, layout) for document in documents]
    batch = (pack_documents if packed else pad_documents)(rows, layout)
    sizes = [len(row) for row in rows]
    width = max(sizes)
    # Where each document begins among the flattened positions.
    begins = np.cumsum([0, *sizes[:-1]]) if packed else np.arange(len(rows)) * width
    places = [np.flatnonzero(framed) for framed, _ in read]
    learnt = [_learnt(row, where) for row, where in zip(rows, places, strict=True)]
    flat = np.concatenate([begin + where for begin, where in zip(begins, places, strict=True)])
    codes = torch.from_numpy(np.concatenate([each for _, each in read]))
    frames, chosen = torch.from_numpy(flat), torch.from_numpy(np.flatnonzero(np.concatenate(learnt)))
    targets = torch.full_like(batch["targets"].flatten(), NO_TARGET)
    # The state before a frame says its first code; the other codes are targets of the depth network.
    before = frames[chosen] - 1
    targets[before] = codes[chosen, 0]
    if not layout.end_is_frame:
        targets[batch["targets"].flatten() == layout.end_of_speech] = layout.end_code
    # Counted here and not on the card, which would have to be waited for.
    kept = (targets != NO_TARGET).nonzero().squeeze(1)
    made = {**batch, "targets": targets.view_as(batch["targets"]), "kept": kept, "before": before}
    framed: Any = {**made, "frame_places": frames, "codes": codes, "learnt": chosen}
    return cast("FrameBatch", framed)


def _at_positions(document: Document, layout: FrameLayout) -> Document:
    """Return a document with the first id of each position only."""
    starts = layout.starts(document.input_ids)
    # A frame is learnt where its first id is: a mark within a frame has no meaning here.
    learnt = None if document.learnt is None else document.learnt[starts]
    first = int((starts < document.learn_from).sum())
    return Document(document.id, document.input_ids[starts], first, document.seconds, learnt)


def _learnt(row: Document, places: Ids) -> NDArray[np.bool_]:
    """Tell which of the frames at ``places`` are learnt: there is a position before, and the row says so."""
    # A target stands one position before its frame, and before the first position stands nothing.
    wanted = np.append(False, row.targets[:-1] != NO_TARGET)
    chosen: NDArray[np.bool_] = wanted[places]
    return chosen
