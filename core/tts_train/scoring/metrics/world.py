"""What a take is compared with its recording by: the WORLD analysis, made once for all metrics, and a time warp.

WORLD: Morise, Yokomori, Ozawa 2016 (doi 10.1587/transinf.2015EDP7457); pitch by DIO and StoneMask, the envelope by
CheapTrick. Mel-cepstra as SPTK's ``sp2mc`` makes them: the envelope's cepstrum on a warped frequency axis (Oppenheim
and Johnson 1972, ``freqt``). Dynamic time warping tells which frame of one sound belongs to which of another (Sakoe
and Chiba 1978).
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tts_train.contract.metric import INSTALL_EXTRA, package_folder
from tts_train.errors import ConfigError
from tts_train.scoring.metrics.wave import trimmed
from tts_train.sound import Sound

Doubles: TypeAlias = "NDArray[np.float64]"
Indices: TypeAlias = "NDArray[np.int64]"


def distances(one: Doubles, other: Doubles) -> Doubles:
    """Return the Euclidean distance of every frame of ``one`` (n, d) to every one of ``other`` (m, d), as (n, m)."""
    # By the binomial formula: differences of all pairs would take n x m x d numbers.
    squares = (one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1)[None] - 2 * one @ other.T
    found: Doubles = np.sqrt(np.maximum(squares, 0))
    return found


def warp(cost: Doubles) -> tuple[Indices, Indices]:
    """Return the pairs of frames on the cheapest path through ``cost`` (n, m), from (0, 0) to (n - 1, m - 1).

    A step advances one sound, the other, or both by one frame; all steps weigh the same and the sum is exactly least.
    """
    rows, columns = cost.shape
    total = np.full((rows + 1, columns + 1), np.inf)
    total[0, 0] = 0
    # Cells of one diagonal need only the two before it, so each is one vector operation.
    for diagonal in range(2, rows + columns + 1):
        i = np.arange(max(1, diagonal - columns), min(rows, diagonal - 1) + 1)
        j = diagonal - i
        before = np.minimum(np.minimum(total[i - 1, j - 1], total[i - 1, j]), total[i, j - 1])
        total[i, j] = cost[i - 1, j - 1] + before
    return _way_back(total)


def _way_back(total: Doubles) -> tuple[Indices, Indices]:
    # Places in total are higher by one than frames: its first row and column stand before both sounds.
    i, j = total.shape[0] - 1, total.shape[1] - 1
    path = [(i, j)]
    while (i, j) != (1, 1):
        # Where ways are equally cheap, both sounds advance.
        i, j = min(((i - 1, j - 1), (i - 1, j), (i, j - 1)), key=lambda step: total[step])
        path.append((i, j))
    pairs = np.asarray(path[::-1], dtype=np.int64) - 1
    return pairs[:, 0], pairs[:, 1]


PACKAGE = "pyworld"
SAMPLE_RATE = 16_000
"""Every sound is analysed at this rate, in Hz, so that sounds of different rates can be compared."""
FRAME_MS = 5.0
ORDER = 24
"""Mel-cepstral coefficients besides the 0th, which holds the energy."""
ALPHA = 0.42
"""Warping that comes closest to the mel scale at 16 kHz."""


@dataclass(frozen=True)
class Analysis:
    """What WORLD finds between beginning and end of the speech, in frames of 5 ms."""

    pitch: Doubles
    """(frames,) F0 in Hz, 0 where there is no voice."""
    cepstra: Doubles
    """(frames, 25) mel-cepstra of the log envelope; column 0 is the energy."""


@lru_cache(maxsize=8)
def analyse(sound: Sound) -> Analysis:
    """Analyse the speech in a sound, without the silence before and behind.

    Raises:
        ConfigError: if pyworld is not installed.
    """
    # pyworld takes float64 alone, and refuses float32.
    return analyse_samples(trimmed(sound, SAMPLE_RATE).astype(np.float64))


def analyse_samples(samples: Doubles) -> Analysis:
    """Analyse samples at 16 kHz as they are."""
    world = _world()
    pitch, times = world.dio(samples, SAMPLE_RATE, frame_period=FRAME_MS)
    pitch = world.stonemask(samples, pitch, times, SAMPLE_RATE)
    envelope = world.cheaptrick(samples, pitch, times, SAMPLE_RATE)
    return Analysis(pitch, mel_cepstra(envelope))


def mel_cepstra(envelope: Doubles, *, order: int = ORDER, alpha: float = ALPHA) -> Doubles:
    """Turn power envelopes (frames, bins) into mel-cepstra (frames, order + 1), natural logarithm of amplitude."""
    cepstra = np.fft.irfft(np.log(envelope), axis=1)[:, : envelope.shape[1]]
    # The cepstrum of the log power spectrum is symmetric; halving c0 makes it that of a minimum-phase amplitude.
    cepstra[:, 0] /= 2
    warped: Doubles = cepstra @ _warping(envelope.shape[1], order, alpha).T
    return warped


@lru_cache(maxsize=4)
def _warping(size: int, order: int, alpha: float) -> Doubles:
    """(order + 1, size) matrix that moves a cepstrum to the warped frequency axis."""
    # Column m holds the power series of ((w + alpha) / (1 + alpha w))^m, the m-th power of the delay on the new axis.
    matrix = np.zeros((order + 1, size))
    matrix[0] = alpha ** np.arange(size)
    for row in range(1, order + 1):
        for column in range(1, size):
            turned = matrix[row, column - 1] - matrix[row - 1, column]
            matrix[row, column] = matrix[row - 1, column - 1] + alpha * turned
    return matrix


@lru_cache(maxsize=1)
def _world() -> Any:  # noqa: ANN401 - a compiled module without types
    """Load WORLD's compiled module by itself: its package asks setuptools for its version, which new ones refuse."""
    folder = package_folder(PACKAGE)
    loader = (importlib.machinery.ExtensionFileLoader, importlib.machinery.EXTENSION_SUFFIXES)
    spec = importlib.machinery.FileFinder(str(folder), loader).find_spec(PACKAGE)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{folder} holds no compiled WORLD for this Python. Install it again: {INSTALL_EXTRA}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
