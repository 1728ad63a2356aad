"""What training on pairs is measured by: the log-probabilities of both takes are those with which they were drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tts_train.contract.probe import Said
from tts_train.families.token_lm.preference.batch import IdPair
from tts_train.families.token_lm.preference.pair_set import PairRow
from tts_train.families.token_lm.probe import FrameProbe, TokenProbe

if TYPE_CHECKING:
    from tts_train.families.token_lm.data.batch import Document
    from tts_train.families.token_lm.layout import Ids

_OTHER = 4
"""Frames of the worse take, of which the better ones have other numbers."""


class PairProbe(TokenProbe):
    """Measures a ``PreferenceModule`` on pairs of utterances that its network draws.

    What stands for a loss is the log-probability of all that was drawn in both takes, as it enters the preference.
    """

    def say(self, lengths: Sequence[int]) -> Sequence[Said]:
        """Draw utterances with the network as it stands, each as the better take beside another one."""
        # One more for all of them: what is rejected is scored in the same pass and must be as exact.
        *better, worse = super().say([*lengths, _OTHER])
        return [_pair(each, worse) for each in better]

    def weight(self, batch: Any) -> float:  # noqa: ANN401 - NumberedPairs
        """Return how many log-probabilities there are."""
        return float(batch["said"].sum())

    def batches(self, rows: Sequence[Any]) -> Mapping[str, Any]:
        """Return pairs as the data module joins them."""
        return {"packed": self.data.collate(list(rows))}

    def total(self, batch: Any) -> Tensor:  # noqa: ANN401 - NumberedPairs
        """Return the sum of all negative log-probabilities, with a gradient."""
        # By the module's own method, which its step calls.
        total: Tensor = -self.module.logps(batch).sum()
        return total


class FramePairProbe(PairProbe, FrameProbe):
    """The same for frames, of which every code counts as much as any other."""

    def shares(self, books: Tensor) -> Tensor:
        """Return 1 for each code."""
        return torch.ones_like(books, dtype=torch.float32)


def _pair(better: Said, worse: Said) -> Said:
    prompt, chosen = _parts(better.row)
    row = PairRow(IdPair("said", prompt, chosen, _parts(worse.row)[1]), 0)
    # The better one last: what was drawn ends with its stop.
    tokens, scores = torch.cat([worse.tokens, better.tokens]), torch.cat([worse.scores, better.scores])
    return Said(row=row, tokens=tokens, scores=scores)


def _parts(document: Document) -> tuple[Ids, Ids]:
    """Return the prompt of a drawn utterance, and what was drawn."""
    assert document.learnt is not None
    said = document.input_ids[document.learn_from :]
    return document.input_ids[: document.learn_from], said[document.learnt[document.learn_from :]]
