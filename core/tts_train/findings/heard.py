"""The worst clips of each kind, to be seen and heard on the page: their sound and picture inside of it."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from tts_train.corpus.audio.containers import Limits
from tts_train.corpus.audio.read import read_audio
from tts_train.corpus.ledger import Ledger
from tts_train.corpus.read import kept_utterances, open_corpus
from tts_train.corpus.rows.utterance import RowRejected, TokenRow, Utterance
from tts_train.findings.search import SearchResult
from tts_train.findings.summary import in_order
from tts_train.report.samples import mel_picture

WORST = 5
MOST_S = 8.0
"""Seconds of a clip that the page carries."""
MOST_BYTES = 15 * 2**20
"""Bytes of sounds and pictures; with their text form (a third more) a page stays below 20 MB."""
_MP3_RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
_OTHER_RATE = 24_000
_ANY = Limits(min_seconds=0.0, max_seconds=float("inf"), silent_peak=0.0)


@dataclass(frozen=True)
class Heard:
    """One clip on the page."""

    text: str
    sound: str = ""
    """MP3, in base64; empty where there was no room or the clip cannot be read."""
    picture: str = ""
    """PNG, in base64."""


def worst(found: SearchResult) -> dict[str, list[str]]:
    """Return the origins of the worst rows of each kind that was found."""
    return {
        name: list(dict.fromkeys(each.origin for each in findings))[:WORST]
        for name, findings in in_order(found).items()
    }


def listen(path: Path | str, layout: str, origins: Iterable[str]) -> dict[str, Heard]:
    """Read rows once more, and return what the page shows of each."""
    wanted = set(origins)
    heard: dict[str, Heard] = {}
    spent = 0
    for row in _rows(path, layout, wanted):
        clip = _heard(row) if spent < MOST_BYTES else Heard(row.text)
        spent += (len(clip.sound) + len(clip.picture)) * 3 // 4
        heard[row.origin] = clip
    return heard


def _rows(path: Path | str, layout: str, wanted: set[str]) -> Iterable[Utterance]:
    left = set(wanted)
    if not left:
        return
    # A ledger of its own: this reading is not accounted for a second time.
    for row in kept_utterances(open_corpus(path, layout=layout), Ledger()):
        if row.origin in left and not isinstance(row, TokenRow):
            left.discard(row.origin)
            yield row
        if not left:
            return


def _heard(row: Utterance) -> Heard:
    try:
        audio = read_audio(row.audio, start=row.start, end=row.end, limits=_ANY, keep_raw=True)
    # Rows that are dropped for what a kind looks for are named under it, too.
    except RowRejected:
        return Heard(row.text)
    assert audio.raw is not None
    # As it is in the file: an offset and two channels are what some findings are about.
    samples, rate = audio.raw[: int(MOST_S * audio.source_rate)], audio.source_rate
    picture = mel_picture(samples.T, rate)
    return Heard(row.text, _base64(_mp3(samples, rate)), _base64(picture))


def _mp3(samples: NDArray[np.float32], rate: int) -> bytes:
    if rate not in _MP3_RATES:
        samples, rate = np.asarray(soxr.resample(samples, rate, _OTHER_RATE), dtype=np.float32), _OTHER_RATE
    file = io.BytesIO()
    # The coding that every browser plays, at about 64 kbit/s for a voice at 24 kHz.
    soundfile.write(file, np.clip(samples, -1, 1), rate, format="MP3", bitrate_mode="CONSTANT", compression_level=0.6)
    return file.getvalue()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def files_of(found: SearchResult, root: Path) -> Mapping[str, str]:
    """Return the path below a folder of each row's file; rows whose file lies elsewhere are left out."""
    real = root.resolve()
    return {
        origin: audio.resolve().relative_to(real).as_posix()
        for origin, audio in found.audio.items()
        if audio is not None and audio.resolve().is_relative_to(real)
    }
