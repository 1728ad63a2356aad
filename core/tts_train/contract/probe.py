"""What a stage states of its training, so that ``check_backend`` can measure whether it is so."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from torch.nn.modules.dropout import _DropoutNd

if TYPE_CHECKING:
    from torch import Tensor

    from tts_train.contract.data import StageData
    from tts_train.contract.module import StageModule


@dataclass(frozen=True, kw_only=True)
class NoProbe:
    """Stands where a stage states nothing of its training."""

    why: str
    """One sentence, for whoever reads the check's report."""


@dataclass(frozen=True, kw_only=True)
class Said:
    """An utterance that a stage sampled, and how likely each of its tokens was when it was drawn.

    Drawn at temperature 1 from all tokens that training sees: no top-k, no top-p, no penalty.
    """

    row: Any
    """The utterance as a training row, for ``collate``; what was drawn carries the loss, and nothing else does."""
    tokens: Tensor
    """Tokens drawn (T,), int64, in order; the last one is the stop."""
    scores: Tensor
    """Log-probability of each token at each draw (T, V), as generation computed it, in float32 or wider."""


class Probe(ABC):
    """What is measured of every stage: gradients, and that the rest of a batch changes no loss.

    Args:
        module: In a trainer, with its weights.
        data: The run's data.
    """

    without_gradient: Mapping[str, str] = MappingProxyType({})
    """Trainable tensors that no loss reaches, by name or by its beginning, each with the reason."""
    rounding: float = 2e-6
    """Largest relative difference of the losses of the same utterances in other batches that is float32's rounding."""

    def __init__(self, module: StageModule, data: StageData) -> None:
        self.module = module
        self.data = data

    @abstractmethod
    def rows(self) -> Sequence[Any]:
        """Return training rows, at least two, of different lengths, that together touch every trainable tensor."""

    @abstractmethod
    def weight(self, batch: Any) -> float:  # noqa: ANN401 - a batch is whatever the network takes
        """Return what the loss of ``training_step`` is multiplied with to be a sum over the batch's utterances."""

    def batches(self, rows: Sequence[Any]) -> Mapping[str, Any]:
        """Return these rows as a batch, in each form that the data module offers, by the form's name."""
        return {"batch": self.data.collate(list(rows))}

    def total(self, batch: Any) -> Tensor:  # noqa: ANN401
        """Return the sum of the utterances' losses, with a gradient; it draws no random numbers."""
        loss: Any = self.module.training_step(batch, 0)
        total: Tensor = loss * self.weight(batch)
        return total

    def step(self, batch: Any) -> None:  # noqa: ANN401
        """Make the gradients of a training step; a stage that optimises by hand makes them in ``training_step``."""
        loss: Any = self.module.training_step(batch, 0)
        if self.module.automatic_optimization:
            loss.backward()

    @contextmanager
    def still(self) -> Iterator[None]:
        """Drop nothing, so that a loss is the same each time; the rest is as in training."""
        # All dropouts of torch derive from it, and have no public base class.
        dropping = [each for each in self.module.modules() if isinstance(each, _DropoutNd)]
        before = [each.p for each in dropping]
        for each in dropping:
            # Not eval(), which would also change norms that keep statistics.
            each.p = 0.0
        try:
            yield
        finally:
            for each, share in zip(dropping, before, strict=True):
                each.p = share


class SpeechProbe(Probe):
    """What is measured besides of a stage that draws an utterance token by token."""

    @abstractmethod
    def say(self, lengths: Sequence[int]) -> Sequence[Said]:
        """Say one text to these lengths, in frames, with the same chance each time: the shorter begins the longer.

        After its length an utterance is ended by the stop, with the log-probability that the stop then has.
        """

    def rows(self) -> Sequence[Any]:
        """Return what was said as training rows."""
        # Of different lengths, so that a batch of them has padding, which must change no loss.
        return [said.row for said in self.say((3, 5, 9))]

    @abstractmethod
    def greedy(self, run: Path, export: Path) -> tuple[Sequence[int], Sequence[int]] | NoProbe:
        """Return the likeliest tokens of one text by a run and by its export, in the export's type of weights."""
