"""Generation as Qwen3-TTS's own code has it, on our decoding: the text along the frames, and torch's random numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tests.qwen3_tts.layouts import Rows
from tts_train.families.token_lm.decoding.sampling import sample
from tts_train.families.token_lm.frames.decoding import FrameDecoding
from tts_train.families.token_lm.model import Sampling

GREEDY = Sampling(temperature=0, repetition_penalty=1)


class UpstreamDecoding(FrameDecoding):
    """A decoding that notes what it does, in upstream's layout of text and with upstream's draws.

    Args:
        lm: A ``Qwen3TTSLM``.
        prompts: Rows of ids.
        rows: Upstream's layout of each prompt; None for ours.
        frames: Frames to generate.
        sampling: How first codes are drawn.
        depth: How the others are; None for as the first ones.
        generator: Upstream's random numbers, a draw for the whole batch at once; None for ours, or none.
    """

    def __init__(
        self,
        lm: Any,
        prompts: Sequence[np.ndarray[Any, Any]],
        *,
        rows: Sequence[Rows] | None,
        frames: int,
        sampling: Sampling,
        depth: Sampling | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        self._rows, self._depth_sampling, self._generator = rows, depth or sampling, generator
        self.states: list[Tensor] = []
        """What the code predictor is handed for each frame (B, H)."""
        self.codes: list[Tensor] = []
        """Each frame (B, K)."""
        self.leads: tuple[list[Tensor], list[Tensor]] = ([], [])
        """For each draw of first codes, and of others, by how much the best logit of each row leads (B,)."""
        layout = lm.layout
        limits = [frames * layout.slots] * len(prompts)
        super().__init__(layout, lm, prompts, seeds=[0] * len(prompts), limits=limits, sampling=sampling)

    def run(self) -> None:
        """Generate until every row has ended or has its frames."""
        with torch.no_grad():
            for _ in self.tokens():
                pass

    def lengths(self) -> list[int]:
        """Return how many frames of each row are before its end, the last one left out.

        Upstream draws a last first code, whose other codes it never asks for.
        """
        ends = torch.stack(self.codes, dim=1)[:, :, 0] == self._layout.end_code
        most = max(self._frames) - 1
        return [int(row.int().argmax()) if row.any() else most for row in ends[:, : most + 1]]

    def leads_by_frame(self, *, first: bool) -> Tensor:
        """Return the least lead in each row's frames (B, F), of first codes or of the others."""
        leads = torch.stack(self.leads[0 if first else 1])
        return leads.unflatten(0, (len(self.codes), -1)).amin(dim=1).T

    def _embedded(self, prompts: Sequence[np.ndarray[Any, Any]]) -> Tensor:
        if self._rows is None:
            return super()._embedded(prompts)
        with torch.no_grad():
            made = [rows.embedded(self._lm) for rows in self._rows]
        sizes = [len(each) for each in made]
        # Shorter than with the whole text first, so that there are places enough in the cache.
        self._longest, self._lengths = max(sizes), torch.tensor(sizes)
        return torch.nn.utils.rnn.pad_sequence(made, batch_first=True)

    def _advance(self, codes: Tensor, number: int) -> Tensor:
        if self._rows is None:
            return super()._advance(codes, number)
        pad = self._layout.tts_pad
        words = [rows.trailing[number] if number < len(rows.trailing) else pad for rows in self._rows]
        beside = self._lm.embed_pairs(torch.tensor(words), torch.full((len(words),), -1))
        read = self._lm.sum_of_codes(codes) + beside
        return self._backbone.step(read, self._lengths + number, span=self._longest + number + 1)

    def _frame(self, hidden: Tensor, number: int) -> Tensor:
        self.states.append(hidden)
        made = super()._frame(hidden, number)
        self.codes.append(made)
        return made

    def _drawn(self, logits: Tensor, step: int) -> Tensor:
        first = step % self._layout.slots == 0
        best = logits.topk(2).values
        self.leads[0 if first else 1].append(best[:, 0] - best[:, 1])
        if self._generator is None:
            return super()._drawn(logits, step)
        sampling = self._sampling if first else self._depth_sampling
        columns = self._first.rows if first else torch.arange(logits.shape[-1])
        # Over all rows of the output matrix, as random numbers are drawn for each of them.
        width = self._layout.output_rows if first else self._layout.codebook_size
        spread = torch.zeros(len(logits), width).index_copy_(1, columns, distribution(logits.float(), sampling))
        drawn = torch.multinomial(spread, 1, generator=self._generator)[:, 0]
        return torch.searchsorted(columns, drawn)


def distribution(logits: Tensor, sampling: Sampling) -> Tensor:
    """Return the probabilities (B, n) that :func:`sample` draws the columns of ``logits`` (B, n) with.

    They are upstream's but for logits that are equal to the last of ``top_k``: upstream keeps all of them, and ours as
    many as were asked for.
    """
    kept = torch.stack([_kept(row, sampling) for row in logits])
    return (logits / sampling.temperature).masked_fill(~kept, -torch.inf).softmax(dim=-1)


def _kept(logits: Tensor, sampling: Sampling) -> Tensor:
    """Tell which columns (n,) can be drawn: each is where the noise favours it beyond any difference of logits."""
    size = len(logits)
    favoured = torch.where(torch.eye(size, dtype=torch.bool), 1e-38, 1.0)

    def noise(columns: Tensor | None) -> Tensor:
        return favoured if columns is None else favoured.gather(1, columns.expand(size, -1))

    drawn = sample(logits.expand(size, -1), replace(sampling, repetition_penalty=1), noise)
    return drawn == torch.arange(size)
