"""A batch being continued: every step is forward pass and draw on the device; the host reads tokens behind it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tts_train.errors import NumericError
from tts_train.families.token_lm.decoding.decoder import CachedDecoder, bucket
from tts_train.families.token_lm.decoding.sampling import Allowed, penalise, sample
from tts_train.families.token_lm.decoding.step_graph import READING, StepGraph, can_be_recorded
from tts_train.families.token_lm.model import Sampling
from tts_train.nn.devices import side_stream
from tts_train.nn.reproducible import exponential_noise, seed_keys

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM

    from tts_train.families.token_lm.layout import Ids, TokenLayout

CLOSED = -1
"""Stands in the log where a row had ended."""


class Decoding:
    """Prompts that are continued, each with random numbers of its own.

    Step n draws row r's n-th id with noise of (seed of r, n, id). What has ended goes on without counting, so that
    shapes stay. On CUDA a step is captured as one graph for each size of the cache and replayed.

    Args:
        layout: Of its ids.
        lm: In evaluation mode.
        prompts: Ids that end with the start of speech.
        seeds: One for each prompt.
        limits: Most ids to generate for each prompt.
        sampling: How ids are drawn.
    """

    def __init__(
        self,
        layout: TokenLayout,
        lm: LlamaForCausalLM,
        prompts: Sequence[Ids],
        *,
        seeds: Sequence[int],
        limits: Sequence[int],
        sampling: Sampling,
    ) -> None:
        weight: Tensor = lm.lm_head.weight
        device = weight.device
        self._layout, self._lm, self._sampling = layout, lm, sampling
        self._longest, self._steps = max(len(prompt) for prompt in prompts), max(limits)
        # Rows are counted from the longest prompt: one size of cache for all, whatever is left free in the others.
        self._most = self._longest + self._steps
        self._decoder = CachedDecoder(lm, len(prompts), bucket(self._longest + 1, self._most))
        self._allowed = Allowed(layout, sampling.constrain, len(weight), device)
        self._lengths = torch.tensor([len(prompt) for prompt in prompts])
        ids = torch.full((len(prompts), self._longest), layout.pad)
        # Kept for the whole vocabulary, so that the penalty needs no bookkeeping of ids.
        used = torch.zeros(len(prompts), len(weight), dtype=torch.bool)
        for row, prompt in enumerate(prompts):
            ids[row, : len(prompt)] = torch.as_tensor(prompt)
            used[row, ids[row, : len(prompt)]] = True
        self._ids, self._lengths, self._used = (each.to(device) for each in (ids, self._lengths, used))
        # Seeds have no bound in Python and 64 bits here; one seed must always give one key.
        wrapped = [(seed + 2**63) % 2**64 - 2**63 for seed in seeds]
        # (2, B, 1), as the noise wants them.
        self._seeds = seed_keys(torch.tensor(wrapped, dtype=torch.int64, device=device)[:, None])
        self._limits = torch.tensor(limits, device=device)
        self._tokens = torch.full_like(self._limits, layout.pad)
        self._positions = self._lengths - 1
        self._ended = torch.zeros_like(self._limits, dtype=torch.bool)
        # On the device, so that a recorded step counts by itself when it is replayed.
        self._step = torch.zeros((), dtype=torch.int64, device=device)
        # One row a step: the ids, and whether every logit was finite. The host reads nothing else.
        self._log = torch.zeros(self._steps, len(prompts) + 1, dtype=torch.int64, device=device)
        self._graph = StepGraph(device, enabled=device.type == "cuda" and can_be_recorded(lm))

    def tokens(self, *, chunk: int = 1) -> Iterator[dict[int, int]]:
        """Yield, for each step, the id of every row that has not ended before.

        Args:
            chunk: Steps that a card takes between two looks at what was drawn; while it is looked at, the next chunk
                is on its way. A CPU takes them one by one.

        Raises:
            NumericError: if the network gives values that are not finite.
        """
        try:
            # A caller may stop listening at any id, and a graph would keep the memory of the cache.
            yield from self._drawn(chunk)
        finally:
            self._graph.drop()

    def _drawn(self, chunk: int) -> Iterator[dict[int, int]]:
        on_cpu = self._log.device.type == "cpu"
        # A card takes the next chunk while the host reads this one; a CPU would only take steps in vain.
        chunk, ahead = (1, 1) if on_cpu else (chunk, 2)
        rows = list(range(len(self._limits)))
        open_rows, done = set(rows), 0
        pending: deque[_Reading] = deque()
        while open_rows:
            while done < self._steps and len(pending) < ahead:
                first, done = done, min(done + chunk, self._steps)
                for step in range(first, done):
                    self._take(step)
                pending.append(_Reading(self._log[first:done]))
            for row in pending.popleft().rows():
                if row[-1]:
                    raise NumericError(
                        "The network gives values that are not finite; the weights or their type are broken."
                    )
                drawn = {rows[column]: token for column, token in enumerate(row[:-1]) if token != CLOSED}
                if not drawn:
                    return
                yield drawn
                open_rows -= {each for each, token in drawn.items() if token == self._layout.end_of_speech}
            if not pending and done == self._steps:
                return
            # A CPU's time grows with its rows. A card's hardly does, and its graph needs the shapes to stay.
            if on_cpu and open_rows and 2 * len(open_rows) <= len(rows):
                kept = [column for column, row in enumerate(rows) if row in open_rows]
                rows = [rows[column] for column in kept]
                self._keep(kept)

    def read(self) -> None:
        """Read the prompts and draw the first id of each."""
        self._draw(self._decoder.read(self._ids, self._lengths))

    def advance(self, span: int) -> None:
        """Add what was drawn last and draw the next: what a CUDA graph holds. ``span`` is above every position."""
        self._draw(self._decoder.step(self._tokens, self._positions, span=span))

    def _take(self, step: int) -> None:
        """Take a step: the first reads the prompts, the others add the token drawn last."""
        if step == 0:
            self.read()
            return
        if self._longest + step > self._decoder.places:
            # A graph holds addresses, and the larger cache has others: it is recorded anew.
            self._decoder.grow(bucket(self._longest + step, self._most))
            self._graph.drop()
        span = self._longest + step
        self._graph.run(lambda: self.advance(span))

    def _draw(self, hidden: Tensor) -> None:
        """Draw one id for each row, note it, and make it the next input; every tensor is changed in place."""
        sampling, step = self._sampling, self._step
        ids = self._allowed.ids(step)
        logits = self._allowed.logits(hidden, self._lm.lm_head.weight, ids)
        # Noted for later and not asked here, where the host would wait at every id.
        broken = ~torch.isfinite(logits).all()
        if sampling.repetition_penalty != 1:
            logits = penalise(logits, self._allowed.used(self._used, ids), sampling.repetition_penalty)
        blocked = self._allowed.blocked(step)
        if blocked is not None:
            logits = logits.masked_fill(blocked, -torch.inf)

        def noise(columns: Tensor | None) -> Tensor:
            return exponential_noise(self._seeds, step, ids if columns is None else ids[columns])

        tokens = ids[sample(logits, sampling, noise)]
        # Rows that have ended are drawn on, as shapes must stay; what they draw is not read.
        noted = torch.where(self._ended, CLOSED, tokens)
        self._log.index_copy_(0, step[None], torch.cat([noted, broken[None].to(noted.dtype)])[None])
        self._used.scatter_(1, tokens[:, None], True)
        self._tokens.copy_(tokens)
        # A row that has ended writes over one place instead of running out of the cache.
        self._positions += ~self._ended
        self._step += 1
        self._ended |= (tokens == self._layout.end_of_speech) | (self._step >= self._limits)

    def _keep(self, columns: list[int]) -> None:
        """Go on with these rows only."""
        chosen = torch.tensor(columns, device=self._log.device)
        self._decoder.keep(chosen)
        self._seeds = self._seeds.index_select(1, chosen)
        for name in ("_used", "_limits", "_tokens", "_positions", "_ended"):
            setattr(self, name, getattr(self, name).index_select(0, chosen))
        # The last column says whether all logits were finite.
        self._log = self._log[:, [*columns, -1]].contiguous()


@dataclass
class _Reading:
    """Rows of the log on their way to the host."""

    log: Tensor

    def __post_init__(self) -> None:
        if self.log.device.type == "cpu":
            return
        side = side_stream(self.log.device, READING)
        # The copy must not begin before the steps that write these rows are done.
        side.wait_stream(torch.cuda.current_stream(self.log.device))
        with torch.cuda.stream(side):
            # Pinned: a copy to other memory of the host would wait for the card.
            self.host = torch.empty(self.log.shape, dtype=self.log.dtype, pin_memory=True)
            self.host.copy_(self.log, non_blocking=True)
            self.done = torch.Event(self.log.device.type)
            self.done.record(side)

    def rows(self) -> list[list[int]]:
        """Wait until they are there."""
        if self.log.device.type == "cpu":
            return self.log.tolist()
        self.done.synchronize()
        return self.host.tolist()
