"""What a backend says of its model: one value, from which the family's modules, data and jobs work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from tts_train.families.token_lm.codec import Codec
    from tts_train.families.token_lm.layout import TokenLayout
    from tts_train.families.token_lm.rows import PromptFormat


@dataclass(frozen=True, kw_only=True)
class TokenLM:
    """A causal language model of transformers that speaks codec tokens."""

    name: str
    """For messages: ``Orpheus``."""
    kind: str
    """What prepared folders say that they hold: ``orpheus/lm``."""
    layout: TokenLayout
    prompt: PromptFormat
    load_codec: Callable[..., Codec]
    """``load_codec(source, device=...)``; imports what it needs only when called."""
    codec: str
    """The codec of the released models: what speaking takes where nothing else is known."""
    load_tokenizer: Callable[[str], PreTrainedTokenizerBase]
    """Returns the tokenizer of a folder, a hub name or ``tiny``, checked against the layout."""
    tiny_config: Callable[..., Any]
    """Returns the transformers configuration of a small network with the real vocabulary, by ``TinyOptions``."""
