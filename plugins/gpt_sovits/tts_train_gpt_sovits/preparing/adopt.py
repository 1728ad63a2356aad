"""Takes over an experiment folder with every feature upstream made, as a prepared set."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from tts_train.contract import DataError, ReadyRows
from tts_train.corpus import Rejected
from tts_train_gpt_sovits.features.semantic import SemanticTokens
from tts_train_gpt_sovits.preparing.encode import SCHEMA
from tts_train_gpt_sovits.preparing.models import TINY, find_sources
from tts_train_gpt_sovits.preparing.prepared import KIND
from tts_train_gpt_sovits.released.bases import RELEASED
from tts_train_gpt_sovits.released.experiment import ExperimentRow, read_experiment, read_names

_SAMPLE = 20
"""Rows by which the tokens are told from those of another base."""
_SAME = 0.99


def is_experiment(folder: Path) -> bool:
    """Tell whether a folder holds upstream's tokens, and not only its texts and audio."""
    return folder.is_dir() and any(folder.glob("6-name2semantic*.tsv"))


@dataclass(frozen=True, kw_only=True)
class AdoptedRows(ReadyRows):
    """The rows of an experiment folder."""

    kind = KIND
    schema = SCHEMA
    length_column = "num_codes"
    built_in = (TINY, RELEASED)

    folder: Path
    """Upstream's ``logs/<name>``, as it was given."""
    version: str
    """What will be trained."""
    models: str
    given: Mapping[str, str | None]
    """Networks that are elsewhere; see :func:`find_sources`."""
    keep_ssl: bool

    def sources(self) -> Mapping[str, str]:
        """Return where the networks are that speaking needs."""
        return {"sovits": self._base, "models": self.models}

    def settings(self) -> Mapping[str, Any]:
        """Refuse tokens of another base, and return what the features were made with, as far as it is known."""
        tokens = SemanticTokens.load(self._base)
        check_tokens(self.folder, self.version, tokens)
        made = {"version": self.version, "quantizer": tokens.fingerprint}
        return {**made, **self.remembered(), "taken_from": str(self.folder)}

    @property
    def _base(self) -> str:
        """The SoVITS file that should have made the tokens."""
        return find_sources(self.models, self.version, **self.given).sovits

    def address(self) -> Mapping[str, Any]:
        """Return the options that rows depend on."""
        return {"experiment": self.version, "keep_ssl": self.keep_ssl}

    def content(self, columns: Mapping[str, Any]) -> Iterator[bytes | str]:
        """Yield a row's name, text and features."""
        yield f"{columns['id']} {columns['norm_text']}"
        for name in ("phonemes", "codes", "wave", "bert", "speaker_vector", "ssl"):
            yield b"" if columns[name] is None else columns[name].tobytes()

    def count(self) -> int:
        """Return how many rows the folder names."""
        return sum(1 for _ in read_names(self.folder))

    def rows(self) -> Iterator[Mapping[str, Any] | Rejected]:
        """Yield each row as columns, or why it cannot be used."""
        for row in read_experiment(self.folder, self.version):
            if isinstance(row, Rejected):
                yield row
            else:
                yield row.columns() if self.keep_ssl else {**row.columns(), "ssl": None}


def check_tokens(folder: Path, version: str, tokens: SemanticTokens) -> None:
    """Refuse tokens that another base made, where the folder has the speech features to tell by.

    Raises:
        DataError: with the share that is the same.
    """
    good = (row for row in read_experiment(folder, version) if isinstance(row, ExperimentRow))
    share = token_agreement(islice(good, _SAMPLE), tokens)
    if share is not None and share < _SAME:
        raise DataError(
            f"Only {share:.0%} of the tokens in {folder} are those of this SoVITS base. Name the one that made them "
            "with --sovits, or make them anew with --remake true."
        )


def token_agreement(rows: Iterable[ExperimentRow], tokens: SemanticTokens) -> float | None:
    """Return the share of stored tokens that a quantizer gives for the stored speech features; None without features.

    Of the right file it is near 1 (features stored in half precision move a token here and there); of another one,
    near 0. Some tens of rows say it well enough.
    """
    same = total = 0
    for row in rows:
        if row.ssl is not None:
            stored = torch.from_numpy(row.codes)
            same += int((tokens.encode([row.ssl])[0] == stored).sum())
            total += len(stored)
    return same / total if total else None
