"""A causal language model of transformers that speaks codec tokens; a backend hands in its layout, prompt and codec.

As in :mod:`tts_train.contract`, a name is imported when it is first used: only those of what computes load torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tts_train.families.token_lm.codec import Codec
    from tts_train.families.token_lm.data.data import TokenData
    from tts_train.families.token_lm.decoding.options import Sampling
    from tts_train.families.token_lm.export.adapter import MergedExport, PeftExport
    from tts_train.families.token_lm.export.card import CardFacts, CardText
    from tts_train.families.token_lm.export.gguf import GgufExport
    from tts_train.families.token_lm.export.hf import HfExport
    from tts_train.families.token_lm.export.release import ReleaseExport
    from tts_train.families.token_lm.frame_reader import FrameReader, FramesRead
    from tts_train.families.token_lm.frames.layout import FrameLayout
    from tts_train.families.token_lm.layout import Ids, Levels, TokenLayout
    from tts_train.families.token_lm.model import TokenLM
    from tts_train.families.token_lm.module import TokenModule
    from tts_train.families.token_lm.network.start import TinyOptions
    from tts_train.families.token_lm.preparing.prepare import TokenPrepare
    from tts_train.families.token_lm.rows import IdRow, PromptFormat
    from tts_train.families.token_lm.speaking.synth import TokenSynth
    from tts_train.families.token_lm.words import byte_tokenizer, checked_tokenizer

__all__ = [
    "CardFacts",
    "CardText",
    "Codec",
    "FrameLayout",
    "FrameReader",
    "FramesRead",
    "GgufExport",
    "HfExport",
    "IdRow",
    "Ids",
    "Levels",
    "MergedExport",
    "PeftExport",
    "PromptFormat",
    "ReleaseExport",
    "Sampling",
    "TinyOptions",
    "TokenData",
    "TokenLM",
    "TokenLayout",
    "TokenModule",
    "TokenPrepare",
    "TokenSynth",
    "byte_tokenizer",
    "checked_tokenizer",
]

_HOMES = {
    "codec": "Codec",
    "data.data": "TokenData",
    "decoding.options": "Sampling",
    "export.adapter": "MergedExport PeftExport",
    "export.card": "CardFacts CardText",
    "export.gguf": "GgufExport",
    "export.hf": "HfExport",
    "export.release": "ReleaseExport",
    "frames.layout": "FrameLayout",
    "frame_reader": "FrameReader FramesRead",
    "layout": "Ids Levels TokenLayout",
    "model": "TokenLM",
    "module": "TokenModule",
    "network.start": "TinyOptions",
    "preparing.prepare": "TokenPrepare",
    "rows": "IdRow PromptFormat",
    "speaking.synth": "TokenSynth",
    "words": "byte_tokenizer checked_tokenizer",
}
"""Where in this package each name is defined; the imports above say the same to a type checker."""
_HOME = {name: f"{__name__}.{home}" for home, names in _HOMES.items() for name in names.split()}


def __getattr__(name: str) -> object:
    """Import a public name when it is first used."""
    if name not in _HOME:
        raise AttributeError(f"{__name__} has no name {name!r}; see docs/writing-a-backend.md")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names."""
    return __all__
