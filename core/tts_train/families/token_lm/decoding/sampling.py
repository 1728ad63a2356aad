"""How the next id is drawn: the ids that may come, the nucleus, and the draw; nothing waits for the device."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from tts_train.families.token_lm.layout import TokenLayout
from tts_train.families.token_lm.model import Constrain, Sampling

Noise: TypeAlias = Callable[["Tensor | None"], Tensor]
"""Takes columns of the logits (B, k), or None for all; gives unit exponential noise of that shape."""

_DIGITS = 1 << 10
_FEW = 1 << 18


class Allowed:
    """The ids that may come, in shapes that are the same at every step, so that a CUDA graph can hold them.

    Only their rows of the output matrix are multiplied with.

    Args:
        layout: Which ids are audio.
        constrain: Which ids.
        vocabulary: Rows of the output matrix.
        device: Where it is.
    """

    def __init__(self, layout: TokenLayout, constrain: Constrain, vocabulary: int, device: torch.device) -> None:
        self._layout, self._by_slot = layout, constrain == "slots"
        self._rows = slice(0, vocabulary)
        if constrain == "audio":
            first, last = min(layout.end_of_speech, layout.audio_base), max(layout.end_of_speech, layout.audio_end - 1)
            # A slice of the matrix costs nothing, where picking rows would copy them in every step.
            self._rows = slice(first, last + 1)
        self._ids = torch.arange(self._rows.start, self._rows.stop, device=device)
        self._blocked: Tensor | None = None
        if constrain == "audio":
            audio = (self._ids >= layout.audio_base) & (self._ids < layout.audio_end)
            self._blocked = ~audio & (self._ids != layout.end_of_speech)
        if self._by_slot:
            # One column more than there are codes: the end of speech, where a frame may begin.
            self._ids = torch.arange(layout.audio_base - 1, layout.audio_base + layout.codebook_size, device=device)
            self._first = self._ids < layout.audio_base

    def ids(self, step: Tensor) -> Tensor:
        """Return the ids (n,) of the columns at a step (0-d) after START_OF_SPEECH."""
        if not self._by_slot:
            return self._ids
        codes = self._ids + self._layout.codebook_size * (step % self._layout.slots)
        return torch.where(self._first, self._layout.end_of_speech, codes)

    def blocked(self, step: Tensor) -> Tensor | None:
        """Return which columns (n,) are there for the shape only; None if no one is."""
        return self._first & (step % self._layout.slots != 0) if self._by_slot else self._blocked

    def logits(self, hidden: Tensor, head: Tensor, ids: Tensor) -> Tensor:
        """Return the logits (B, n) in float32 of states (B, hidden) and the output matrix ``head``."""
        rows = head.index_select(0, ids) if self._by_slot else head[self._rows]
        return F.linear(hidden, rows).float()

    def used(self, used: Tensor, ids: Tensor) -> Tensor:
        """Return the columns (B, n) of what is noted for the whole vocabulary."""
        return used.index_select(1, ids) if self._by_slot else used[:, self._rows]


def penalise(logits: Tensor, used: Tensor, penalty: float) -> Tensor:
    """Make the ids in ``used`` (B, vocabulary) less likely by ``penalty`` (Keskar et al. 2019, arXiv 1909.05858)."""
    if penalty == 1:
        return logits
    # Dividing makes positive logits smaller, and negative ones larger: those are multiplied.
    lowered = torch.where(logits > 0, logits / penalty, logits * penalty)
    return torch.where(used, lowered, logits)


def sample(logits: Tensor, sampling: Sampling, noise: Noise) -> Tensor:
    """Draw a column for each row of ``logits`` (B, n).

    The largest of p / noise is a draw from p (Gumbel's trick). As each id has its own noise, rounding changes a draw
    only between near ties, where inverting the distribution would shift every id behind it. The nucleus is the
    smallest set of most likely ids that reaches ``top_p`` (Holtzman et al. 2020, arXiv 1904.09751); ids of equal
    probability at its edge are all in it.
    """
    if sampling.temperature == 0:
        # No division by zero, and of equal logits the first, as other programs take it.
        return logits.argmax(dim=-1)
    values, columns = logits / sampling.temperature, None
    if 0 < sampling.top_k < logits.shape[-1]:
        values, columns = values.topk(sampling.top_k, dim=-1)
    if sampling.top_p < 1:
        probabilities = values.softmax(dim=-1)
        left_out = probabilities < least_likely(probabilities, sampling.top_p)
        values = values.masked_fill(left_out, -torch.inf)
        if columns is None and values.device.type == "cpu":
            # A CPU draws noise only where it can matter; elsewhere shapes must not depend on values.
            columns = left_out.all(dim=0).logical_not().nonzero()[:, 0]
            values, columns = values.index_select(-1, columns), columns.expand(len(values), -1)
    # Logits are log p up to a constant: the order of p / noise without a softmax.
    winner = (values - noise(columns).log()).argmax(dim=-1, keepdim=True)
    return (winner if columns is None else columns.gather(-1, winner))[:, 0]


def least_likely(probabilities: Tensor, top_p: float) -> Tensor:
    """Return the least number (B, 1) of those above which less than ``top_p`` of (B, n) probabilities lies.

    What is as likely or likelier is the nucleus. It is searched in float32's bits, which for numbers from 0 up are in
    their own order: on a CPU digit by digit; elsewhere by dividing their range, as float cumulative sums on CUDA are
    not deterministic and sorting the vocabulary costs more.
    """
    on_cpu = probabilities.device.type == "cpu"
    return by_digits(probabilities, top_p) if on_cpu else by_parts(probabilities, top_p)


def by_parts(probabilities: Tensor, top_p: float) -> Tensor:
    """Find :func:`least_likely` by dividing the range of bits again and again, without a host wait."""
    bits = probabilities.contiguous().view(torch.int32)
    # All ids below this one together have less than 1 - top_p; half of it, for what sums are rounded by.
    least = 0.5 * (1 - top_p) / probabilities.shape[-1] if top_p < 0.9999 else 0.0
    # Few launches where they cost more than passes over memory, few passes where those do.
    digits = 4 if bits.numel() <= _FEW else 2
    low = _bits(least) - 1
    passes = -(-math.ceil(math.log2(_bits(1.01) - low)) // digits)
    parts = torch.arange(1, 1 << digits, dtype=torch.int32, device=bits.device)
    bits, spread = bits[:, None], probabilities[:, None]
    # Above it lies top_p or more; above the end of the range less.
    below = torch.full_like(bits[:, 0, :1], low)
    for number in reversed(range(passes)):
        width = 1 << digits * number
        middles = below + parts * width
        reached = ((bits > middles[:, :, None]) * spread).sum(dim=-1) >= top_p
        below = below + reached.sum(dim=-1, keepdim=True, dtype=torch.int32) * width
    return (below + 1).view(torch.float32)


def by_digits(probabilities: Tensor, top_p: float) -> Tensor:
    """Find :func:`least_likely` in three passes, each of which sums what has the same 10 bits."""
    bits = probabilities.contiguous().view(torch.int32)
    # A float32 sum over 150,000 ids can miss top_p by more than an unlikely id has.
    wide = probabilities.double()
    found = torch.zeros_like(bits[:, :1])
    above = torch.zeros(len(bits), 1, dtype=torch.float64)
    rows = torch.arange(len(bits), dtype=torch.int32)[:, None] * _DIGITS
    for shift in (20, 10, 0):
        digits = (bits >> shift) & (_DIGITS - 1)
        weights = wide if shift == 20 else wide.masked_fill(bits >> shift + 10 != found >> shift + 10, 0.0)
        sums = torch.zeros(len(bits) * _DIGITS, dtype=torch.float64)
        sums.index_add_(0, (digits + rows).flatten(), weights.flatten())
        # From the most likely down: the first digit with which top_p is reached.
        falling = above + sums.view(len(bits), _DIGITS).flip(-1).cumsum(dim=-1)
        place = (falling < top_p).sum(dim=-1, keepdim=True).clamp(max=_DIGITS - 1)
        above = torch.where(place > 0, falling.gather(-1, (place - 1).clamp(min=0)), above)
        found = found | ((_DIGITS - 1 - place) << shift).to(torch.int32)
    return found.view(torch.float32)


def _bits(value: float) -> int:
    """Return the bits of a float32 as an integer."""
    (bits,) = struct.unpack("i", struct.pack("f", value))
    return int(bits)
