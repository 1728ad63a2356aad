"""The jobs of the family, for Orpheus: its defaults, and what its help says besides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tts_train.families.token_lm import GgufExport, HfExport, MergedExport, PeftExport, TokenPrepare, TokenSynth
from tts_train_orpheus.model import ORPHEUS


@dataclass(kw_only=True)
class OrpheusPrepare(TokenPrepare):
    """Turn recordings with text into Orpheus's tokens; the same command again continues, or reuses what is there."""

    token_lm = ORPHEUS

    codec: str = ORPHEUS.codec
    """SNAC codec: a hub name or a local folder; or ``tiny``, which is in the package and knows the sample voice."""
    tokenizer: str = ORPHEUS.base
    """Tokenizer of the model to train: a hub name, a local folder, or ``tiny``."""


@dataclass(kw_only=True)
class OrpheusSynth(TokenSynth):
    """Speak a text with a run, a checkpoint, an export, or an upstream model, and write 24 kHz 16-bit mono."""

    token_lm = ORPHEUS

    # Named here again for its help, which says what Orpheus speaks through.
    codec: str | None = None
    """SNAC codec: a hub name, a local folder, or ``tiny``; none takes the one that made the run's data, as far as that
    is known, else hubertsiuzdak/snac_24khz."""
    repetition_penalty: float = 1.1
    """Makes used tokens less likely; Orpheus needs 1.1 or more, and a higher value speaks faster."""


@dataclass(kw_only=True)
class OrpheusHf(HfExport):
    """Write a folder for transformers and vLLM: weights, tokenizer, generation settings and a model card.

    A run with adapters is merged first, so that its ``hf`` is the same model as its ``merged``.
    """

    token_lm = ORPHEUS


@dataclass(kw_only=True)
class OrpheusPeft(PeftExport):
    """Write the adapter alone, for ``peft.PeftModel.from_pretrained(base, folder)``."""

    token_lm = ORPHEUS


@dataclass(kw_only=True)
class OrpheusMerged(MergedExport):
    """Write base and adapter as one model, in the layout of ``hf``.

    The adapter is added in float32 to the base as it was before any quantisation, and rounded once.
    """

    token_lm = ORPHEUS


@dataclass(kw_only=True)
class OrpheusGguf(GgufExport):
    """Write a file for llama.cpp; ``--out`` is its name, or a folder for it.

    A run with adapters is merged first. Pass token ids to llama.cpp rather than a string.
    """

    token_lm = ORPHEUS

    dtype: Literal["f16", "bf16", "q8_0", "q4_k"] = "bf16"
    """Type of the matrices; ``q4_k`` is the mixture of 4 and 6 bits that llama.cpp calls Q4_K_M.

    Orpheus is known to lose frames below 8 bits: listen to what ``q4_k`` says.
    """
