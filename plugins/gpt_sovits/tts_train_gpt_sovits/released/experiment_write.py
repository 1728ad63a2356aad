"""Rows of a prepared set to an experiment folder that upstream's training reads."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from torch import Tensor

from tts_train.contract import DataError
from tts_train.datasets import PreparedSet
from tts_train.disk import write_atomically, write_json
from tts_train_gpt_sovits.released.experiment import (
    BERT,
    FEATURE_SUFFIX,
    HUBERT,
    NAMES,
    SAMPLE_RATE,
    SPEAKER,
    TOKENS,
    WAVES,
    names_table,
    tokens_table,
)
from tts_train_gpt_sovits.signal.versions import FEATURES, find_version
from tts_train_gpt_sovits.text.reading import symbol_table

_MARK = "tts-train.json"
"""Says that the folder is ours, and may be written again."""
_ID = re.compile(r"[\w-]{1,64}", re.ASCII)


def write_prepared(folder: Path, prepared: Path) -> int:
    """Write an experiment folder of a prepared set and return how many clips it has; see `write_experiment`."""
    rows = PreparedSet(prepared)
    return write_experiment(folder, (rows.row(index) for index in range(len(rows))), str(rows.settings["version"]))


def write_experiment(folder: Path, rows: Iterable[Mapping[str, Any]], version: str) -> int:
    """Write every file that upstream's preparation makes, and return how many clips there are.

    A clip is called by its row's id, so that two recordings of one name stay two. The tables come last: a folder whose
    writing was cut short has none.

    Args:
        folder: Where; new, empty, or written by this function before.
        rows: Rows of a prepared set, with ``ssl`` (and ``speaker_vector`` for the Pro versions).
        version: What they were prepared for.

    Raises:
        DataError: if the folder holds something else, or a row lacks features.
    """
    _claim(folder, version)
    table = symbol_table(version)
    names: list[tuple[str, list[str], Any, str]] = []
    tokens: list[tuple[str, list[int]]] = []
    taken: set[str] = set()
    for row in rows:
        name = _name(str(row["id"]), taken)
        _write_features(folder, name, row, pro=find_version(version).speaker)
        phones = [table.symbols[index] for index in row["phonemes"]]
        counts = row["word2ph"]
        # Plain integers: the table holds their repr, which is another one for numpy's.
        names.append((name, phones, None if counts is None else [int(count) for count in counts], row["norm_text"]))
        tokens.append((name, [int(code) for code in row["codes"]]))
    write_atomically(folder / f"{NAMES}.txt", names_table(names))
    write_atomically(folder / f"{TOKENS}.tsv", tokens_table(tokens))
    return len(names)


def _write_features(folder: Path, name: str, row: Mapping[str, Any], *, pro: bool) -> None:
    if row.get("ssl") is None:
        raise DataError(
            f"{row['origin']} has no speech features, which upstream's training reads. Prepare with --keep_ssl true."
        )
    if pro and row.get("speaker_vector") is None:
        raise DataError(f"{row['origin']} has no speaker vector, which this version needs. Prepare for this version.")
    # The 16-bit samples and nothing more: upstream computes length and bucket from the size of this file
    # (module/data_utils.py).
    soundfile.write(folder / WAVES / name, np.asarray(row["wave"], np.int16), SAMPLE_RATE, subtype="PCM_16")
    _save(folder / HUBERT, name, _rows(row["ssl"], FEATURES).t()[None])
    if row.get("bert") is not None:
        _save(folder / BERT, name, _rows(row["bert"], 1024).t())
    if pro:
        _save(folder / SPEAKER, name, torch.from_numpy(np.array(row["speaker_vector"], np.float32))[None])


def _claim(folder: Path, version: str) -> None:
    """Make the folders, unless somebody else's work is there."""
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not (folder / _MARK).is_file())):
        raise DataError(f"{folder} holds something already. Name a new folder for the experiment.")
    parts = [BERT, HUBERT, WAVES, *([SPEAKER] if find_version(version).speaker else [])]
    for part in parts:
        (folder / part).mkdir(parents=True, exist_ok=True)
    # Before anything else, so that a folder whose writing was cut short may be written again.
    write_json(folder / _MARK, {"format": "tts-train experiment folder", "version": version})
    for table in (f"{NAMES}.txt", f"{TOKENS}.tsv"):
        (folder / table).unlink(missing_ok=True)
    for old in (file for part in parts for file in (folder / part).iterdir() if file.is_file()):
        old.unlink()


def _name(identity: str, taken: set[str]) -> str:
    if not _ID.fullmatch(identity) or identity in taken:
        raise DataError(f"The id {identity!r} is not one that a file can be called, or stands twice. Prepare again.")
    taken.add(identity)
    return f"{identity}.wav"


def _rows(flat: Any, channels: int) -> Tensor:  # noqa: ANN401 - numbers of any shape
    # A copy of the right size: a view would put its whole storage into the file.
    return torch.from_numpy(np.asarray(flat, np.float16).reshape(-1, channels).copy())


def _save(folder: Path, name: str, tensor: Tensor) -> None:
    torch.save(tensor.contiguous(), folder / f"{name}{FEATURE_SUFFIX}")
