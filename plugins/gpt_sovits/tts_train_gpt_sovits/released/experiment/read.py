"""An experiment folder to rows for training: every feature upstream made, used as it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from torch import Tensor

from tts_train.contract import DataError
from tts_train.corpus import Rejected, utterance_id
from tts_train.weights import read_torch
from tts_train_gpt_sovits.released.experiment.layout import (
    BERT,
    FEATURE_SUFFIX,
    HUBERT,
    SAMPLE_RATE,
    SPEAKER,
    TOKEN_RATE,
    WAVES,
)
from tts_train_gpt_sovits.released.experiment.text import NameRow, language_of, read_names, read_tokens
from tts_train_gpt_sovits.signal.versions import FEATURES, SPEAKER as SPEAKER_WIDTH, find_version
from tts_train_gpt_sovits.text import TextRejected
from tts_train_gpt_sovits.text.reading import symbol_table

_BERT_CHANNELS = 1024
_CODES = 1024
_LOST = "UNK"
_MOST_APART = 3
"""Tokens by which tokens and audio may differ in length: the features' windows end before the audio does."""


@dataclass(frozen=True, kw_only=True)
class ExperimentRow:
    """An utterance of an experiment folder; lengths fit one another."""

    name: str
    """The clip's file name in the folder."""
    origin: str
    norm_text: str
    language: str | None
    """By its phones, which the folder says no more about; None for punctuation alone."""
    phonemes: NDArray[np.int32]
    """(phonemes,)."""
    word2ph: tuple[int, ...] | None
    codes: NDArray[np.int32]
    """(tokens,)."""
    wave: NDArray[np.int16]
    """(samples,) at 32 kHz."""
    bert: Tensor | None
    """float16 (phonemes, 1024); None where the language has none."""
    ssl: Tensor | None
    """float16 (frames, 768); None if the folder has none."""
    speaker_vector: Tensor | None
    """float32 (20480,), Pro versions."""

    @property
    def seconds(self) -> float:
        """Length of the audio."""
        return len(self.wave) / SAMPLE_RATE

    def columns(self) -> dict[str, Any]:
        """Return the row of a prepared set."""
        return {
            "id": utterance_id(self.name),
            "text": self.norm_text,
            "norm_text": self.norm_text,
            "speaker": None,
            "language": self.language,
            "seconds": self.seconds,
            "phonemes": self.phonemes,
            "word2ph": None if self.word2ph is None else list(self.word2ph),
            "codes": self.codes,
            "num_codes": len(self.codes),
            "bert": _flat(self.bert),
            "wave": self.wave,
            "speaker_vector": _flat(self.speaker_vector),
            "ssl": _flat(self.ssl),
            "origin": self.origin,
        }


def read_experiment(folder: Path, version: str) -> Iterator[ExperimentRow | Rejected]:
    """Yield the rows of an experiment folder that a version can be trained on, and why the others cannot.

    Reasons beside those of any corpus: ``unknown_phone``, ``missing_features`` and ``bad_features``.

    Args:
        folder: Upstream's ``logs/<name>``.
        version: What will be trained: its phoneme table, and whether speaker vectors are due.

    Raises:
        DataError: if a table is missing or not UTF-8.
        UnsafeFileError: if a feature file could run code.
    """
    rows, tokens = list(read_names(folder)), read_tokens(folder)
    times = Counter(row.name for row in rows if isinstance(row, NameRow))
    first: dict[str, NameRow] = {}
    for row in rows:
        if isinstance(row, Rejected):
            yield row
        elif times[row.name] > 1 and (fault := _collision(row, first.setdefault(row.name, row), rows)):
            yield fault
        else:
            yield _read(folder, row, tokens, version)


def _collision(row: NameRow, first: NameRow, rows: list[NameRow | Rejected]) -> Rejected | None:
    """Say why a row whose name others have cannot be used; the first of equal ones can."""
    texts = {(each.phones, each.text) for each in rows if isinstance(each, NameRow) and each.name == row.name}
    if len(texts) > 1:
        return Rejected(row.origin, "conflict", f"{row.name} stands for {len(texts)} texts, and has one file")
    return None if row is first else Rejected(row.origin, "duplicate", row.name)


class _FaultError(Exception):
    """A row lacks something or holds what does not fit; its arguments are reason and detail."""


def _read(folder: Path, row: NameRow, tokens: dict[str, tuple[int, ...]], version: str) -> ExperimentRow | Rejected:
    try:
        return _whole(folder, row, tokens.get(row.name), version)
    except TextRejected as rejected:
        return Rejected(row.origin, rejected.reason, rejected.detail)
    except _FaultError as fault:
        return Rejected(row.origin, *fault.args)


def _whole(folder: Path, row: NameRow, codes: tuple[int, ...] | None, version: str) -> ExperimentRow:
    if _LOST in row.phones:
        raise _FaultError("unknown_phone", f"upstream did not know a phone and wrote {_LOST}")
    ids = symbol_table(version).ids_of(row.phones)
    language = language_of(row.phones)
    if not ids or codes is None:
        raise _FaultError("missing_features", "it has no phones" if not ids else "it has no semantic tokens")
    if max(codes) >= _CODES:
        raise _FaultError("bad_features", f"token {max(codes)} is none of {_CODES}")
    wave = _wave(folder / WAVES / row.name)
    if abs(len(wave) * TOKEN_RATE / SAMPLE_RATE - len(codes)) > _MOST_APART:
        raise _FaultError("bad_features", f"{len(codes)} tokens for {len(wave) / SAMPLE_RATE:.2f} s of audio")
    bert = _tensor(folder, BERT, row.name, (_BERT_CHANNELS, len(ids)), needed=language == "zh")
    ssl = _tensor(folder, HUBERT, row.name, (1, FEATURES, None))
    if ssl is not None and ssl.shape[-1] // 2 != len(codes):
        raise _FaultError("bad_features", f"{len(codes)} tokens for {ssl.shape[-1]} frames of speech features")
    vector = _tensor(folder, SPEAKER, row.name, (1, SPEAKER_WIDTH), needed=True) if _is_pro(version) else None
    return ExperimentRow(
        name=row.name,
        origin=row.origin,
        norm_text=row.text,
        language=language,
        phonemes=np.array(ids, np.int32),
        word2ph=row.word2ph,
        codes=np.array(codes, np.int32),
        wave=wave,
        bert=None if bert is None else bert.t().half().contiguous(),
        ssl=None if ssl is None else ssl[0].t().half().contiguous(),
        speaker_vector=None if vector is None else vector[0].float(),
    )


def _is_pro(version: str) -> bool:
    return find_version(version).speaker


def _wave(path: Path) -> NDArray[np.int16]:
    if not path.is_file():
        raise _FaultError("missing", f"no file {path.name} in {WAVES}")
    try:
        with soundfile.SoundFile(path) as file:
            if (file.samplerate, file.channels) != (SAMPLE_RATE, 1):
                found = f"{file.channels} channels at {file.samplerate} Hz"
                raise _FaultError("bad_features", f"{path.name} has {found}, not one at {SAMPLE_RATE}")
            samples: NDArray[np.int16] = file.read(dtype="int16")
    except soundfile.SoundFileError as error:
        raise _FaultError("decode_error", f"{path.name}: {error}") from error
    return samples


def _tensor(
    folder: Path, part: str, name: str, shape: tuple[int | None, ...], *, needed: bool = False
) -> Tensor | None:
    path = folder / part / f"{name}{FEATURE_SUFFIX}"
    if not path.is_file():
        if needed:
            raise _FaultError("missing_features", f"no file {path.name} in {part}")
        return None
    try:
        found = read_torch(path)
    except DataError as error:
        raise _FaultError("bad_features", str(error)) from error
    fits = isinstance(found, Tensor) and found.ndim == len(shape) and found.is_floating_point()
    if not fits or any(due not in (None, size) for due, size in zip(shape, found.shape, strict=True)):
        held = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise _FaultError("bad_features", f"{part}/{path.name} holds {held}, not {shape}")
    if not torch.isfinite(found).all():
        raise _FaultError("bad_features", f"{part}/{path.name} is not finite")
    tensor: Tensor = found.detach()
    return tensor


def _flat(tensor: Tensor | None) -> NDArray[Any] | None:
    return None if tensor is None else tensor.flatten().numpy()
