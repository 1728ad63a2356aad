"""What is trained, and on what: the family's module and data with CSM in them."""

from __future__ import annotations

from typing import Any

from tts_train.families.token_lm import PairData, PreferenceModule, PromptData, ReinforceModule, TokenData, TokenModule
from tts_train_csm.model import CSM


class CsmModule(TokenModule):
    """Train CSM on prepared frames.

    Args:
        init_from: Base to start from: a hub name, a local folder, an export of this tool, or ``tiny``.
        options: Those of :class:`TokenModule`.
    """

    token_lm = CSM

    def __init__(self, init_from: str = CSM.base, **options: Any) -> None:
        super().__init__(init_from=init_from, **options)


class CsmData(TokenData):
    """Batches of prepared frames."""

    token_lm = CSM


class CsmPreference(PreferenceModule, CsmModule):
    """Train CSM on pairs of its takes."""


class CsmPairs(PairData):
    """Batches of pairs of takes."""

    token_lm = CSM


class CsmReinforce(ReinforceModule, CsmModule):
    """Train CSM on takes that it draws."""


class CsmPrompts(PromptData):
    """Texts that are spoken in training."""

    token_lm = CSM
