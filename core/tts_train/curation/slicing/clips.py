"""The second pass over a recording: its pieces become clips, in samples that are as they were."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import soundfile
from numpy.typing import NDArray

from tts_train.corpus.audio.containers import AudioRejected
from tts_train.corpus.audio.stream import open_stream
from tts_train.curation.slicing.placing import CutPiece
from tts_train.curation.speech.hearing import HeardSound
from tts_train.disk.files import patiently, temporary_beside
from tts_train.sound import whole_numbers

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
    bits: Literal[16, 24] = 24 if heard.bits == 24 else 16
    held = io.BytesIO()
    soundfile.write(held, whole_numbers(sound, bits), heard.rate, subtype=f"PCM_{bits}", format="FLAC")
    temporary = temporary_beside(path)
    try:
        # By way of memory: a full disk is then an OSError, which says so.
        temporary.write_bytes(held.getvalue())
        patiently(lambda: temporary.replace(path))
    finally:
        temporary.unlink(missing_ok=True)
