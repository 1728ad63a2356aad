"""Which column means what, under the names that corpora use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from types import MappingProxyType

COLUMNS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "audio": (
            "audio", "audio_file", "audio_filepath", "audio_path", "file_name", "filename", "file", "path",
            "wav", "wav_path", "wav_file", "wav_filename", "clip", "id", "name",
        ),
        "text": ("text", "transcription", "transcript", "sentence", "raw_text", "raw_transcription"),
        "normalised": ("normalized_text", "normalised_text", "text_normalized", "normalized", "normalised",
                       "normalized_transcription"),
        "speaker": ("speaker", "source", "speaker_name", "speaker_id", "voice"),
        "language": ("language", "lang", "locale", "language_id"),
        "start": ("start", "offset", "start_time"),
        "end": ("end", "end_time"),
        "duration": ("duration",),
        "input_ids": ("input_ids",),
        "attention_mask": ("attention_mask",),
        "labels": ("labels",),
        "loss_mask": ("loss_mask", "completion_mask", "assistant_masks", "assistant_mask"),
    }
)  # fmt: skip
"""Accepted names by meaning, in order of preference."""


def match_columns(names: Iterable[str]) -> dict[str, str]:
    """Return meaning -> actual column name, for the columns whose meaning is known."""
    return dict(_match(tuple(names)))


# The rows of a JSONL file repeat the same few sets of names a million times.
@lru_cache(maxsize=256)
def _match(names: tuple[str, ...]) -> Mapping[str, str]:
    by_lower = {name.strip().lower(): name for name in reversed(names)}
    found: dict[str, str] = {}
    for meaning, accepted in COLUMNS.items():
        if hit := next((by_lower[name] for name in accepted if name in by_lower), None):
            found[meaning] = hit
    return found
