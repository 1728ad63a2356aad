"""What is trained, and on what: the family's module and data with Orpheus in them."""

from __future__ import annotations

from typing import Any

from tts_train.families.token_lm import PairData, PreferenceModule, PromptData, ReinforceModule, TokenData, TokenModule
from tts_train_orpheus.model import ORPHEUS


class OrpheusModule(TokenModule):
    """Train Orpheus on prepared tokens.

    Args:
        init_from: Base to start from: a hub name, a local folder, an export of this tool, or ``tiny``.
        options: Those of :class:`TokenModule`.
    """

    token_lm = ORPHEUS

    def __init__(self, init_from: str = ORPHEUS.base, **options: Any) -> None:  # noqa: ANN401
        super().__init__(init_from=init_from, **options)


class OrpheusData(TokenData):
    """Batches of prepared tokens."""

    token_lm = ORPHEUS


class OrpheusPreference(PreferenceModule, OrpheusModule):
    """Train Orpheus on pairs of its takes."""


class OrpheusPairs(PairData):
    """Batches of pairs of takes."""

    token_lm = ORPHEUS


class OrpheusReinforce(ReinforceModule, OrpheusModule):
    """Train Orpheus on takes that it draws."""


class OrpheusPrompts(PromptData):
    """Texts that are spoken in training."""

    token_lm = ORPHEUS
