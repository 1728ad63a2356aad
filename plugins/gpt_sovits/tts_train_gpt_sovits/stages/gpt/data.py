"""The data module of the stages ``gpt`` and ``dpo``; each argument is a flag below ``--data``."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from tts_train.contract import ConfigError, StageData
from tts_train.datasets import (
    Batches,
    PreparedSet,
    TakeSet,
    batches_for,
    in_order,
    is_takes,
    pack as pack_rows,
    prepared_facts,
)
from tts_train_gpt_sovits.networks.gpt.packing import GptUtterance, PackedBatch, pack
from tts_train_gpt_sovits.preparing.prepared import PHONEMES, HeldOut, largest_phoneme
from tts_train_gpt_sovits.signal.versions import CODES_PER_SECOND
from tts_train_gpt_sovits.stages.gpt.batches import (
    FilterOptions,
    RehearsalOptions,
    UpstreamSampler,
    mix,
    repeats,
    usable_batch_size,
)
from tts_train_gpt_sovits.stages.gpt.rows import (
    GptRows,
    GptSource,
    Laps,
    Pairs,
    Rows,
    UtteranceSource,
    sample_utterances,
)
from tts_train_gpt_sovits.stages.gpt.takes import TakeSource, sample_takes

V1_TABLES = (322, 512)
"""Rows that the phoneme table of v1 has in the wild."""

_log = logging.getLogger(__name__)


class GptData(StageData):
    """Batches of phonemes and semantic codes.

    Args:
        path: Folder that ``tts-train prepare`` wrote, or Parquet files with ``phonemes`` and ``codes``; for DPO also
            takes of ``tts-train sample``.
        max_tokens: Most phonemes and codes in a batch together.
        batching: ``packed`` fills batches up to ``max_tokens``; ``upstream`` draws ``batch_size`` utterances of like
            length in upstream's order, small sets several times an epoch.
        batch_size: Utterances of an upstream batch; as upstream, half as many for pairs and at most a quarter of all.
        pairs: Rejected codes for DPO: ``none``, ``made`` by saying a part twice or leaving it out, or ``stored``.
            Takes are pairs themselves, and need neither.
        margin: Of takes: least difference of the rewards of both.
        per_text: Of takes: most pairs of a text, the best with the worst, then the next best with the next worst.
        filter: Which utterances are used, chosen takes among them.
        val_share: Share of utterances kept for validation, chosen by their ids and for each speaker; 0 for none.
        val_path: Validation set of its own, in the same form as ``path``; then nothing is taken from ``path``.
        rehearsal: A second set among the first, for its languages; its batches have no pairs.
        seed: Seed of the order, of the choice for validation and of corruptions.
        num_workers: Processes that read ahead; 0 reads in this process.
    """

    train_set: Laps
    val_set: Laps | None = None

    def __init__(
        self,
        path: str,
        max_tokens: int = 2048,
        batching: Literal["packed", "upstream"] = "packed",
        batch_size: int = 8,
        pairs: Pairs = "none",
        margin: float = 0.5,
        per_text: int = 1,
        filter: FilterOptions = FilterOptions(),  # noqa: B008 - frozen
        val_share: float = 0.05,
        val_path: str | None = None,
        rehearsal: RehearsalOptions = RehearsalOptions(),  # noqa: B008 - frozen
        seed: int = 0,
        num_workers: int = 0,
    ) -> None:
        super().__init__(seed=seed, num_workers=num_workers)
        if max_tokens < 1 or batch_size < 1:
            raise ConfigError("--data.max_tokens and --data.batch_size must be 1 or more.")
        if margin < 0 or per_text < 1:
            raise ConfigError(
                f"--data.margin must be 0 or more and --data.per_text 1 or more; {margin:g} and {per_text} were given."
            )
        self.path = path
        self.max_tokens = max_tokens
        self.batching = batching
        self.batch_size = batch_size
        self.pairs: Pairs = pairs
        self.margin, self.per_text = margin, per_text
        self.filter = filter
        self.val_share = val_share
        self.val_path = val_path
        self.rehearsal = rehearsal
        self.version: str | None = None
        """The version that the set was prepared for, once it is open and if it says."""
        self.val_languages: tuple[str, ...] = ()
        """Languages of the validation rows, rehearsal's included, once the set is open."""
        self._about: dict[str, object] = {}

    def setup(self, stage: str) -> None:
        """Open the data once, divide them, and say what is used and what is left out, before any step."""
        if self._about:
            return
        source = self._open(self.path)
        if self.val_path and is_takes(self.val_path) != self.sampled:
            raise ConfigError(
                "--data.path and --data.val_path must both hold takes, or both recordings; one of them was drawn by "
                "tts-train sample."
            )
        train, held = source.divide(0.0 if self.val_path else self.val_share, seed=self.seed)
        other = self._open(self.val_path) if self.val_path else source
        source.check_alike(other)
        places = range(len(other.lengths)) if self.val_path else held
        hashes = {"val_path": other.prepared.hash} if self.val_path else {}
        again, kept = self._rehearsed(source)
        if again:
            hashes["rehearsal.path"] = again[0].prepared.hash
        self.train_set = Laps(source.utterances(train, pairs=self.pairs, seed=self.seed), *again)
        # Always its first lap, so that validation compares the same pairs from step to step.
        self.val_set = Laps(other.utterances(places, pairs=self.pairs, seed=self.seed), *kept)
        self.version = source.prepared.settings.get("version")
        self.val_languages = tuple(sorted({name for part in self.val_set.parts for name in part.languages if name}))
        self._about = {
            "hash": source.prepared.hash,
            "hashes": hashes,
            "rows": len(source.prepared),
            "left_out": dict(source.left_out),
            "train_rows": len(train),
            "val_rows": len(places),
            "rehearsal_rows": sum(len(part) for part in again),
            "train_tokens": int(self.train_set.parts[0].lengths.sum()),
        }
        self._say()

    @property
    def sampled(self) -> bool:
        """Whether the set is one of takes."""
        return is_takes(self.path)

    @property
    def sets(self) -> list[PreparedSet | TakeSet]:
        """Every set that is read, each once; there after ``setup``."""
        parts = [*self.train_set.parts, *(self.val_set.parts if self.val_set else ())]
        return list({part.prepared.path: part.prepared for part in parts}.values())

    def train_batches(self, epoch: int) -> Batches:
        """Return the batches of an epoch; corruptions of pairs differ from epoch to epoch."""
        own, *again = self.train_set.parts
        laps = repeats(len(own)) if self.batching == "upstream" else 1
        batches = self._upstream_batches(own, laps, epoch) if self.batching == "upstream" else self._packed(own, epoch)
        for part in again:
            batches = mix(
                batches,
                part.lengths,
                self.rehearsal.share,
                offset=len(own),
                max_tokens=self.max_tokens,
                seed=self.seed,
                epoch=epoch,
            )
        # An index says its epoch, so that workers corrupt anew in each without being told.
        return [[row + epoch * laps * len(self.train_set) for row in batch] for batch in batches]

    def val_batches(self) -> Batches:
        """Return the validation batches, the same every time; those of the set itself come first."""
        if self.val_set is None:
            return []
        batches: Batches = []
        offset = 0
        for part in self.val_set.parts:
            batches += [[row + offset for row in batch] for batch in in_order(part.lengths, self.max_tokens)]
            offset += len(part)
        return batches

    def collate(self, rows: list[GptUtterance]) -> PackedBatch:
        """Join utterances to a batch."""
        return pack(rows)

    def sample_batch(self, size: int) -> PackedBatch:
        """Return made-up utterances of usual length, ``size`` phonemes and codes in all, in pairs where data are."""
        return pack(sample_takes(size) if self.sampled else sample_utterances(size, pairs=self.pairs != "none"))

    def describe(self) -> Mapping[str, object]:
        """Return hash, rows and tokens, for the run's record."""
        return {**self._about, "batches_per_epoch": len(self.train_batches(0))}

    def remember(self) -> Mapping[str, object]:
        """Return how the set was made and which languages are in it."""
        return self.train_set.parts[0].prepared.facts

    def held_out(self) -> HeldOut | None:
        """Return the validation rows of the set itself, which are spoken while a run trains.

        Takes have no recordings: for them those of the voice's own set, if it is here, by the same share and seed.
        """
        if self.val_set is None:
            return None
        own = self.val_set.parts[0]
        if isinstance(own.prepared, TakeSet):
            # The stage gpt held the same ones out, if it was given the same share: nobody was trained on them.
            voice = own.prepared.facts.get("voice")
            if not voice or not prepared_facts(voice):
                return None
            source = GptSource.open(voice, self.filter, max_tokens=self.max_tokens)
            own = GptRows(source, source.divide(self.val_share, seed=self.seed)[1])
        return HeldOut(PreparedSet(own.prepared.path, length_of="codes"), own.rows, own.languages)

    def _open(self, path: str) -> UtteranceSource:
        if not is_takes(path):
            return GptSource.open(path, self.filter, max_tokens=self.max_tokens)
        if self.pairs == "none":
            raise ConfigError(f"{path} holds takes, of which the stage dpo learns: give --stage dpo.")
        limits: dict[str, Any] = {"margin": self.margin, "per_text": self.per_text, "max_tokens": self.max_tokens}
        return TakeSource.open(path, self.filter, **limits)

    def _rehearsed(self, source: UtteranceSource) -> tuple[list[GptRows], list[GptRows]]:
        """Return the rehearsal rows for training and for validation; none without a second set."""
        if not self.rehearsal.path:
            return [], []
        # Takes have columns of codes, too, and would be read as recordings.
        if is_takes(self.rehearsal.path):
            raise ConfigError(f"--data.rehearsal.path takes a prepared set, and {self.rehearsal.path} holds takes.")
        other = GptSource.open(self.rehearsal.path, self.filter, max_tokens=self.max_tokens)
        source.check_alike(other)
        train, held = other.divide(self.rehearsal.val_share, seed=self.seed)
        _log.info("%d utterances of %s for rehearsal, %d held out.", len(train), self.rehearsal.path, len(held))
        return [GptRows(other, train, rehearsed=True)], [GptRows(other, held, rehearsed=True)]

    def _packed(self, own: Rows, epoch: int) -> Batches:
        batches = batches_for(own.lengths, self.max_tokens, seed=self.seed)
        return pack_rows(own.lengths, self.max_tokens, seed=self.seed, epoch=epoch, batches=batches)

    def _upstream_batches(self, own: Rows, laps: int, epoch: int) -> Batches:
        seconds = np.tile(own.codes, laps) / CODES_PER_SECOND
        size = usable_batch_size(self.batch_size, len(seconds), pairs=self.pairs != "none")
        drawn = UpstreamSampler(seconds.tolist(), size, seed=self.seed).batches(epoch)
        # Upstream puts a small set into an epoch several times; each time is a lap with corruptions of its own.
        count, total = len(own), len(self.train_set)
        return [[row // count * total + row % count for row in batch] for batch in drawn]

    def _say(self) -> None:
        about = self.describe()
        _log.info(
            "%s utterances for training, %s for validation, %s batches an epoch; left out: %s.",
            about["train_rows"],
            about["val_rows"],
            about["batches_per_epoch"],
            about["left_out"] or "none",
        )
        if not about["val_rows"]:
            _log.warning("No utterance is kept for validation, so nothing will show when the voice over-fits.")


def check_phonemes(data: object, rows: int, init_from: str) -> None:
    """Refuse data whose phonemes are those of another table than the network's.

    Args:
        data: The trainer's data module; one of another kind is not looked at.
        rows: Rows of the network's table.
        init_from: What the network starts from.

    Raises:
        ConfigError: naming both versions, or the phoneme that the network does not have.
    """
    if not isinstance(data, GptData):
        return
    if data.version is not None and (data.version == "v1") != (rows in V1_TABLES):
        table = "v1" if rows in V1_TABLES else "v2 on"
        raise ConfigError(
            f"The data were prepared for {data.version}, and {init_from} has the {rows} phonemes of {table}. "
            "Prepare them for that version, or give a --model.init_from of theirs (tiny: --model.tiny.phonemes)."
        )
    for prepared in data.sets if rows < PHONEMES else ():
        largest = largest_phoneme(prepared)
        if largest >= rows:
            raise ConfigError(
                f"{prepared.path} has the phoneme {largest}, and {init_from} has {rows} phonemes (0 to {rows - 1}). "
                "Give a --model.init_from of the version that the data were prepared for (tiny: "
                f"--model.tiny.phonemes, {PHONEMES} by default)."
            )
