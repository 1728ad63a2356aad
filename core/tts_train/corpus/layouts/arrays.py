"""Recordings that a data set holds as samples: ``{"array": [...], "sampling_rate": 24000}``."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

_SCALE = {np.dtype(np.int16): 1 << 15, np.dtype(np.int32): 1 << 31}
_MAX_CHANNELS = 32
_MAX_BYTES = 1 << 31
_FLOAT = 3


def encode_array(audio: Mapping[str, Any]) -> bytes:
    """Return decoded audio as the bytes of a WAV file with 32-bit floats, the same bytes for the same samples.

    Args:
        audio: ``array`` (time,), (channels, time) or (time, channels), floats within -1 and 1 or an array of 16- or
            32-bit whole numbers, and ``sampling_rate`` in Hz.

    Raises:
        ValueError: if it is no such audio; says how to save encoded files.
    """
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
    if samples.ndim == 2 and samples.shape[0] <= samples.shape[1]:
        samples = samples.T
    channels = samples.shape[1] if samples.ndim == 2 else 1
    if not 1 <= channels <= _MAX_CHANNELS:
        raise ValueError(f"the array has {channels} channels")
    # Written here: libsndfile puts the time into such files, and a row's id is made of its bytes.
    data = (samples / _SCALE.get(samples.dtype, 1)).astype("<f4").tobytes()
    form = struct.pack("<HHIIHH", _FLOAT, channels, rate, rate * channels * 4, channels * 4, 32)
    body = b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body
