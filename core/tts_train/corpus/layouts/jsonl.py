"""JSON manifests: one object a line, or a list of objects; audio folders with ``metadata.jsonl``, NeMo's manifests."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tts_train.corpus.layouts.base import NAME_ONE, Layout, RawRow
from tts_train.corpus.layouts.splits import part_folders, training_part
from tts_train.corpus.rows.builder import parse_segment
from tts_train.corpus.rows.columns import describe, match_columns
from tts_train.corpus.rows.files import first_existing
from tts_train.corpus.rows.text import read_lines, require_utf8
from tts_train.corpus.rows.utterance import Rejected
from tts_train.errors import DataError

_SCALE = {np.dtype(np.int16): 1 << 15, np.dtype(np.int32): 1 << 31}
_MAX_CHANNELS = 32
_MAX_BYTES = 1 << 31
_FLOAT = 3
NAMES = ("corpus.jsonl", "metadata.jsonl", "manifest.jsonl", "manifest.json")


class JsonLines(Layout):
    """``{"audio": …, "text": …}`` with optional speaker, language, start and end."""

    name = "jsonl"
    summary = 'a .jsonl or .json file with {"audio": …, "text": …} on each line'

    def __init__(self, path: Path, root: Path, files: list[Path]) -> None:
        super().__init__(path, root)
        self.files = files
        for file in files:
            require_utf8(file)

    @classmethod
    def detect(cls, path: Path) -> JsonLines | None:
        """Return the layout if ``path`` has it."""
        if path.is_file():
            return cls(path, path.parent, [path]) if path.suffix.lower() in {".jsonl", ".ndjson", ".json"} else None
        if not path.is_dir():
            return None
        if whole := first_existing(path, NAMES):
            return cls(path, path, [whole])
        found = training_part([file for folder in part_folders(path) if (file := first_existing(folder, NAMES))], path)
        if found:
            return cls(path, path, found)
        manifests = sorted(path.glob("*.jsonl")) or sorted(path.glob("*manifest*.json"))
        manifests = training_part(manifests, path)
        if len(manifests) > 1:
            names = ", ".join(file.name for file in manifests[:8])
            raise DataError(f"{path} holds several manifests ({names}) and no metadata.jsonl. {NAME_ONE}")
        return cls(path, path, manifests) if manifests else None

    def raws(self) -> Iterator[RawRow | Rejected]:
        """Yield every row in order."""
        for file in self.files:
            shown, base = self.shown(file), str(file.parent)
            used, seen = dict[str, str](), dict[str, None]()
            for origin, row in _objects(file, shown):
                if isinstance(row, Rejected):
                    yield row
                    continue
                columns = match_columns(row, self.asked.names)
                # Objects may have other names in each line; only what is new is looked at, for a million lines pass.
                if not seen.keys() >= row.keys():
                    seen |= dict.fromkeys(row)
                    used |= {name: meaning for meaning, name in columns.items()}
                    self.taken[shown] = describe(used, seen)
                yield from_mapping({meaning: row[name] for meaning, name in columns.items()}, origin, base)
            if seen and not ("audio" in used.values() and {"text", "normalised"} & set(used.values())):
                names = ", ".join(map(repr, list(seen)[:12]))
                raise DataError(
                    f"{file} has objects with the names {names}. Say which of them are audio and text: "
                    "--corpus_format 'audio=NAME,text=NAME,speaker=NAME'."
                )


def _objects(file: Path, shown: str) -> Iterator[tuple[str, dict[str, Any] | Rejected]]:
    """Yield (origin, object or what is wrong)."""
    if _is_one_value(file):
        yield from _listed(file, shown)
        return
    for number, line in read_lines(file):
        if line.strip():
            origin = f"{shown}:{number}"
            yield origin, _parse(line, origin)


def _parse(line: str, origin: str) -> dict[str, Any] | Rejected:
    try:
        row = json.loads(line)
    # RecursionError: lists that are nested thousands deep.
    except (ValueError, RecursionError) as error:
        return Rejected(origin, "bad_row", f"no JSON: {error}")
    return row if isinstance(row, dict) else Rejected(origin, "bad_row", "not a JSON object")


def _is_one_value(file: Path) -> bool:
    """A .json file is one value over many lines, unless its first line is a whole object, as in NeMo's manifests."""
    first = next((line.strip() for _, line in read_lines(file) if line.strip()), "{}")
    return file.suffix.lower() == ".json" and not isinstance(_parse(first, ""), dict)


def _listed(file: Path, shown: str) -> Iterator[tuple[str, dict[str, Any] | Rejected]]:
    try:
        rows = json.loads(file.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file} is no JSON: {error}. It needs one object a line, or a list of objects.") from None
    if not isinstance(rows, list):
        raise DataError(
            f"{file} holds one JSON {type(rows).__name__}. It needs one object a line, or a list of objects."
        )
    for number, row in enumerate(rows, start=1):
        origin = f"{shown}:{number}"
        yield origin, row if isinstance(row, dict) else Rejected(origin, "bad_row", "not a JSON object")


def from_mapping(row: Mapping[str, Any], origin: str, base: str | None) -> RawRow | Rejected:
    """Check the types of a row keyed by meaning and make a raw row of it."""
    audio, text = row.get("audio"), row.get("normalised") or row.get("text")
    try:
        audio, reference = (_sound(each, row.get("rate")) for each in (audio, row.get("reference")))
    except ValueError as error:
        return Rejected(origin, "bad_row", str(error))
    if not audio:
        return Rejected(origin, "bad_row", "no audio")
    if not isinstance(text, str) and text is not None:
        return Rejected(origin, "bad_row", f"text is a {type(text).__name__}, not a string")
    start, end, fault = parse_segment(row)
    if fault:
        return Rejected(origin, "bad_segment", fault)
    try:
        speaker, language, split, instruct = (
            _label(row, name) for name in ("speaker", "language", "split", "instruct")
        )
    except ValueError as error:
        return Rejected(origin, "bad_row", str(error))
    codes = row.get("codes")
    return RawRow(
        origin, audio, text or "", speaker, language, start, end, base, split, instruct, reference, codes
    )  # fmt: skip


def _sound(value: Any, rate: object) -> str | bytes | None:  # noqa: ANN401 - whatever the file holds
    """Return the name of a recording, its file's bytes, or samples as those of a WAV; None where it is none of them.

    Raises:
        ValueError: if it holds samples that are no sound.
    """
    # Samples in one column and their rate in another, as some exports write them.
    if isinstance(value, list):
        value = {"array": value, "sampling_rate": rate}
    if isinstance(value, dict):
        value = encode_array(value) if value.get("array") is not None else value.get("bytes") or value.get("path")
    return value if isinstance(value, (str, bytes)) and value else None


def _label(row: Mapping[str, Any], key: str) -> str | None:
    """Speakers are often numbers; a missing value is an empty one, a missing column None."""
    if key not in row:
        return None
    value = row[key]
    if isinstance(value, str):
        return value
    if isinstance(value, (dict, list, bytes)):
        raise ValueError(f"{key} is a {type(value).__name__}, not a name")
    if isinstance(value, float):
        # A column of whole numbers in which some are missing becomes one of floats.
        return "" if math.isnan(value) else f"{value:.0f}" if value.is_integer() else str(value)
    return "" if value is None else str(value)


def encode_array(audio: Mapping[str, Any]) -> bytes:
    """Return decoded audio as the bytes of a WAV file with 32-bit floats, the same bytes for the same samples.

    Args:
        audio: ``array`` (time,), (channels, time) or (time, channels), floats within -1 and 1 or an array of 16- or
            32-bit whole numbers, and ``sampling_rate`` in Hz.

    Raises:
        ValueError: if it is no such audio; says how to save encoded files.
    """
    # A truth value is a number in Python, and 1 Hz is no rate of speech.
    given = audio.get("sampling_rate")
    rate = given if isinstance(given, int) and not isinstance(given, bool) else 0
    try:
        samples = np.asarray(audio["array"])
    except (ValueError, OverflowError):
        samples = np.empty(0, object)
    numeric = np.issubdtype(samples.dtype, np.floating) or samples.dtype in _SCALE
    if not numeric or samples.ndim not in (1, 2) or not 0 < rate < 1 << 28 or samples.nbytes > _MAX_BYTES:
        raise ValueError(
            "the samples are no array of floats with a sampling_rate; save encoded files: "
            "ds.cast_column('audio', Audio(decode=False)) before to_parquet"
        )
    # A recording has fewer channels than samples, whichever way its writer laid them.
    if samples.ndim == 2 and samples.shape[0] <= samples.shape[1]:
        samples = samples.T
    channels = samples.shape[1] if samples.ndim == 2 else 1
    if not 1 <= channels <= _MAX_CHANNELS:
        raise ValueError(f"the array has {channels} channels")
    if rate * channels * 4 >= 1 << 32:
        # A WAV file has 32 bits for its bytes a second.
        raise ValueError(f"{rate} Hz with {channels} channels is more than a recording has")
    # Written here: libsndfile puts the time into such files, and a row's id is made of its bytes.
    data = (samples / _SCALE.get(samples.dtype, 1)).astype("<f4").tobytes()
    form = struct.pack("<HHIIHH", _FLOAT, channels, rate, rate * channels * 4, channels * 4, 32)
    body = b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body
