"""The data module: prepared tokens in packed or padded batches; each argument is a flag below ``--data``."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from torch.utils.data import ConcatDataset

from tts_train.contract.data import AUTO, StageData
from tts_train.corpus.language import languages_of
from tts_train.datasets.batches import Batches, batches_for, bucket, fill_share, in_order, pack
from tts_train.errors import ConfigError
from tts_train.families.token_lm.data.batch import Document, TokenBatch
from tts_train.families.token_lm.data.held_out import HeldRows, HeldTexts
from tts_train.families.token_lm.data.text_mix import TextMix, TextSet, lap_seed, mix_batches, open_text
from tts_train.families.token_lm.data.token_set import TokenRows, TokenSet, TooLong
from tts_train.families.token_lm.network.build import joined
from tts_train.families.token_lm.network.late import sample_documents

if TYPE_CHECKING:
    from tts_train.families.token_lm.model import TokenLM

_MADE_BY = {"codec_fingerprint": "codec", "tokenizer_fingerprint": "tokenizer"}
_log = logging.getLogger(__name__)

_SOME = 64
"""Texts by which the language of a set is told that names none."""
UNKNOWN = 2048
"""What stands for ``max_tokens`` while a plan looks for it."""


class TokenData(StageData):
    """Batches of prepared tokens; a backend's subclass sets :attr:`token_lm`.

    Args:
        path: Folder that ``tts-train prepare`` wrote, or Parquet files or a ``save_to_disk`` folder with ``input_ids``.
        max_tokens: Most tokens in a batch, and in one utterance; ``auto`` takes what fits the card.
        batching: ``packed`` puts utterances one behind the other without padding; ``padded`` gives each a row.
        batch_size: Most utterances in a padded batch; its tokens, padding included, stay within ``max_tokens``.
        on_too_long: What to do with utterances longer than ``max_tokens``: ``drop`` them, or ``cut`` them at a frame,
            in which case they do not teach where speech ends.
        loss_on: ``all`` tokens, as the released models were trained, or ``speech`` only, which leaves out the text.
        val_share: Share of utterances kept for validation, chosen by their ids and for each speaker; 0 for none.
        val_path: Validation set of its own, in the same form as ``path``; then nothing is taken from ``path``.
        text_mix: Text rows among the speech, as in pre-training.
        seed: Seed of the order of the utterances and of the choice for validation.
        num_workers: Processes that read ahead; 0 reads in this process.
    """

    token_lm: ClassVar[TokenLM]
    """The model that the tokens are for."""

    def __init__(
        self,
        path: str,
        max_tokens: int | Literal["auto"] = 2048,
        batching: Literal["packed", "padded"] = "packed",
        batch_size: int = 8,
        on_too_long: TooLong = "drop",
        loss_on: Literal["all", "speech"] = "all",
        val_share: float = 0.05,
        val_path: str | None = None,
        text_mix: TextMix = TextMix(),
        seed: int = 0,
        num_workers: int = 0,
    ) -> None:
        super().__init__(seed=seed, num_workers=num_workers)
        self.path = path
        self.max_tokens = UNKNOWN if max_tokens == AUTO else int(max_tokens)
        if self.max_tokens < 1 or batch_size < 1:
            raise ConfigError("--data.max_tokens and --data.batch_size must be 1 or more.")
        self.batching = batching
        self.batch_size = batch_size
        self.on_too_long: TooLong = on_too_long
        self.loss_on = loss_on
        self.val_share = val_share
        self.val_path = val_path
        self.text_mix = text_mix
        self.max_length = self.max_tokens
        """Longest document; until the data are open, the longest there may be."""
        self._rows: TokenRows | None = None
        self._speech: TokenSet | None = None
        self._held: TokenSet | None = None
        self._text: TextSet | None = None
        self._hashes: dict[str, str] = {}
        self._latest: tuple[int, int, Batches] | None = None

    def setup(self, stage: str) -> None:
        """Open the data once, divide them, and say what is used and what is left out, before any step."""
        # Lightning calls this for fit and again for validation; the second call would read and say everything anew.
        if self._rows is not None:
            return
        rows = self._open(self.path)
        only = self.loss_on == "speech"
        train, held = rows.divide(0.0 if self.val_path else self.val_share, seed=self.seed)
        self._speech = rows.take(train, speech_only=only)
        self._held = rows.take(held, speech_only=only) if held else None
        if self.val_path:
            other = self._open(self.val_path)
            refuse_others(rows.prepared, other.prepared)
            self._held = other.take(range(len(other.rows)), speech_only=only)
            # Recorded, so that a run that continues can say which of its data have changed.
            self._hashes["val_path"] = other.prepared.hash
        if self.text_mix.path:
            named = rows.prepared.settings.get("tokenizer")
            self._text = open_text(
                self.token_lm, self.text_mix, max_tokens=self.max_tokens, tokenizer=named, answers=only
            )
            self._hashes["text_mix.path"] = self._text.hash
        self._rows = rows
        # Text comes behind the speech, whose rows then have the same numbers with and without it.
        self.train_set = self._speech if self._text is None else ConcatDataset([self._speech, self._text])
        self.val_set = self._held
        parts = (self._speech, self._held, self._text)
        # By what is there and not by the limit: the base needs positions for no more.
        self.max_length = max(int(part.lengths.max()) for part in parts if part is not None)
        self._say()

    def train_batches(self, epoch: int) -> Batches:
        """Return the batches of an epoch; all epochs of packed batches have the same number of them."""
        # The same batches as ever: a run without text must not depend on the code that mixes.
        if self._text is None:
            return self._speech_batches(epoch, 0)
        assert self._speech is not None
        return mix_batches(
            lambda lap: self._speech_batches(epoch, lap),
            self._text,
            self.text_mix,
            offset=len(self._speech),
            max_tokens=self.max_tokens,
            seed=self.seed,
            epoch=epoch,
        )

    def val_batches(self) -> Batches:
        """Return the validation batches, the same every time."""
        return self._val_batches

    def collate(self, rows: list[Document]) -> TokenBatch:
        """Join documents to a batch."""
        return joined(rows, self.token_lm.layout, packed=self.batching == "packed")

    def sample_batch(self, size: int) -> TokenBatch:
        """Return made-up utterances of ``size`` tokens in all: of usual length if packed, as long as fit if padded."""
        # A plan must know the largest batch there can be, and a padded one is largest with the longest rows.
        length = None if self.batching == "packed" else max(size // self.batch_size, 1)
        documents = sample_documents(self.token_lm, size, length=length, speech_only=self.loss_on == "speech")
        return self.collate(documents if self.batching == "packed" else documents[: self.batch_size])

    def describe(self) -> Mapping[str, object]:
        """Return hash, rows, tokens and how full batches are, for the run's record."""
        assert self._rows is not None
        assert self._speech is not None
        batches = self._speech_batches(0, 0)
        return {
            "hash": self._rows.prepared.hash,
            "hashes": self._hashes,
            "rows": len(self._rows.prepared),
            "left_out": dict(self._rows.left_out),
            "train_rows": len(self._speech),
            "val_rows": len(self._held) if self._held is not None else 0,
            "text_rows": len(self._text) if self._text is not None else 0,
            "train_tokens": int(self._speech.lengths.sum()),
            "batches_per_epoch": len(self.train_batches(0)),
            "fill": round(fill_share(self._speech.lengths, batches, self.max_tokens), 4),
            "max_length": self.max_length,
        }

    def remember(self) -> Mapping[str, object]:
        """Return how the set was made, whose voices are in it, and its languages: named, or told by some texts."""
        assert self._rows is not None
        facts = self._rows.prepared.facts
        return facts | {"languages": facts.get("languages") or self._told_languages} if facts else facts

    def held_out(self) -> HeldTexts | None:
        """Return the validation rows, which are spoken while a run trains."""
        held = self._held
        return None if held is None else HeldRows(held.prepared.path, held.rows, self.token_lm.layout)

    @cached_property
    def _told_languages(self) -> list[str]:
        assert self._rows is not None
        rows = self._rows.prepared.rows
        if "text" not in rows.names:
            return []
        # Telling the languages of a million texts takes minutes, and this only serves a warning.
        return languages_of(filter(None, next(rows.tables(["text"])).column(0).to_pylist()[:_SOME]))

    @cached_property
    def _batch_count(self) -> int:
        assert self._speech is not None
        # One number for all epochs, as a trainer counts an epoch's batches once.
        return batches_for(self._speech.lengths, self.max_tokens, seed=self.seed)

    @cached_property
    def _val_batches(self) -> Batches:
        if self._held is None:
            return []
        if self.batching == "packed":
            return in_order(self._held.lengths, self.max_tokens)
        # A seed of its own, so that validations of runs with other seeds can be compared.
        return bucket(self._held.lengths, self.batch_size, seed=0, max_tokens=self.max_tokens)

    def _speech_batches(self, epoch: int, lap: int) -> Batches:
        # Packing a million rows takes seconds, and several ask for the same one.
        if self._latest is None or self._latest[:2] != (epoch, lap):
            self._latest = (epoch, lap, self._make_speech_batches(epoch, lap_seed(self.seed, lap)))
        return self._latest[2]

    def _make_speech_batches(self, epoch: int, seed: int) -> Batches:
        assert self._speech is not None
        lengths = self._speech.lengths
        if self.batching == "padded":
            return bucket(lengths, self.batch_size, seed=seed, epoch=epoch, max_tokens=self.max_tokens)
        return pack(lengths, self.max_tokens, seed=seed, epoch=epoch, batches=self._batch_count)

    def _open(self, path: str) -> TokenRows:
        return TokenRows.open(self.token_lm, path, max_tokens=self.max_tokens, on_too_long=self.on_too_long)

    def _say(self) -> None:
        about = self.describe()
        _log.info(
            "%d utterances for training, %d for validation; %d batches an epoch, %.1f %% full.",
            about["train_rows"],
            about["val_rows"],
            about["batches_per_epoch"],
            100 * fill_share(self._speech.lengths, self._speech_batches(0, 0), self.max_tokens)
            if self._speech
            else 0.0,
        )
        if self._rows is not None and self._rows.labelled:
            _log.info(
                "%s has labels: a loss is taken where they are not -100%s.",
                self.path,
                ", and on speech only (--data.loss_on speech)" if self.loss_on == "speech" else "",
            )
        if self._held is None:
            _log.warning("No utterance is kept for validation, so nothing will show when the voice over-fits.")


class MadeSet(Protocol):
    """Data that know how their ids were made."""

    @property
    def path(self) -> Path:
        """Where they lie."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """What made them; empty where that is not known."""


def refuse_others(trained: MadeSet, held: MadeSet) -> None:
    """Refuse a validation set whose ids mean something else than those that are trained on.

    Raises:
        ConfigError: naming the networks that made both.
    """
    for fingerprint, name in _MADE_BY.items():
        # Sets that were made elsewhere do not say what made them.
        here, there = trained.settings.get(fingerprint), held.settings.get(fingerprint)
        if here and there and here != there:
            ours, theirs = trained.settings.get(name), held.settings.get(name)
            # With their fingerprints, as options of a codec may be all that is different.
            raise ConfigError(
                f"--data.val_path {held.path} was prepared with the {name} {theirs} ({there}), and {trained.path} with "
                f"{ours} ({here}): its ids mean other things. Prepare both alike."
            )
