"""How well each moment of a clip sounds like each speech sound, by the acoustic model in PocketSphinx's wheel.

The model (BSD, en-us, 5.1) tells 39 sounds of English, a silence and two noises apart, each in three parts. Its scores
of every moment are read from the file that its option ``senlogdir`` writes, so that any text can be held against a clip
afterwards at next to no cost, without a beam that loses the way.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tts_train.contract.metric import optional
from tts_train.errors import ConfigError
from tts_train.findings.measure import INSTALL, NotMeasured
from tts_train.scoring.recognisers.sphinx import feed
from tts_train.sound import Floats, Sound

SAMPLE_RATE = 16_000
FRAMES_A_SECOND = 100
PARTS = 3
"""Beginning, middle and end of a sound."""
MOST_SECONDS = 120.0
"""Scores take a megabyte of a temporary folder for each second."""
_LEAST_FRAMES = 10

# In the order of the model's file ``mdef``, which is that of ASCII; parts of these come first among its scores.
# fmt: off
_NAMES = (
    "+NSN+", "+SPN+", "AA", "AE", "AH", "AO", "AW", "AY", "B", "CH", "D", "DH", "EH", "ER", "EY", "F", "G", "HH", "IH",
    "IY", "JH", "K", "L", "M", "N", "NG", "OW", "OY", "P", "R", "S", "SH", "SIL", "T", "TH", "UH", "UW", "V", "W", "Y",
    "Z", "ZH",
)
# fmt: on
_QUIET = [_NAMES.index(name) for name in ("SIL", "+NSN+", "+SPN+")]
_SPEECH = [number for number in range(len(_NAMES)) if number not in _QUIET]
SOUNDS = tuple(_NAMES[number] for number in _SPEECH)
"""Names of the 39 sounds, as in the Carnegie Mellon dictionary."""

# The file has costs in steps of 1024 times the logarithm of 1.0001 (SENSCR_SHIFT is 10, logbase 1.0001).
_NATS = -1024 * np.log(1.0001)
_HEADER_END, _BYTE_ORDER = b"endhdr\n", 4


@dataclass(frozen=True)
class SoundScores:
    """Scores of a clip: nats (natural logarithms of likelihoods) below the best sound or silence of the same moment."""

    sounds: Floats
    """(frames, 39, 3)."""
    silence: Floats
    """(frames,), of silence or noise, whichever fits better."""
    speech: Floats
    """(frames,), of the sound that fits best."""

    def __len__(self) -> int:
        """Return the number of frames, of 10 ms."""
        return len(self.silence)


def scores_of(sound: Sound) -> SoundScores:
    """Score every moment of a sound.

    Raises:
        NotMeasured: if it is too short or too long.
        ConfigError: if PocketSphinx is not installed, or cannot write to the temporary folder.
    """
    if sound.seconds > MOST_SECONDS:
        raise NotMeasured(f"clips above {MOST_SECONDS:.0f} s are not held against their text")
    raw = _raw_scores(sound.at(SAMPLE_RATE))
    if len(raw) < _LEAST_FRAMES:
        raise NotMeasured("the clip is too short to be held against its text")
    # Parts of single sounds stand before those of sounds between two others, which are not needed: with them no text
    # is told from another any better (measured in English, Spanish, French, Italian and Russian).
    nats = (raw[:, : len(_NAMES) * PARTS] * np.float32(_NATS)).reshape(len(raw), len(_NAMES), PARTS)
    nats -= nats.max(axis=(1, 2), keepdims=True)
    sounds = np.ascontiguousarray(nats[:, _SPEECH])
    return SoundScores(sounds, nats[:, _QUIET].max(axis=(1, 2)), sounds.max(axis=(1, 2)))


def _raw_scores(samples: Floats) -> NDArray[np.int16]:
    decoder, folder = _decoder()
    try:
        feed(decoder, samples)
        found = [_read_scores(file.read_bytes()) for file in Path(folder.name).glob("*.sen")]
    # It does not say why it cannot write.
    except RuntimeError as error:
        raise _no_place(folder.name) from error
    finally:
        for file in Path(folder.name).glob("*.sen"):
            file.unlink()
    # A full disk shows in nothing but frames that are not there; those at the edges of a clip are less than ten.
    if not found or len(found[0]) < len(samples) * FRAMES_A_SECOND // SAMPLE_RATE - _LEAST_FRAMES:
        raise _no_place(folder.name)
    return found[0]


def _no_place(folder: str) -> ConfigError:
    return ConfigError(
        f"PocketSphinx could not write its scores to {folder}, where a minute of sound takes 60 MB for a moment. Set "
        "TMPDIR (TMP on Windows) to a folder with room, whose path has plain letters only."
    )


def _read_scores(data: bytes) -> NDArray[np.int16]:
    """Return the scores of a file that ``senlogdir`` gave, (frames, scores); a header says how many there are."""
    start = data.index(_HEADER_END) + len(_HEADER_END)
    header = dict(line.split(b" ", 1) for line in data[:start].splitlines() if b" " in line)
    count = int(header[b"n_sen"])
    values = np.frombuffer(data, dtype=np.int16, offset=start + _BYTE_ORDER)
    # In front of each frame stands how many scores it has; with ``compallsen`` all of them.
    return values[: len(values) // (count + 1) * (count + 1)].reshape(-1, count + 1)[:, 1:]


@lru_cache(maxsize=1)
def _decoder() -> tuple[Any, tempfile.TemporaryDirectory[str]]:
    folder = tempfile.TemporaryDirectory(prefix="tts-train-scores-", ignore_cleanup_errors=True)
    decoder = optional("pocketsphinx", INSTALL).Decoder(
        lm=None, loglevel="FATAL", samprate=SAMPLE_RATE, senlogdir=folder.name, compallsen=True
    )
    # Nothing is scored without something to look for; one word is the cheapest search that goes on to the end.
    decoder.add_keyphrase("any", "zebra")
    decoder.activate_search("any")
    return decoder, folder
