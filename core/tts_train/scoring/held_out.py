"""What a source was trained on, by the ids of utterances: so that a sentence is not called new that was learned."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tts_train.datasets.split import run_seed, split
from tts_train.datasets.store.shards import PreparedSet, is_prepared
from tts_train.errors import DataError
from tts_train.run.checkpoint import is_run, open_checkpoint


@dataclass(frozen=True)
class Learned:
    """The utterances that a source's training used."""

    ids: frozenset[str]


def learned_by(source: Path) -> Learned | None:
    """Return what a run or a checkpoint of ours was trained on; None if nothing tells.

    Exports and models of others do not say, nor does a run whose prepared data are not here any more, or that is
    damaged. A run tells by the options of data that ``prepare`` wrote, ``--data.path``, ``val_share`` and ``val_path``:
    a stage whose data have other options does not say.
    """
    try:
        return _learned_by(source) if is_run(source) else None
    except DataError:
        return None  # opening it to speak says why


def _learned_by(source: Path) -> Learned | None:
    card = open_checkpoint(source).card
    data = card.options("data", "path")
    # Only data that come from prepare have these; which rows are held out then follows from them and the seed alone.
    path, share = data.get("path"), data.get("val_share")
    if not path or share is None or not is_prepared(path):
        return None
    rows = PreparedSet(path)
    share = 0.0 if data.get("val_path") else float(share)
    seed = run_seed(card.config.get("seed_everything"))  # which --data.seed follows
    train, _ = split(rows.ids, share, speakers=rows.speakers, seed=seed)
    return Learned(frozenset(rows.ids[row] for row in train))


def was_learned(row_id: str, sources: Iterable[Learned | None]) -> bool | None:
    """Tell whether any source was trained on an utterance; None if one does not say and the others were not."""
    told = [None if source is None else row_id in source.ids for source in sources]
    if True in told:
        return True
    return None if None in told else False
