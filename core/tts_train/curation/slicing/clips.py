"""The second pass over a recording: its pieces become clips, in samples that are as they were."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from tts_train.corpus.audio.containers import AudioRejected
from tts_train.corpus.audio.stream import open_stream
from tts_train.curation.slicing.placing import CutPiece
from tts_train.curation.speech.hearing import HeardSound
from tts_train.disk.files import patiently, temporary_beside

SUFFIX = ".flac"


def write_clips(
    path: Path,
    heard: HeardSound,
    pieces: Sequence[CutPiece],
    names: Sequence[Path],
    *,
    told: Callable[[float], None] | None = None,
) -> None:
    """Cut a recording.

    Args:
        path: the recording, which is read from its front once more.
        heard: what the first pass found.
        pieces: in order, without overlap.
        names: where each goes.
        told: called with the seconds that each block took.

    Raises:
        OSError: if the disk is full.
        AudioRejected: if the recording cannot be read any more.
    """
    # What is beyond full scale is made quieter with the whole recording; cut off, it would crackle.
    gain = np.float32(1 / max(1.0, heard.peak))
    waiting: list[NDArray[np.float32]] = []
    at = number = 0
    with open_stream(path) as stream:
        for block in stream.blocks():
            sound, begun = heard.sums.mix(block), at
            at += len(sound)
            while number < len(pieces) and pieces[number].start < at:
                piece = pieces[number]
                waiting.append(sound[max(0, piece.start - begun) : piece.end - begun] * gain)
                if piece.end > at:
                    break
                _write(names[number], np.concatenate(waiting), heard)
                waiting, number = [], number + 1
            if told:
                told(len(block) / stream.rate)
    # By the first pass they are all there: the file was changed in between.
    if number < len(pieces):
        raise AudioRejected("truncated", "it became shorter while it was cut")


def _write(path: Path, sound: NDArray[np.float32], heard: HeardSound) -> None:
    scale = 2 ** (heard.bits - 1)
    # Rounded here: libsndfile scales floats by one step less, and so would change every sample of a 16-bit recording.
    whole = np.clip(np.rint(sound * np.float64(scale)), -scale, scale - 1)
    held = io.BytesIO()
    if heard.bits == 24:
        # The library takes the upper 24 of 32 bits.
        soundfile.write(held, whole.astype(np.int32) << 8, heard.rate, subtype="PCM_24", format="FLAC")
    else:
        soundfile.write(held, whole.astype(np.int16), heard.rate, subtype="PCM_16", format="FLAC")
    temporary = temporary_beside(path)
    try:
        # By way of memory: a full disk is then an OSError, which says so.
        temporary.write_bytes(held.getvalue())
        patiently(lambda: temporary.replace(path))
    finally:
        temporary.unlink(missing_ok=True)
