"""Detectors of speech: Silero's network by its weights in the wheel, and energy where it is not installed."""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tts_train.errors import MissingExtraError

RATE = 16_000
"""Samples a second that detectors hear."""
HOP = 80
"""Samples between two figures of loudness: 5 ms."""
AUTO, SILERO, ENERGY = "auto", "silero", "energy"
Choice: TypeAlias = Literal["auto", "silero", "energy"]

# The network's: 512 new samples behind the last 64 of those before (silero-vad 6.2, 16 kHz).
_WINDOW, _CONTEXT, _STATE = 512, 64, (1, 1, 128)
# Windows in one call: 256 to 512 are the fastest on a CPU, some 370 times real time on one core.
_CALL = 512
_MODEL = "silero_vad_16k_sequence.onnx"
# Quiet recordings are made louder for the network, by 20 dB at most: more would make speech of hiss.
_LOUD, _MOST_GAIN = 0.5, 10.0
# dB above the noise at which energy alone is taken for speech, and over how many dB that becomes certain.
_ABOVE, _SPREAD = 9.0, 3.0
# Half a minute, in levels of 5 ms: nobody speaks so long without a tenth of it being pauses.
_LONG = 6000


class Detector(ABC):
    """Hears one recording, block by block."""

    name: ClassVar[str]
    version: ClassVar[int] = 1
    """Raised when the same sound gives other figures, so that cuts that were made are not used again."""

    @abstractmethod
    def add(self, sound: NDArray[np.float32]) -> None:
        """Hear the next block, (time,) at 16 kHz."""

    @abstractmethod
    def speech(self, levels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return how likely speech is, 0 to 1, for each 5 ms of what was heard.

        Args:
            levels: how loud they are, in dB.
        """


def resolve_detector(choice: Choice) -> str:
    """Return which detector is used; ``auto`` takes Silero's where it is installed.

    Raises:
        MissingExtraError: if ``silero`` is asked for and is not installed.
    """
    if choice == ENERGY:
        return ENERGY
    if not _missing():
        return SILERO
    if choice == SILERO:
        raise MissingExtraError(f"--detector silero (without {', '.join(_missing())})", "corpus")
    return ENERGY


def make_detector(name: str) -> Detector:
    """Return a detector that has heard nothing yet."""
    return DETECTORS[name]()


class SileroDetector(Detector):
    """silero-vad (Silero Team, MIT): a small recurrent network, many windows in one call."""

    name = SILERO

    def __init__(self) -> None:
        self._session = _session()
        self._state = (np.zeros(_STATE, np.float32), np.zeros(_STATE, np.float32))
        self._waiting = np.zeros(_CONTEXT, np.float32)
        self._found: list[NDArray[np.float32]] = []
        self._peak = 0.0

    def add(self, sound: NDArray[np.float32]) -> None:
        """Hear the next block."""
        self._peak = max(self._peak, float(np.abs(sound).max(initial=0.0)))
        gain = np.clip(_LOUD / max(self._peak, 1e-9), 1.0, _MOST_GAIN)
        self._waiting = np.concatenate([self._waiting, sound * np.float32(gain)])
        while len(self._waiting) >= _CONTEXT + _CALL * _WINDOW:
            self._call(_CALL)

    def speech(self, levels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return its probabilities, each window's for every 5 ms in it."""
        rest = len(self._waiting) - _CONTEXT
        if rest > 0:
            self._waiting = np.pad(self._waiting, (0, -rest % _WINDOW))
            self._call((len(self._waiting) - _CONTEXT) // _WINDOW)
        found = np.concatenate([*self._found, np.zeros(1, np.float32)])
        # The middle of each 5 ms says to which window of 32 ms they belong.
        window = ((np.arange(len(levels)) + 0.5) * HOP / _WINDOW).astype(np.int64)
        return found[np.minimum(window, len(found) - 1)]

    def _call(self, windows: int) -> None:
        used = self._waiting[: _CONTEXT + windows * _WINDOW]
        frames = np.lib.stride_tricks.sliding_window_view(used, _CONTEXT + _WINDOW)[::_WINDOW]
        hidden, cell = self._state
        given = {"input": np.ascontiguousarray(frames), "h": hidden, "c": cell}
        found, *state = self._session.run(["speech_probs", "hn", "cn"], given)
        self._state = (state[0], state[1])
        self._found.append(np.asarray(found, np.float32).reshape(-1))
        self._waiting = self._waiting[windows * _WINDOW :]


class EnergyDetector(Detector):
    """Takes for speech what is louder than the noise around it; music is speech to it."""

    name = ENERGY

    def add(self, sound: NDArray[np.float32]) -> None:
        """Do nothing: the levels say all that it knows."""
        del sound

    def speech(self, levels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return how far each moment is above the noise."""
        from tts_train.curation.speech.levels import noise_floor, smooth

        # A tenth of a second, the length of a syllable: clicks are shorter.
        over = smooth(levels, 20) - noise_floor(levels, window=_LONG) - _ABOVE
        return np.asarray(1 / (1 + np.exp(np.clip(-over / _SPREAD, -50, 50))), np.float32)


DETECTORS: Mapping[str, type[Detector]] = {SILERO: SileroDetector, ENERGY: EnergyDetector}
"""By name."""


def _missing() -> list[str]:
    """Return the packages that are absent, or too old to have the network in the form that is read."""
    absent = [name for name in ("silero_vad", "onnxruntime") if importlib.util.find_spec(name) is None]
    return absent or ([] if _model().is_file() else ["silero-vad 6.2"])


def _model() -> Path:
    # Found, not imported: the package imports torch, and offers a TorchScript file that is not to be run.
    spec = importlib.util.find_spec("silero_vad")
    places = spec.submodule_search_locations if spec else None
    return Path((places or [""])[0]) / "data" / _MODEL


def _session() -> Any:  # noqa: ANN401 - onnxruntime is optional
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # One thread is faster than two for matrices of this size, and other recordings have the rest.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    # 3: errors; the file has initialisers that no operator uses, which is warned of at every start.
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(_model()), options, providers=["CPUExecutionProvider"])
