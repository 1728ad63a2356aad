"""Upstream's experiment folder (``logs/NAME``) to rows for training: every feature upstream made, used as it is."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from torch import Tensor

from tts_train.contract import DataError
from tts_train.corpus import Rejected, read_lines, require_utf8, utterance_id
from tts_train.weights import read_torch
from tts_train_gpt_sovits.signal.versions import FEATURES, SPEAKER as SPEAKER_WIDTH, find_version
from tts_train_gpt_sovits.text import TextRejected
from tts_train_gpt_sovits.text.reading import symbol_table

NAMES = "2-name2text"
"""Names, phones, counts and texts; ``.txt`` whole, ``-0.txt`` and so on before its parts are merged."""
TOKENS = "6-name2semantic"
"""Names and semantic tokens; ``.tsv`` likewise."""
BERT, HUBERT, WAVES, SPEAKER = "3-bert", "4-cnhubert", "5-wav32k", "7-sv_cn"
"""Folders of text features, speech features, training audio and speaker vectors."""
TOKENS_HEADER = ("item_name", "semantic_audio")
FEATURE_SUFFIX = ".pt"
"""Features are called like the clip with its own ending before this: ``a.wav.pt``."""
TOKEN_RATE, SAMPLE_RATE = 25, 32_000


def plain_name(name: str) -> bool:
    """Whether a clip's name is that of a file in the folder, and leads nowhere else."""
    # Names come from a file of somebody else's, and become paths below its folder.
    whole = PurePath(name).name == name  # under Windows no drive
    return whole and name not in ("", "..") and not any(char in name for char in "/\\\0")


_COLUMNS = 4
_KOREAN = re.compile("[\u1100-\u11ff\u3131-\u318e]+")
_CANTONESE = re.compile(r"Y[a-z]+[1-6]?")
_ENGLISH = re.compile(r"[A-Z]{2}[012]")
_CHINESE = re.compile(r"[A-Za-z]+[1-5]")
_JAPANESE = re.compile(r"[A-Za-z]+")
_LANGUAGES = (("ko", _KOREAN), ("yue", _CANTONESE), ("en", _ENGLISH), ("zh", _CHINESE), ("ja", _JAPANESE))
"""In this order: what a phone of the first kind is, no other language before it has."""


@dataclass(frozen=True)
class NameRow:
    """A row of ``2-name2text``."""

    origin: str
    """The file and the line, for people."""
    name: str
    """The clip: a file's name with its ending."""
    phones: tuple[str, ...]
    word2ph: tuple[int, ...] | None
    text: str
    """As it was normalised for the phones."""


def read_names(folder: Path) -> Iterator[NameRow | Rejected]:
    """Yield the rows of ``2-name2text``, whole or in parts.

    Raises:
        DataError: if there is no such file, or it is not UTF-8.
    """
    for file in _files(folder, NAMES, ".txt"):
        for number, line in read_lines(file):
            yield _name_row(f"{file.name}:{number}", line.split("\t"))


def read_tokens(folder: Path) -> dict[str, tuple[int, ...]]:
    """Return the semantic tokens of every clip of ``6-name2semantic``; a row that is no row of tokens is left out.

    Raises:
        DataError: if there is no such file, or it is not UTF-8.
    """
    found = {}
    for file in _files(folder, TOKENS, ".tsv"):
        for _, line in read_lines(file):
            name, _, numbers = line.partition("\t")
            parts = numbers.split()
            # The header has no number and is left out by the same rule.
            if parts and all(part.isascii() and part.isdigit() and len(part) < 6 for part in parts):
                found[name] = tuple(map(int, parts))
    return found


def names_table(rows: Iterable[tuple[str, Sequence[str], Sequence[int] | None, str]]) -> str:
    """Return the text of ``2-name2text.txt`` for names, phones, counts and normalised texts."""
    return "".join(
        f"{name}\t{' '.join(phones)}\t{counts if counts is None else list(counts)}\t{_one_line(text)}\n"
        for name, phones, counts, text in rows
    )


def tokens_table(rows: Iterable[tuple[str, Sequence[int]]]) -> str:
    """Return the text of ``6-name2semantic.tsv``."""
    lines = ["\t".join(TOKENS_HEADER), *(f"{name}\t{' '.join(map(str, codes))}" for name, codes in rows)]
    return "\n".join(lines) + "\n"


def language_of(phones: Iterable[str]) -> str | None:
    """Return zh, en, ja, ko or yue by what only this language's phones look like; None for punctuation alone."""
    phones = tuple(phones)
    # The folder does not say which language a row is in. Its phones do, all but for punctuation.
    return next((name for name, kind in _LANGUAGES if any(map(kind.fullmatch, phones))), None)


def parse_counts(text: str) -> tuple[int, ...] | None:
    """Return the counts that upstream writes as a Python list, or None for ``None``.

    Raises:
        ValueError: if it is anything but whole numbers from 0 in brackets.
    """
    if text == "None":
        return None
    try:
        counts = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError("the counts are no list") from error
    if not isinstance(counts, list) or not all(type(count) is int and count >= 0 for count in counts):
        raise ValueError("the counts are not whole numbers from 0")
    return tuple(counts)


def _name_row(origin: str, parts: list[str]) -> NameRow | Rejected:
    if len(parts) != _COLUMNS:
        return Rejected(origin, "bad_row", f"{len(parts)} columns, not name, phones, word2ph, text")
    name, phones, counts, text = parts
    if not plain_name(name):
        return Rejected(origin, "outside_root", f"{name!r} is not the name of a file in 5-wav32k")
    row = phones.split()
    try:
        word2ph = parse_counts(counts)
    except ValueError as error:
        return Rejected(origin, "bad_row", str(error))
    if word2ph is not None and (sum(word2ph) != len(row) or len(word2ph) != len(text)):
        detail = f"{len(text)} characters and {len(row)} phones, with counts for {len(word2ph)} and {sum(word2ph)}"
        return Rejected(origin, "bad_row", detail)
    return NameRow(origin, name, tuple(row), word2ph, text)


def _files(folder: Path, stem: str, suffix: str) -> list[Path]:
    whole = folder / f"{stem}{suffix}"
    files = [whole] if whole.is_file() else sorted(folder.glob(f"{stem}-*{suffix}"))
    if not files:
        raise DataError(f"{folder} holds no {stem}{suffix}. Name the folder of an experiment, such as logs/my-voice.")
    for file in files:
        require_utf8(file)
    return files


def _one_line(text: str) -> str:
    return "".join(" " if char in "\t\n\r" else char for char in text)


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
    # Upstream calls a clip by its file's name, so that two recordings of one name in two folders fall together.
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
    # Upstream writes it for a phone that its table lacks (text/cleaner.py), and trains on it.
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
    # Tokens and features were made by different runs, and do not belong together.
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
    # Upstream's speech features keep requires_grad: 2-get-hubert-wav32k.py makes them without no_grad.
    tensor: Tensor = found.detach()
    return tensor


def _flat(tensor: Tensor | None) -> NDArray[Any] | None:
    return None if tensor is None else tensor.flatten().numpy()
