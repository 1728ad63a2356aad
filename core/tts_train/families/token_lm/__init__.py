"""A causal language model of transformers that speaks codec tokens; a backend hands in its layout, prompt and codec.

As in :mod:`tts_train.contract`, a name is imported when it is first used: only those of what computes load torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tts_train.lazy import lazy_names

if TYPE_CHECKING:
    from tts_train.families.token_lm.data.data import TokenData as TokenData
    from tts_train.families.token_lm.data.encode import TokenEncoder as TokenEncoder
    from tts_train.families.token_lm.data.prepare import TokenPrepare as TokenPrepare
    from tts_train.families.token_lm.export.card import CardFacts as CardFacts, CardText as CardText
    from tts_train.families.token_lm.export.jobs import (
        FolderExport as FolderExport,
        GgufExport as GgufExport,
        HfExport as HfExport,
        MergedExport as MergedExport,
        PeftExport as PeftExport,
        ReleaseExport as ReleaseExport,
    )
    from tts_train.families.token_lm.frames.layout import FrameLayout as FrameLayout
    from tts_train.families.token_lm.layout import (
        FrameReader as FrameReader,
        FramesRead as FramesRead,
        Ids as Ids,
        Levels as Levels,
        TokenLayout as TokenLayout,
    )
    from tts_train.families.token_lm.model import (
        Codec as Codec,
        Sampling as Sampling,
        TokenLM as TokenLM,
        check_clip as check_clip,
        weights_fingerprint as weights_fingerprint,
    )
    from tts_train.families.token_lm.module import TokenModule as TokenModule
    from tts_train.families.token_lm.network.start import TinyOptions as TinyOptions
    from tts_train.families.token_lm.preference.data import PairData as PairData
    from tts_train.families.token_lm.preference.module import PreferenceModule as PreferenceModule
    from tts_train.families.token_lm.preference.stage import preference_stage as preference_stage
    from tts_train.families.token_lm.prompts import (
        IdRow as IdRow,
        PromptFormat as PromptFormat,
        byte_tokenizer as byte_tokenizer,
        checked_tokenizer as checked_tokenizer,
    )
    from tts_train.families.token_lm.reinforce.data import PromptData as PromptData
    from tts_train.families.token_lm.reinforce.module import ReinforceModule as ReinforceModule
    from tts_train.families.token_lm.reinforce.stage import reinforce_stage as reinforce_stage
    from tts_train.families.token_lm.speaking.synth import TokenSynth as TokenSynth

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        ".data.data": "TokenData",
        ".data.encode": "TokenEncoder",
        ".data.prepare": "TokenPrepare",
        ".export.card": "CardFacts CardText",
        ".export.jobs": "FolderExport GgufExport HfExport MergedExport PeftExport ReleaseExport",
        ".frames.layout": "FrameLayout",
        ".layout": "FrameReader FramesRead Ids Levels TokenLayout",
        ".model": "Codec Sampling TokenLM check_clip weights_fingerprint",
        ".module": "TokenModule",
        ".network.start": "TinyOptions",
        ".preference.data": "PairData",
        ".preference.module": "PreferenceModule",
        ".preference.stage": "preference_stage",
        ".prompts": "IdRow PromptFormat byte_tokenizer checked_tokenizer",
        ".reinforce.data": "PromptData",
        ".reinforce.module": "ReinforceModule",
        ".reinforce.stage": "reinforce_stage",
        ".speaking.synth": "TokenSynth",
    },
)
