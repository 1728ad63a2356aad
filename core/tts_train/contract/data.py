"""The data module that backends subclass: they say what is in a batch, it says which batch comes next."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from lightning.pytorch import LightningDataModule, Trainer
from torch.utils.data import DataLoader, Dataset

from tts_train.datasets.sampler import ResumableBatchSampler
from tts_train.errors import ConfigError
from tts_train.parallel.processes import ignore_interruptions
from tts_train.run.loops import position

AUTO = "auto"
"""What stands for the number that bounds a batch until a plan has found it; a data module that takes it says so in the
argument's type."""


class StageData(LightningDataModule, ABC):
    """Loaders whose batches are fixed by (seed, epoch, position), so that a continued run sees what it would have seen.

    A subclass sets :attr:`train_set` and :attr:`val_set` in ``setup`` and lists the batches. Nothing in a data set or
    in :meth:`collate` may draw random numbers from a global generator: their state is not the same after a continuation
    nor in a data worker. Derive what must vary from ``self.seed`` and the row.

    Args:
        seed: seed of everything random in the choice of batches.
        num_workers: processes that load data; 0 loads in the training process.
    """

    budget: ClassVar[str] = "max_tokens"
    """The argument that bounds a batch: the one that ``tts-train plan`` looks for the largest value of."""
    train_set: Dataset[Any]
    """Rows by index; there after ``setup``."""
    val_set: Dataset[Any] | None = None
    """Rows by index, or None where there is no validation."""
    max_length: int | None = None
    """Length of the longest row, in what :attr:`budget` counts, for a module with a limit; there after ``setup``."""

    def __init__(self, *, seed: int = 0, num_workers: int = 0) -> None:
        super().__init__()
        self.seed = seed
        self.num_workers = num_workers
        self._train_sampler: ResumableBatchSampler | None = None

    def __getstate__(self) -> dict[str, Any]:
        """What a data worker that is spawned gets: it collates, and needs neither the trainer nor the rows again."""
        # A trainer cannot be pickled, and rows would be copied once more for each worker.
        left = ("trainer", "_train_sampler", "train_set", "val_set")
        return {**self.__dict__, **{name: None for name in left if name in self.__dict__}}

    @property
    def bound(self) -> int | None:
        """The value of the argument that bounds a batch; None where it is not known yet, or has another name."""
        value = getattr(self, self.budget, None)
        return value if isinstance(value, int) else None

    @abstractmethod
    def train_batches(self, epoch: int) -> Sequence[Sequence[int]]:
        """Return the batches of an epoch as row indices: a pure function of ``self.seed``, the data and the epoch."""

    def val_batches(self) -> Sequence[Sequence[int]]:
        """Return the batches of a validation as row indices."""
        return []

    @abstractmethod
    def collate(self, rows: list[Any]) -> Any:  # noqa: ANN401 - a batch is whatever the network takes
        """Join rows to a batch. Draws no random numbers."""

    def sample_batch(self, size: int) -> Any:  # noqa: ANN401
        """Return a made-up training batch as full as one can be where :attr:`budget` is ``size``, without any data.

        ``tts-train plan`` runs a step on it, so its shapes, lengths and number of rows must be those of usual data;
        values only where the shape of something depends on them. It needs no ``setup``.

        Raises:
            ConfigError: if the stage has none, and so cannot be planned.
        """
        raise ConfigError(
            f"{type(self).__name__} has no sample_batch, without which nothing can be planned; see "
            "docs/writing-a-backend.md."
        )

    def describe(self) -> Mapping[str, object]:
        """Return plain figures about the data for ``run.json``, there after ``setup``.

        ``hash`` is that of the set at ``--data.path``, and ``hashes`` those of other sets by their option
        (``{"val_path": "…"}``): a run that goes on with others says so.
        """
        return {}

    def remember(self) -> Mapping[str, object]:
        """Return what speaking and exporting must know of the data, for every checkpoint; there after ``setup``.

        Plain values, such as ``{"settings": {…}, "speakers": ["anna"]}``: the data may not be here any more by then.
        """
        return {}

    def rows_in(self, epoch: int, batch: int) -> list[int]:
        """Return the rows of this process's batch number ``batch`` of an epoch, to name them when a step fails."""
        return [int(row) for row in self.train_sampler.batches(epoch)[batch]]

    @property
    def train_sampler(self) -> ResumableBatchSampler:
        """This rank's training batches."""
        if self._train_sampler is None:
            self._train_sampler = ResumableBatchSampler(
                self.train_batches, *self._ranks(), position=lambda: position(self._attached_trainer())
            )
        return self._train_sampler

    def train_dataloader(self) -> DataLoader[Any]:
        """Return the loader of training batches."""
        return self._loader(self.train_set, self.train_sampler)

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        """Return the loader of validation batches; the same batches every time."""
        if self.val_set is None or not self.val_batches():
            return []
        batches = self.val_batches()
        # fill: every row is scored, and some twice where the processes do not divide the batches.
        return self._loader(self.val_set, ResumableBatchSampler(lambda _: batches, *self._ranks(), fill=True))

    def _loader(self, rows: Dataset[Any], sampler: ResumableBatchSampler) -> DataLoader[Any]:
        return DataLoader(
            rows,
            batch_sampler=sampler,
            collate_fn=self.collate,
            num_workers=self.num_workers,
            # Kept from epoch to epoch: spawned ones take seconds to start. Where there are none,
            # DataLoader refuses to keep them.
            persistent_workers=self.num_workers > 0,
            worker_init_fn=_begin_worker,
            # From pinned memory a copy to the card does not block.
            pin_memory=torch.cuda.is_available(),
        )

    def _ranks(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer is not None else (0, 1)

    def _attached_trainer(self) -> Any:  # noqa: ANN401 - Lightning declares it optional
        if self.trainer is None:
            raise RuntimeError("Iterating over training data needs a trainer, which says where training stands.")
        return self.trainer


def stage_data(trainer: Trainer) -> StageData | None:
    """Return the data of a run; None where a trainer was given plain loaders, as to try a batch on a card."""
    data = getattr(trainer, "datamodule", None)  # Lightning sets it only where a data module was given
    return data if isinstance(data, StageData) else None


def remembered(trainer: Trainer) -> Mapping[str, object]:
    """Return what the data of a run say that later steps must know; nothing where there is no data module."""
    data = stage_data(trainer)
    return {} if data is None else data.remember()


def _begin_worker(_: int) -> None:
    """Outlive a Ctrl-C, after which the run takes its batches to the end of the step and saves itself."""
    ignore_interruptions()
