"""The jobs of the family, for CSM: its defaults, and the folder that transformers' own class loads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tts_train.families.token_lm import PeftExport, ReleaseExport, TokenPrepare, TokenSynth
from tts_train_csm.model import CSM

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(kw_only=True)
class CsmPrepare(TokenPrepare):
    """Turn recordings with text into CSM's frames; the same command again continues, or reuses what is there."""

    token_lm = CSM

    codec: str = CSM.codec
    """Mimi: a hub name, a local folder, or ``tiny``."""
    tokenizer: str = CSM.base
    """Tokenizer of the model to train: a hub name, a local folder, or ``tiny``."""
    dedup: bool = False
    """Drop frames that repeat the first code of the one before; CSM was trained with all of them."""


@dataclass(kw_only=True)
class CsmSynth(TokenSynth):
    """Speak a text with a run, a checkpoint, an export, or an upstream model, and write 24 kHz 16-bit mono."""

    token_lm = CSM

    temperature: float = CSM.sampling.temperature
    """Below 1 is steadier, above livelier; 0 takes the most likely code, which tends to loop."""
    top_p: float = CSM.sampling.top_p
    """Draw from the smallest set of codes that has this much probability, above 0 to 1."""
    top_k: int = CSM.sampling.top_k
    """Draw from this many most likely codes at most; 0 sets no limit."""
    repetition_penalty: float = 1.0
    """Must be 1: the codes of a frame are used again and again."""
    max_new_tokens: int = 4000
    """Most codes to generate, 32 a frame: 4000 are 10 s."""


@dataclass(kw_only=True)
class CsmPeft(PeftExport):
    """Write the adapters of both networks, for PEFT on ``CsmForConditionalGeneration``."""

    token_lm = CSM


@dataclass(kw_only=True)
class CsmHf(ReleaseExport):
    """Write a folder for ``CsmForConditionalGeneration`` and ``AutoProcessor`` of transformers, Mimi in it."""

    token_lm = CSM

    def released(self, lm: Any, codec: str) -> PreTrainedModel:
        """Return transformers' own model with the weights of ``lm`` and the codec."""
        from transformers import CsmForConditionalGeneration, GenerationConfig

        from tts_train_csm.codec import load_mimi

        mimi = load_mimi(codec)
        lm.config.codec_config = mimi.config
        model: Any = CsmForConditionalGeneration._from_config(lm.config, dtype=lm.dtype)
        model.load_state_dict(lm.state_dict(), strict=False)
        model.codec_model = mimi
        # Mimi has none of the last three codes, and transformers would hand them to it.
        drawn = {"do_sample": True, "temperature": 0.9, "top_k": 50, "suppress_tokens": [2048, 2049, 2050]}
        model.generation_config = GenerationConfig(**drawn, max_new_tokens=125)
        model.depth_decoder.generation_config = GenerationConfig(**drawn, min_new_tokens=31, max_new_tokens=31)
        return model.eval()
