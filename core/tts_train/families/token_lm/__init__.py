"""A causal language model of transformers that speaks codec tokens; a backend hands in its layout, prompt and codec.

As in :mod:`tts_train.contract`, a name is imported when it is first used: only those of what computes load torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tts_train.lazy import lazy_names

if TYPE_CHECKING:
    from tts_train.families.token_lm.codec import Codec as Codec, weights_fingerprint as weights_fingerprint
    from tts_train.families.token_lm.data.data import TokenData as TokenData
    from tts_train.families.token_lm.decoding.options import Sampling as Sampling
    from tts_train.families.token_lm.export.adapter import MergedExport as MergedExport, PeftExport as PeftExport
    from tts_train.families.token_lm.export.card import CardFacts as CardFacts, CardText as CardText
    from tts_train.families.token_lm.export.gguf import GgufExport as GgufExport
    from tts_train.families.token_lm.export.hf import HfExport as HfExport
    from tts_train.families.token_lm.export.release import ReleaseExport as ReleaseExport
    from tts_train.families.token_lm.frame_reader import FrameReader as FrameReader, FramesRead as FramesRead
    from tts_train.families.token_lm.frames.layout import FrameLayout as FrameLayout
    from tts_train.families.token_lm.layout import Ids as Ids, Levels as Levels, TokenLayout as TokenLayout
    from tts_train.families.token_lm.model import TokenLM as TokenLM
    from tts_train.families.token_lm.module import TokenModule as TokenModule
    from tts_train.families.token_lm.network.start import TinyOptions as TinyOptions
    from tts_train.families.token_lm.preparing.prepare import TokenPrepare as TokenPrepare
    from tts_train.families.token_lm.rows import IdRow as IdRow, PromptFormat as PromptFormat
    from tts_train.families.token_lm.speaking.synth import TokenSynth as TokenSynth
    from tts_train.families.token_lm.words import (
        byte_tokenizer as byte_tokenizer,
        checked_tokenizer as checked_tokenizer,
    )

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        ".codec": "Codec weights_fingerprint",
        ".data.data": "TokenData",
        ".decoding.options": "Sampling",
        ".export.adapter": "MergedExport PeftExport",
        ".export.card": "CardFacts CardText",
        ".export.gguf": "GgufExport",
        ".export.hf": "HfExport",
        ".export.release": "ReleaseExport",
        ".frames.layout": "FrameLayout",
        ".frame_reader": "FrameReader FramesRead",
        ".layout": "Ids Levels TokenLayout",
        ".model": "TokenLM",
        ".module": "TokenModule",
        ".network.start": "TinyOptions",
        ".preparing.prepare": "TokenPrepare",
        ".rows": "IdRow PromptFormat",
        ".speaking.synth": "TokenSynth",
        ".words": "byte_tokenizer checked_tokenizer",
    },
)
