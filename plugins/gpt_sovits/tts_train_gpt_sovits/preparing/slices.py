"""Cuts long recordings at silences, and drafts the list of what is said in the pieces."""

from __future__ import annotations

import importlib.util
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import soundfile
import torch

from tts_train.contract import ConfigError, MissingExtraError, Progress
from tts_train.corpus import Limits, RowRejected, read_audio, recordings_in
from tts_train.disk import disk_errors
from tts_train.weights import load_whisper
from tts_train_gpt_sovits.signal.audio import SliceOptions, find_slices, slice_wave

SAMPLE_RATE = 32_000
LIST = "slices.list"
_LONGEST = 6 * 3600.0
"""Seconds of one recording."""

Transcribe = Callable[[Path], tuple[str, str]]
"""Tells what is said in a file, and in which language."""

_log = logging.getLogger(__name__)


def slice_recordings(
    source: Path, out: Path, *, language: str | None, transcribe: Transcribe | None, options: SliceOptions
) -> dict[str, Any]:
    """Write the pieces of every recording to ``out``, and ``slices.list`` with a row for each.

    Args:
        source: A recording, or a folder of them.
        out: New or empty folder.
        language: Language of every row; None leaves it to ``transcribe``, or empty.
        transcribe: What fills in the texts; None leaves them empty, to be written by hand.
        options: Where recordings are cut.

    Returns:
        Counts: recordings, slices, hours, and what could not be read by reason.

    Raises:
        ConfigError: if ``out`` holds something.
        DataError: if there are no recordings.
    """
    files = recordings_in(source)
    if out.exists() and any(out.iterdir()):
        raise ConfigError(f"--out {out} is not empty. Choose another folder, so that nothing is overwritten.")
    failed: Counter[str] = Counter()
    lines: list[str] = []
    seconds = 0.0
    with disk_errors(out), Progress("Slicing", len(files)) as progress:
        out.mkdir(parents=True, exist_ok=True)
        for file in files:
            try:
                pieces = list(_cut(file, out, options))
            except RowRejected as rejected:
                _log.warning("%s cannot be read: %s (%s).", file, rejected.reason, rejected.detail)
                failed[rejected.reason] += 1
                pieces = []
            for piece, length in pieces:
                text, heard = transcribe(piece) if transcribe else ("", "")
                lines.append(f"{piece.name}|{source.stem}|{language or heard}|{text}\n")
                seconds += length
            progress.advance()
        (out / LIST).write_text("".join(lines), encoding="utf-8")
    return {
        "recordings": len(files),
        "slices": len(lines),
        "hours": round(seconds / 3600, 6),
        "unreadable": dict(failed),
        "list": str(out / LIST),
    }


def whisper(model: str) -> Transcribe:
    """Return a transcriber by faster-whisper; ``model`` is its size, a hub name, or a local folder.

    Raises:
        MissingExtraError: if it is not installed.
        ConfigError: if there is no such model, or it cannot be fetched.
    """
    if importlib.util.find_spec("faster_whisper") is None:
        raise MissingExtraError("--transcribe", "asr")
    network = load_whisper(model, option="--transcribe")

    def transcribe(file: Path) -> tuple[str, str]:
        segments, about = network.transcribe(str(file), beam_size=5, vad_filter=True)
        return " ".join(segment.text.strip() for segment in segments).replace("|", " "), str(about.language)

    return transcribe


def _cut(file: Path, out: Path, options: SliceOptions) -> Iterator[tuple[Path, float]]:
    audio = read_audio(file, sample_rate=SAMPLE_RATE, limits=Limits(min_seconds=0.1, max_seconds=_LONGEST))
    samples = torch.from_numpy(audio.samples)
    for piece in find_slices(samples, SAMPLE_RATE, options):
        sound = samples[piece.start : piece.end]
        if not bool(sound.any()):
            continue
        path = _free(out, f"{file.stem}_{piece.start:010d}_{piece.end:010d}")
        soundfile.write(path, slice_wave(sound).numpy(), SAMPLE_RATE, subtype="PCM_16")
        yield path, len(sound) / SAMPLE_RATE


def _free(folder: Path, stem: str) -> Path:
    """Return a name that is not taken: two recordings of one name both live."""
    names = (f"{stem}{'' if number == 1 else f'-{number}'}.wav" for number in range(1, 10_000))
    return next(folder / name for name in names if not (folder / name).exists())
