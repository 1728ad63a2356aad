"""Which network of the family a model is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tts_train.families.token_lm.data.batch import Document, TokenBatch, pack_documents, pad_documents
from tts_train.families.token_lm.frames.batch import pack_frames, pad_frames
from tts_train.families.token_lm.frames.layout import FrameLayout
from tts_train.families.token_lm.frames.network import FrameNetwork
from tts_train.families.token_lm.metrics import FrameMetrics, TokenMetrics
from tts_train.families.token_lm.network.network import HeadOptions, TokenNetwork

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from tts_train.families.token_lm.layout import TokenLayout


def build_network(lm: PreTrainedModel, layout: TokenLayout, head: HeadOptions = HeadOptions()) -> TokenNetwork:
    """Return the network around a model of transformers: with a depth network if a frame is one position."""
    # By the layout, as it says how ids become positions; everything above sees one interface.
    if isinstance(layout, FrameLayout):
        return FrameNetwork(lm, layout, head)
    return TokenNetwork(lm, layout, head)


def joined(documents: Sequence[Document], layout: TokenLayout, *, packed: bool) -> TokenBatch:
    """Return the batch that such a network takes: packed without padding, or a document a row."""
    if isinstance(layout, FrameLayout):
        return (pack_frames if packed else pad_frames)(documents, layout)
    return (pack_documents if packed else pad_documents)(documents, layout)


def metrics_of(layout: TokenLayout, device: torch.device | str) -> TokenMetrics:
    """Return the sums over what such a network gives."""
    return FrameMetrics(layout, device) if isinstance(layout, FrameLayout) else TokenMetrics(layout, device)
