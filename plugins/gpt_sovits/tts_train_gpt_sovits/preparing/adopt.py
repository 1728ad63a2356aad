"""Takes over an experiment folder with every feature upstream made, as a prepared set."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from tts_train.contract import DataError, Done, Progress
from tts_train.corpus import Ledger, Rejected
from tts_train.datasets import ShardStore, input_key
from tts_train_gpt_sovits.features.semantic import SemanticTokens
from tts_train_gpt_sovits.released.experiment.read import ExperimentRow, read_experiment
from tts_train_gpt_sovits.released.experiment.text import read_names

_SAMPLE = 20
"""Rows by which the tokens are told from those of another base."""
_SAME = 0.99


def is_experiment(folder: Path) -> bool:
    """Tell whether a folder holds upstream's tokens, and not only its texts and audio."""
    return folder.is_dir() and any(folder.glob("6-name2semantic*.tsv"))


def adopt_rows(
    folder: Path, store: ShardStore, ledger: Ledger, *, version: str, keep_ssl: bool, shard_rows: int
) -> Iterator[Done]:
    """Write the shards of an experiment folder.

    Args:
        folder: Upstream's ``logs/<name>``.
        store: Where the shards go.
        ledger: Gets the account of every row.
        version: Version that will be trained.
        keep_ssl: Whether speech features are kept.
        shard_rows: Rows of a shard.
    """
    total = sum(1 for _ in read_names(folder))
    with Progress("Taking over", total) as progress:
        rows = _counted(read_experiment(folder, version), progress)
        while part := list(islice(rows, shard_rows)):
            yield _shard(part, store, ledger, version=version, keep_ssl=keep_ssl)


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


def _counted(rows: Iterable[ExperimentRow | Rejected], progress: Progress) -> Iterator[ExperimentRow | Rejected]:
    for row in rows:
        yield row
        progress.advance(1)


def _shard(
    part: Sequence[ExperimentRow | Rejected], store: ShardStore, ledger: Ledger, *, version: str, keep_ssl: bool
) -> Done:
    own = Ledger()
    made: list[Mapping[str, Any]] = []
    for row in part:
        if isinstance(row, Rejected):
            own.drop(row.origin, row.reason, row.detail)
            continue
        own.keep(row.origin, seconds=row.seconds, language=row.language)
        made.append(row.columns() if keep_ssl else {**row.columns(), "ssl": None})
    ledger.merge(own)
    key = input_key({"experiment": version, "keep_ssl": keep_ssl}, _content(made))
    shard = store.find(key)
    reused = shard is not None
    return Done(shard or store.write(key, made, account={"ledger": own.state()}), reused=reused, rows=len(part))


def _content(rows: Iterable[Mapping[str, Any]]) -> Iterator[bytes | str]:
    for row in rows:
        yield f"{row['id']} {row['norm_text']}"
        for name in ("phonemes", "codes", "wave", "bert", "speaker_vector", "ssl"):
            yield b"" if row[name] is None else row[name].tobytes()


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
