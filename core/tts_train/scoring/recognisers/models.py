"""Whisper by faster-whisper (MIT, on CTranslate2): models found, loaded and asked in one place."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tts_train.errors import ConfigError
from tts_train.parallel.processes import worker_number
from tts_train.weights.hub import unreachable, why_missing

_log = logging.getLogger(__name__)
WHISPER_INSTALL = "pip install 'tts-train[asr]'"
WHISPER_RATE = 16_000
"""Hz."""
WINDOW = 30 * WHISPER_RATE
"""Samples that Whisper hears at once."""
BEAM = 5
"""Hypotheses that are followed: what OpenAI's and faster-whisper's own commands take."""


@dataclass(frozen=True, kw_only=True)
class Whispered:
    """What a Whisper model hears."""

    text: str
    log_probability: float | None
    """Mean over the tokens, natural logarithm; None where nothing is heard."""
    language: str
    language_probability: float
    """1 where the language was given."""


@lru_cache(maxsize=4)  # the library asks the hub each time
def find_whisper(weights: str, *, option: str) -> Path:
    """Return the folder of a faster-whisper model, downloaded where it is not on this machine.

    Args:
        weights: a size such as ``large-v3``, a hub name, or a folder.
        option: what named it, for messages.

    Raises:
        ConfigError: if it cannot be had.
    """
    folder = Path(weights).expanduser()
    found = folder if folder.is_dir() else Path(_tried(lambda: _download(weights), weights, option))
    # Without a tokenizer beside the model the library would fetch one from the hub, in each process.
    if absent := [name for name in ("model.bin", "tokenizer.json") if not (found / name).is_file()]:
        raise ConfigError(f"{option} {weights}: {found} holds no {' and no '.join(absent)}. {_ADVICE}")
    return found


@lru_cache(maxsize=2)  # the two of --model and --second take turns, clip by clip
def load_whisper(weights: str, *, option: str) -> Any:  # noqa: ANN401 - the package ships no types
    """Load a faster-whisper model: a size such as ``large-v3``, a hub name, or a folder.

    Args:
        weights: which.
        option: What named it, for messages.

    Raises:
        ConfigError: if it cannot be loaded.
    """
    folder = str(find_whisper(weights, option=option))
    package = _package()
    # Its own default is four threads a process, also where several processes share two cores.
    threads = int(os.environ.get("OMP_NUM_THREADS") or 0)
    # It warns on each CPU that it computes with wider numbers than are stored.
    import_module("ctranslate2").set_log_level(logging.ERROR)
    card = worker_number() % max(1, count_cards())
    return _tried(lambda: package.WhisperModel(folder, device_index=card, cpu_threads=threads), weights, option)


def count_cards() -> int:
    """Return how many CUDA cards a model can be loaded on; the first of them is taken where there are any."""
    found: int = import_module("ctranslate2").get_cuda_device_count()
    return found


def hear(
    model: Any,  # noqa: ANN401 - the package ships no types
    samples: NDArray[np.float32],
    *,
    language: str | None,
    only_speech: bool = False,
) -> Whispered:
    """Return what a loaded model hears in samples at 16 kHz.

    Args:
        model: of :func:`load_whisper`.
        samples: (time,), full scale 1.
        language: such as ``en``; None is told by the sound.
        only_speech: look for speech first (silero's detector) and hear nothing elsewhere: in silence and noise Whisper
            makes up sentences.
    """
    segments, about = model.transcribe(
        samples,
        language=language,
        beam_size=BEAM,
        vad_filter=only_speech,
        # Times lead from window to window. Of one window they say nothing, and their tokens are what a model is least
        # sure of: a clear text had a mean probability of 0.74 with them, and of 0.94 alone. At 3 dB of noise 37 % of
        # the words of 65 prompts came out wrong without them, 42 % with them (tiny.en).
        without_timestamps=len(samples) <= WINDOW,
        # A clip is a text of its own; going on from text that was heard wrongly makes loops.
        condition_on_previous_text=False,
    )
    heard = [segment for segment in segments if segment.text.strip()]
    tokens = [max(1, len(segment.tokens)) for segment in heard]
    total = sum(segment.avg_logprob * count for segment, count in zip(heard, tokens, strict=True))
    return Whispered(
        text=" ".join(segment.text.strip() for segment in heard),
        # Segments' means weighed by their tokens: the mean over all tokens.
        log_probability=total / sum(tokens) if tokens and math.isfinite(total) else None,
        language=str(about.language),
        language_probability=float(about.language_probability),
    )


_ADVICE = "Give a size such as large-v3, a hub name of a CTranslate2 model, or the folder of one."


def _package() -> Any:  # noqa: ANN401 - the package ships no types
    try:
        return import_module("faster_whisper")
    except ImportError as error:
        raise ConfigError(f"faster_whisper cannot be imported ({error}): {WHISPER_INSTALL}") from error


def _download(weights: str) -> str:
    fetch: Callable[..., str] = import_module("faster_whisper.utils").download_model
    try:
        return fetch(weights, local_files_only=True)
    except OSError:
        if unreachable():
            raise
    # The library shows no progress, and a large model takes minutes.
    _log.info("The Whisper model %s is fetched from the hub, once; small has 480 MB, large-v3 3 GB.", weights)
    return fetch(weights, local_files_only=False)


def _tried(load: Any, weights: str, option: str) -> Any:  # noqa: ANN401 - what the package returns
    _package()
    try:
        return load()
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"{option} {weights}: no Whisper model could be loaded: {why_missing(error, weights)} {_ADVICE}"
        ) from error
