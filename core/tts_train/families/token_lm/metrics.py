"""Figures of a model from the by-products of its loss: by kind of token, by slot, by codebook, by network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from tts_train.families.token_lm.layout import AUDIO_KIND, CONTROL_KIND, TEXT_KIND, TokenLayout
from tts_train.nn.linear_cross_entropy import HeadOutput
from tts_train.parallel.means import wide_type

if TYPE_CHECKING:
    from tts_train.families.token_lm.frames.layout import FrameLayout

KINDS = {"text": TEXT_KIND, "control": CONTROL_KIND, "audio": AUDIO_KIND}
"""Kinds of target, by the name that their loss is logged under."""


class TokenMetrics:
    """Sums over any number of batches; what they add up to is a share or a mean over all their tokens.

    Args:
        layout: The ids.
        device: Where the batches are.
    """

    kinds: ClassVar[Mapping[str, int]] = KINDS

    def __init__(self, layout: TokenLayout, device: torch.device | str) -> None:
        self.layout = layout
        self._loss, self._count = _zeros(len(self.kinds), device), _zeros(len(self.kinds), device)
        self._correct, self._slots = _zeros(layout.slots, device), _zeros(layout.slots, device)
        self._impossible = _zeros(1, device)
        self._codes = _zeros(len(layout.level_rates) * layout.codebook_size, device)
        self._levels = torch.tensor(layout.slot_levels, device=device)

    def update(self, head: HeadOutput) -> None:
        """Add a batch, without waiting for the device."""
        layout = self.layout
        kind = self.kind_of(head.targets)
        self._loss.index_add_(0, kind, head.losses.detach().to(self._loss.dtype))
        self._count.index_add_(0, kind, _ones(kind))
        slot, predicted = layout.slot_of(head.targets), layout.slot_of(head.predictions)
        is_audio = (slot >= 0).to(wide_type(slot.device))
        # Tokens outside the audio add zero to slot 0: a mask would have to know how many there are.
        here = slot.clamp(min=0)
        self._slots.index_add_(0, here, is_audio)
        self._correct.index_add_(0, here, is_audio * (head.predictions == head.targets))
        # Where a frame may begin the end of speech may stand too.
        may_end = (slot == 0) & (head.predictions == layout.end_of_speech)
        self._impossible += (is_audio * (predicted != slot) * ~may_end).sum()
        # Only what is said in its own slot uses a codebook.
        self._codes.index_add_(0, self._code_of(head.predictions, predicted), is_audio * (predicted == slot))

    def kind_of(self, targets: Tensor) -> Tensor:
        """Return the kind of each target, one of :attr:`kinds`."""
        return self.layout.kind_of(targets)

    def mean_loss(self, loss: Sequence[float], count: Sequence[float]) -> float:
        """Return the loss over all kinds from the sum and the number of each."""
        return sum(loss) / sum(count)

    def totals(self) -> Tensor:
        """Return all sums as one float64 vector, to be added up over processes."""
        return torch.cat(self._parts())

    def load_totals(self, totals: Tensor) -> None:
        """Replace the sums by ``totals``."""
        sizes = [part.numel() for part in self._parts()]
        for part, values in zip(self._parts(), torch.split(totals, sizes), strict=True):
            part.copy_(values)

    def compute(self, *, codes: bool = True) -> dict[str, float]:
        """Return the figures; what no token bears on is left out.

        ``loss`` and ``loss/KIND`` are in nats a token. ``slot_accuracy/S`` is the share of right codes in slot S.
        ``wrong_slot`` is the share of audio positions whose likeliest token cannot stand there: no code of the slot
        that is due nor, where a frame may begin, the end of speech. ``code_use/L`` is the share of level L's
        codes predicted at least once and ``code_perplexity/L`` how many were in even use; both need ``codes``.
        """
        # One wait for the device, for all figures together.
        loss, count, correct, slots, impossible = (part.tolist() for part in self._parts()[:5])
        figures = {f"loss/{name}": loss[kind] / count[kind] for name, kind in self.kinds.items() if count[kind]}
        figures |= {f"slot_accuracy/{slot}": correct[slot] / seen for slot, seen in enumerate(slots) if seen}
        if sum(count):
            figures["loss"] = self.mean_loss(loss, count)
        if sum(slots):
            figures["wrong_slot"] = impossible[0] / sum(slots)
        return figures | (self._use() if codes else {})

    def _parts(self) -> list[Tensor]:
        return [self._loss, self._count, self._correct, self._slots, self._impossible, self._codes]

    def _code_of(self, predictions: Tensor, slot: Tensor) -> Tensor:
        """Return an index of (level, code) for each prediction; for no code it is any."""
        size = self.layout.codebook_size
        code = (predictions - self.layout.audio_base) % size
        return self._levels[slot.clamp(min=0)] * size + code

    def _use(self) -> dict[str, float]:
        figures = {}
        for level, seen in enumerate(self._codes.view(-1, self.layout.codebook_size)):
            if total := seen.sum().item():
                share = seen / total
                figures[f"code_use/{level}"] = (seen > 0).float().mean().item()
                figures[f"code_perplexity/{level}"] = torch.special.entr(share).sum().exp().item()
        return figures


def _zeros(size: int, device: torch.device | str) -> Tensor:
    # Float32 stops counting at 16.8 million.
    return torch.zeros(size, dtype=wide_type(torch.device(device)), device=device)


def _ones(like: Tensor) -> Tensor:
    return torch.ones(like.shape, dtype=wide_type(like.device), device=like.device)


class FrameMetrics(TokenMetrics):
    """Sums over any number of batches, to which each part of the loss is added.

    ``loss`` is the mean over first codes plus the weighed mean over all others, as in training.
    """

    layout: FrameLayout
    kinds: ClassVar[Mapping[str, int]] = {"first": 0, "depth": 1}

    def kind_of(self, targets: Tensor) -> Tensor:
        """Return which network says each target."""
        return (self.layout.slot_of(targets) > 0).long()

    def compute(self, *, codes: bool = True) -> dict[str, float]:
        """Return the figures of a token model but ``wrong_slot``: each codebook has an output of its own."""
        figures = super().compute(codes=codes)
        figures.pop("wrong_slot", None)
        return figures

    def mean_loss(self, loss: Sequence[float], count: Sequence[float]) -> float:
        """Return the sum of both means, each with its weight."""
        weights = (1.0, self.layout.depth_share)
        return sum(weight * of / number for weight, of, number in zip(weights, loss, count, strict=True) if number)
