"""Generation that notes how likely every id was at every draw: what training is measured by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tts_train.families.token_lm.decoding.decoding import Decoding
from tts_train.families.token_lm.decoding.options import HELD_TO, Sampling

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM

    from tts_train.families.token_lm.layout import Ids, TokenLayout


class ScoredDecoding(Decoding):
    """A :class:`Decoding` of one prompt at temperature 1 that keeps the log-probabilities of each step.

    Args:
        layout: Of its ids.
        lm: In evaluation mode.
        prompt: Ids that end with the start of speech.
        seed: Of what is drawn.
        limit: Most ids to generate.
        softmax: What the training loss sees: ``full``, ``audio`` or ``slot``.
    """

    def __init__(
        self, layout: TokenLayout, lm: LlamaForCausalLM, prompt: Ids, *, seed: int, limit: int, softmax: str
    ) -> None:
        sampling = Sampling(temperature=1, top_p=1, top_k=0, repetition_penalty=1, constrain=HELD_TO[softmax])
        super().__init__(layout, lm, [prompt], seeds=[seed], limits=[limit], sampling=sampling)
        self._softmax = softmax
        self.scores: list[Tensor] = []
        """Log-probability of each id (vocabulary,), a step each, in float32."""

    def _draw(self, hidden: Tensor) -> None:
        ids = self._allowed.ids(self._step)
        logits = self._allowed.logits(hidden, self._lm.lm_head.weight, ids)
        blocked = self._allowed.blocked(self._step)
        if self._softmax == "audio":
            # Its loss sees the added control ids too, which generation does not let through.
            ids = torch.arange(self._layout.added_base, len(self._lm.lm_head.weight))
            logits, blocked = (hidden @ self._lm.lm_head.weight[ids].T).float(), None
        if blocked is not None:
            logits = logits.masked_fill(blocked, -torch.inf)
        row = torch.full((len(self._lm.lm_head.weight),), -torch.inf)
        row[ids] = logits[0].log_softmax(-1)
        self.scores.append(row)
        super()._draw(hidden)


@torch.inference_mode()
def sample_scored(
    layout: TokenLayout, lm: LlamaForCausalLM, prompt: Ids, lengths: Sequence[int], *, seed: int, softmax: str
) -> list[tuple[Tensor, Tensor]]:
    """Sample one utterance and end it after each of some lengths.

    Args:
        layout: Of its ids.
        lm: In evaluation mode, on the CPU.
        prompt: Ids that end with the start of speech.
        lengths: Ids after which it is ended, if it has not ended by itself.
        seed: Of what is drawn.
        softmax: What the training loss sees.

    Returns:
        For each length the ids (T,), the end of speech last, and the log-probabilities at each draw (T, vocabulary).
    """
    settings: dict[str, Any] = {"seed": seed, "limit": max(lengths) + 1, "softmax": softmax}
    decoding = ScoredDecoding(layout, lm, prompt, **settings)
    drawn = [step[0] for step in decoding.tokens()]
    scores = torch.stack(decoding.scores).clone()
    whole = drawn.index(layout.end_of_speech) if layout.end_of_speech in drawn else len(drawn) - 1
    made = []
    for length in lengths:
        end = min(length, whole)
        made.append((torch.tensor([*drawn[:end], layout.end_of_speech]), scores[: end + 1]))
    return made
