"""The data module of the stages ``sovits`` and ``cfm``; each argument is a flag below ``--data``."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from tts_train.contract.data import StageData
from tts_train.datasets.batches import Plan
from tts_train.datasets.split import split
from tts_train.datasets.store.shards import PreparedSet
from tts_train.errors import ConfigError, DataError
from tts_train_gpt_sovits.preparing.prepared import open_prepared
from tts_train_gpt_sovits.signal.versions import FEATURES, SPEAKER
from tts_train_gpt_sovits.stages.sovits.batch import FRAMES_PER_CODE, HOP, SovitsBatch, Utterance, join
from tts_train_gpt_sovits.stages.sovits.sampler import GAN_BOUNDARIES, BucketSampler

COLUMNS = ("id", "text", "language", "phonemes", "codes", "wave", "speaker_vector", "ssl")
"""What is read of a row; ``speaker_vector`` and ``ssl`` only where they are needed."""
FRAMES_PER_SECOND = 50
_NEEDED = ("phonemes", "codes", "wave")
_USUAL_SECONDS, _PHONEMES_PER_SECOND = 10, 8
_MISSING_FRAMES = 4  # speech features may end this many frames before or after the audio

logger = logging.getLogger(__name__)


class SovitsRows(Dataset[Utterance]):
    """Utterances by index.

    Args:
        prepared: The set.
        rows: Which of its rows.
        features: Whether stored speech features are read, which a trained quantizer needs.
    """

    def __init__(self, prepared: PreparedSet, rows: NDArray[np.int64], *, features: bool) -> None:
        self.prepared = prepared
        self.rows = rows
        self.features = features

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Utterance:
        row = self.prepared.row(int(self.rows[index]))
        for name in _NEEDED:
            if row[name] is None or not len(row[name]):
                raise self._odd(row, f"no {name}")
        codes = torch.from_numpy(row["codes"].astype(np.int64))
        frames = min(FRAMES_PER_CODE * len(codes), len(row["wave"]) // HOP)
        if frames < FRAMES_PER_CODE * len(codes) - _MISSING_FRAMES:
            raise self._odd(row, f"{len(codes)} codes for {frames / FRAMES_PER_SECOND:g} s of audio")
        return Utterance(
            id=str(row.get("id", index)),
            text=str(row.get("text") or ""),
            language=str(row.get("language") or ""),
            codes=codes,
            phonemes=torch.from_numpy(row["phonemes"].astype(np.int64)),
            wave=torch.from_numpy(row["wave"][: frames * HOP].astype(np.int16)),
            speaker=self._list(row, "speaker_vector", SPEAKER),
            features=self._ssl(row, FRAMES_PER_CODE * len(codes)) if self.features else None,
        )

    def _list(self, row: Mapping[str, Any], name: str, width: int) -> Tensor | None:
        values = row.get(name)
        if values is None or not len(values):
            return None
        if len(values) % width:
            raise self._odd(row, f"a {name} of {len(values)} numbers, which is no multiple of {width}")
        return torch.from_numpy(values.astype(np.float32))

    def _ssl(self, row: Mapping[str, Any], frames: int) -> Tensor:
        flat = self._list(row, "ssl", FEATURES)
        if flat is None:
            raise DataError(
                f"{self.prepared.path} holds no speech features for {row.get('id')!r}, which --data.features needs. "
                "Prepare it with --keep_ssl."
            )
        found = flat.view(-1, FEATURES).T
        missing = frames - found.shape[1]
        if missing > _MISSING_FRAMES:
            raise self._odd(row, f"{found.shape[1]} frames of features for {frames // FRAMES_PER_CODE} codes")
        return found[:, :frames] if missing <= 0 else torch.cat([found, found[:, -1:].expand(-1, missing)], dim=1)

    def _odd(self, row: Mapping[str, Any], what: str) -> DataError:
        return DataError(f"{self.prepared.path}: {row.get('id')!r} has {what}. Prepare it again.")


class SovitsData(StageData):
    """Batches of audio, phonemes and semantic codes, each of utterances of like length.

    Args:
        path: Folder that ``tts-train prepare`` wrote, or Parquet files with ``phonemes``, ``codes`` and ``wave``.
        batch_size: Utterances of a batch on one device.
        segment_frames: Frames of the slice that is spoken of each utterance; those without so many are left out.
        max_seconds: Longest utterance that is used, up to 38; the flow-matching versions are trained on 20 at most.
        val_share: Share of utterances kept for validation, chosen by their ids and for each speaker; 0 for none.
        val_path: Validation set of its own, in the same form as ``path``; then nothing is taken from ``path``.
        features: Read the speech features that ``prepare --keep_ssl`` stores, for an unfrozen quantizer.
        seed: Seed of the order and of the choice for validation.
        num_workers: Processes that read ahead; 0 reads in this process.
    """

    budget: ClassVar[str] = "batch_size"

    def __init__(
        self,
        path: str,
        batch_size: int = 8,
        segment_frames: int = 32,
        max_seconds: float = 38.0,
        val_share: float = 0.05,
        val_path: str | None = None,
        features: bool = False,
        seed: int = 0,
        num_workers: int = 0,
    ) -> None:
        super().__init__(seed=seed, num_workers=num_workers)
        if batch_size < 1 or segment_frames < 1:
            raise ConfigError("--data.batch_size and --data.segment_frames must be 1 or more.")
        longest = GAN_BOUNDARIES[-1] / FRAMES_PER_SECOND
        if not segment_frames / FRAMES_PER_SECOND < max_seconds <= longest:
            raise ConfigError(f"--data.max_seconds must hold a slice and be at most {longest:g}, not {max_seconds:g}.")
        self.path = path
        self.batch_size = batch_size
        self.segment_frames = segment_frames
        self.max_seconds = max_seconds
        self.val_share = val_share
        self.val_path = val_path
        self.features = features
        self.prepared: list[PreparedSet] = []
        """The sets that are read, there after ``setup``."""
        self._lengths: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None
        self._about: dict[str, object] = {}

    def setup(self, stage: str) -> None:
        """Open the data once, divide them, and say what is used and what is left out, before any step."""
        if self._lengths is not None:
            return
        left_out: Counter[str] = Counter()
        prepared, rows, frames = self._open(self.path, left_out)
        ids, speakers = ([of[row] for row in rows.tolist()] for of in (prepared.ids, prepared.speakers))
        train, held = split(ids, 0.0 if self.val_path else self.val_share, speakers=speakers, seed=self.seed)
        other, other_rows, other_frames = prepared, rows[held], frames[held]
        if self.val_path:
            other, other_rows, other_frames = self._open(self.val_path, left_out)
        self.prepared = [prepared, other]
        self._lengths = frames[train], other_frames
        self.train_set = SovitsRows(prepared, rows[train], features=self.features)
        self.val_set = SovitsRows(other, other_rows, features=self.features) if len(other_rows) else None
        self._about = {
            "hash": prepared.hash,
            "hashes": {"val_path": other.hash} if self.val_path else {},
            "rows": len(prepared),
            "left_out": dict(left_out),
            "train_rows": len(train),
            "val_rows": len(other_rows),
            "train_hours": round(float(frames[train].sum()) / FRAMES_PER_SECOND / 3600, 3),
            "batches_per_epoch": len(self.train_plan(0)),
        }
        self._say()

    @property
    def settings(self) -> Mapping[str, Any]:
        """What ``prepare`` said about the training rows: ``version``, ``quantizer``; empty for foreign Parquet."""
        return self.prepared[0].settings if self.prepared else {}

    @property
    def columns(self) -> Sequence[str]:
        """The columns that the training rows have."""
        return self.prepared[0].rows.names if self.prepared else []

    @property
    def val_languages(self) -> list[str]:
        """The languages of the validation rows, sorted, the same on every process."""
        if self.val_set is None or not isinstance(self.val_set, SovitsRows):
            return []
        source = self.val_set.prepared
        if "language" not in source.rows.names:
            return [""]
        named = source.rows.column("language").to_pylist()
        return sorted({str(named[row] or "") for row in self.val_set.rows.tolist()})

    def train_plan(self, epoch: int) -> Plan:
        """Return the batches of an epoch; batches that lie beside each other for the ranks are of one bucket."""
        assert self._lengths is not None
        _, ranks = self._ranks()
        drawn = np.random.SeedSequence([abs(self.seed), epoch]).generate_state(2)
        shares = []
        for rank in range(ranks):
            sampler = BucketSampler(
                self._lengths[0].tolist(),
                batch_size=self.batch_size,
                boundaries=self._boundaries,
                num_replicas=ranks,
                rank=rank,
            )
            sampler.set_epoch(int(drawn[0]) << 31 | int(drawn[1]) >> 1)
            shares.append(list(sampler))
        return [batch for step in zip(*shares, strict=True) for batch in step]

    def val_plan(self) -> Plan:
        """Return the validation batches: the rows in their order, the same every time."""
        assert self._lengths is not None
        count = len(self._lengths[1])
        return [list(range(at, min(at + self.batch_size, count))) for at in range(0, count, self.batch_size)]

    def collate(self, rows: list[Utterance]) -> SovitsBatch:
        """Join utterances to a batch."""
        return join(rows)

    def sample_batch(self, size: int) -> SovitsBatch:
        """Return ``size`` made-up utterances of 10 seconds, or of ``max_seconds`` where that is less.

        Their audio is float16, of as many bytes as 16-bit words, so that a plan takes it for shapes.
        """
        codes = round(min(_USUAL_SECONDS, self.max_seconds) * FRAMES_PER_SECOND) // FRAMES_PER_CODE
        frames = FRAMES_PER_CODE * codes
        row = Utterance(
            id="planned",
            text="",
            language="",
            codes=torch.zeros(codes, dtype=torch.int64),
            phonemes=torch.zeros(max(1, codes * _PHONEMES_PER_SECOND * FRAMES_PER_CODE // FRAMES_PER_SECOND)).long(),
            wave=torch.zeros(frames * HOP, dtype=torch.int16),
            speaker=torch.zeros(SPEAKER),
            features=torch.zeros(FEATURES, frames) if self.features else None,
        )
        batch = join([row] * size)
        return {**batch, "wave": batch["wave"].half()}

    def describe(self) -> Mapping[str, object]:
        """Return hash, rows and hours, for the run's record."""
        return self._about

    def remember(self) -> Mapping[str, object]:
        """Return how the set was made and which languages are in it."""
        return self.prepared[0].facts

    @property
    def _boundaries(self) -> tuple[int, ...]:
        most = round(self.max_seconds * FRAMES_PER_SECOND)
        least = max(GAN_BOUNDARIES[0], self.segment_frames - 1)
        return (least, *(edge for edge in GAN_BOUNDARIES if least < edge < most), most)

    def _open(self, path: str, left_out: Counter[str]) -> tuple[PreparedSet, NDArray[np.int64], NDArray[np.int64]]:
        """Return a set, its rows of usable length and their frames; count the others.

        Raises:
            DataError: if columns are missing or no row is left.
        """
        prepared = open_prepared(path, needed=_NEEDED, columns=self._columns())
        frames = FRAMES_PER_CODE * prepared.rows.list_lengths("codes")
        least, most = self._boundaries[0], self._boundaries[-1]
        short, long = frames <= least, frames > most
        for which, what in ((short, f"at most {least / FRAMES_PER_SECOND:g} s"), (long, f"above {most / 50:g} s")):
            if which.any():
                left_out[what] += int(which.sum())
        rows = np.flatnonzero(~(short | long))
        if not len(rows):
            raise DataError(
                f"None of {len(prepared)} utterances of {path} is longer than {least / FRAMES_PER_SECOND:g} s and at "
                f"most {most / FRAMES_PER_SECOND:g} s long. Slice long recordings and leave out very short ones."
            )
        return prepared, rows, frames[rows]

    def _columns(self) -> tuple[str, ...]:
        return tuple(name for name in COLUMNS if name != "ssl" or self.features)

    def _say(self) -> None:
        about = self._about
        logger.info(
            "%s utterances (%s h) for training, %s for validation, %s batches an epoch; left out: %s.",
            about["train_rows"],
            about["train_hours"],
            about["val_rows"],
            about["batches_per_epoch"],
            about["left_out"] or "none",
        )
        if self.val_set is None:
            logger.warning("No utterance is kept for validation, so nothing will show when the voice over-fits.")
