"""The data module of the stages ``sovits`` and ``cfm``; each argument is a flag below ``--data``."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from tts_train.contract import ConfigError, StageData
from tts_train.datasets import Batches, PreparedSet
from tts_train_gpt_sovits.features.semantic import quantizer_fingerprint
from tts_train_gpt_sovits.networks.sovits.cfm import FlowSovitsNetwork
from tts_train_gpt_sovits.networks.sovits.network import SovitsNetwork
from tts_train_gpt_sovits.preparing.prepared import PHONEMES, HeldOut, largest_phoneme
from tts_train_gpt_sovits.released.sovits_names import to_upstream
from tts_train_gpt_sovits.signal.versions import FEATURES, SPEAKER, find_version
from tts_train_gpt_sovits.stages.sovits.batch import FRAMES_PER_CODE, HOP, SovitsBatch, SovitsUtterance, join
from tts_train_gpt_sovits.stages.sovits.rows import (
    FRAMES_PER_SECOND,
    GAN_BOUNDARIES,
    BucketSampler,
    SovitsRows,
    SovitsSource,
)

_USUAL_SECONDS, _PHONEMES_PER_SECOND = 10, 8

logger = logging.getLogger(__name__)


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
        source = self._open(self.path)
        train, held = source.divide(0.0 if self.val_path else self.val_share, seed=self.seed)
        other = self._open(self.val_path) if self.val_path else source
        places = np.arange(len(other.rows)) if self.val_path else np.array(held, np.int64)
        left_out = Counter(source.left_out)
        if self.val_path:
            left_out.update(other.left_out)
        self.prepared = [source.prepared, other.prepared]
        self._lengths = source.frames[train], other.frames[places]
        self.train_set = SovitsRows(source.prepared, source.rows[train], features=self.features)
        self.val_set = SovitsRows(other.prepared, other.rows[places], features=self.features) if len(places) else None
        self._about = {
            "hash": source.prepared.hash,
            "hashes": {"val_path": other.prepared.hash} if self.val_path else {},
            "rows": len(source.prepared),
            "left_out": dict(left_out),
            "train_rows": len(train),
            "val_rows": len(places),
            "train_hours": round(float(source.frames[train].sum()) / FRAMES_PER_SECOND / 3600, 3),
            "batches_per_epoch": len(self.train_batches(0)),
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

    def held_out(self) -> HeldOut | None:
        """Return the validation rows, which are spoken while a run trains."""
        if not isinstance(self.val_set, SovitsRows):
            return None
        # Opened anew with all columns: training reads few of them.
        data, rows = PreparedSet(self.val_set.prepared.path, length_of="codes"), self.val_set.rows
        named = data.rows.column("language").to_pylist() if "language" in data.rows.names else [None] * len(data)
        return HeldOut(data, rows, [named[row] for row in rows.tolist()])

    def train_batches(self, epoch: int) -> Batches:
        """Return the batches of an epoch; batches that lie beside each other for the ranks are of one bucket."""
        assert self._lengths is not None
        _, ranks = self._ranks()
        # One number of seed and epoch, since the sampler takes a single one.
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

    def val_batches(self) -> Batches:
        """Return the validation batches: the rows in their order, the same every time."""
        assert self._lengths is not None
        count = len(self._lengths[1])
        # Not sorted by length: each utterance's figures are its own, whatever is beside it.
        return [list(range(at, min(at + self.batch_size, count))) for at in range(0, count, self.batch_size)]

    def collate(self, rows: list[SovitsUtterance]) -> SovitsBatch:
        """Join utterances to a batch."""
        return join(rows)

    def sample_batch(self, size: int) -> SovitsBatch:
        """Return ``size`` made-up utterances of 10 seconds, or of ``max_seconds`` where that is less.

        Their audio is float16, of as many bytes as 16-bit words, so that a plan takes it for shapes.
        """
        codes = round(min(_USUAL_SECONDS, self.max_seconds) * FRAMES_PER_SECOND) // FRAMES_PER_CODE
        frames = FRAMES_PER_CODE * codes
        row = SovitsUtterance(
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

    def _open(self, path: str) -> SovitsSource:
        return SovitsSource.open(path, self._boundaries[0], self._boundaries[-1], features=self.features)

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


def check_data(
    data: object, network: SovitsNetwork | FlowSovitsNetwork, version: str, *, features: bool = False
) -> None:
    """Refuse rows that another version or quantizer was meant for.

    Args:
        data: The trainer's data module; one of another kind is not looked at.
        network: What is trained.
        version: Its version.
        features: Whether it needs stored speech features.

    Raises:
        ConfigError: with what to prepare or to choose instead.
    """
    if not isinstance(data, SovitsData) or not data.prepared:
        return
    made_for = data.settings.get("version")
    again = f"Prepare the recordings with --version {version}, or train the version they were prepared for."
    # v2 and its successors share one table, so a set of v2 serves v2Pro as well, as far as columns go.
    if isinstance(made_for, str) and find_version(made_for).symbols != find_version(version).symbols:
        raise ConfigError(f"{data.path} was prepared for {made_for}, whose phonemes {version} does not have. {again}")
    rows = find_version(version).symbols
    for prepared in data.prepared if made_for is None and rows < PHONEMES else ():
        largest = largest_phoneme(prepared)
        if largest >= rows:
            raise ConfigError(
                f"{prepared.path} has the phoneme {largest}, and {version} has {rows} (0 to {rows - 1}). {again}"
            )
    if find_version(version).speaker and "speaker_vector" not in data.columns:
        raise ConfigError(f"{data.path} has no speaker vectors, which {version} needs. {again}")
    if features and not data.features:
        raise ConfigError("--model.freeze_quantizer false trains on speech features: add --data.features true.")
    # Compared by content, not by name: files of other names hold the same codebook.
    tokens, own = data.settings.get("quantizer"), _fingerprint(network)
    if isinstance(tokens, str) and not features and tokens != own:
        raise ConfigError(
            f"The codes in {data.path} are of another quantizer ({tokens[:8]}) than the network's ({own[:8]}), so they "
            "would mean other sounds. Start from the base that prepare used, or prepare with this one."
        )


def _fingerprint(network: SovitsNetwork | FlowSovitsNetwork) -> str:
    return quantizer_fingerprint(to_upstream(network))
