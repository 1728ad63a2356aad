"""Judges, scores and keeps one sample of a run: its sound, mel picture and facts, on disk and in TensorBoard.

Judged is what users complain about: loops, swallowed words, and speech that does not end.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from PIL import Image

from tts_train.contract.metric import Metric, Take
from tts_train.contract.voice import Passage, Uttered
from tts_train.corpus import Utterance
from tts_train.corpus.audio.containers import AudioRejected
from tts_train.corpus.audio.read import read_utterance
from tts_train.corpus.read import open_corpus
from tts_train.errors import ConfigError
from tts_train.report.samples import write_sample
from tts_train.report.source import CEILING, REFERENCE
from tts_train.scoring.metrics.catalogue import choose, own_metrics
from tts_train.scoring.metrics.wave import speech_span
from tts_train.sound import Sound

logger = logging.getLogger(__name__)

GUARDS = ("repetition", "swallowed", "runaway")
"""What is counted, in this order."""
LOOP_S = 1.0
"""Seconds from which on a loop counts as one; shorter ones are pauses and long vowels."""
LONGEST_PERIOD_S = 2.0
"""Seconds of the longest n-gram that is looked for."""
SWALLOWED = 0.5
"""Share of its usual tokens, or of the speech they stand for, below which words are missing."""
RUNAWAY = 2.0
"""How many times its usual tokens a passage may take, and a second more, before it is cut off."""


def judge(passage: Passage, uttered: Uttered, *, tokens_per_second: float) -> dict[str, bool]:
    """Say which of :data:`GUARDS` are true of what was said.

    ``repetition``: one n-gram three or more times in a row, for a second or more. ``swallowed``: fewer than half of the
    tokens that the text usually takes, or audible speech for less than half of their time. ``runaway``: it was cut off.
    """
    looped = longest_loop(uttered.tokens, longest_period=round(LONGEST_PERIOD_S * tokens_per_second))
    return {
        "repetition": looped >= LOOP_S * tokens_per_second,
        "swallowed": _said_share(passage, uttered, tokens_per_second) < SWALLOWED,
        "runaway": not uttered.ended,
    }


def most_tokens(passage: Passage, *, tokens_per_second: float) -> int:
    """Return after how many tokens a passage is cut off; half a minute's where nothing is known of it."""
    if passage.tokens is None:
        return round(30 * tokens_per_second)
    return round(RUNAWAY * passage.tokens + tokens_per_second)


def longest_loop(tokens: Sequence[int], *, longest_period: int) -> int:
    """Return the tokens of the longest stretch that is one n-gram three or more times in a row; 0 if there is none."""
    values, best = np.asarray(tokens, dtype=np.int64), 0
    # Equal to itself shifted by the period for twice its length: three repetitions.
    for period in range(1, min(longest_period, len(values) // 3) + 1):
        run = _longest_run(values[period:] == values[:-period])
        if run >= 2 * period:
            best = max(best, run + period)
    return best


def _longest_run(same: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> int:
    # Padded with False, so that every run has a beginning and an end.
    edges = np.flatnonzero(np.diff(np.concatenate([[False], same, [False]]).astype(np.int8)))
    lengths = edges[1::2] - edges[::2]
    return int(lengths.max()) if len(lengths) else 0


def _said_share(passage: Passage, uttered: Uttered, tokens_per_second: float) -> float:
    """Return the smaller of two shares: of the usual tokens, and of the usual seconds that are audible."""
    if not len(uttered.sound.samples) or not len(uttered.tokens):
        return 0.0
    begin, end = speech_span(uttered.sound)
    if passage.tokens is None:
        return 1.0 if end > begin else 0.0
    return min(len(uttered.tokens), (end - begin) * tokens_per_second) / max(passage.tokens, 1.0)


SAMPLE_RATE = 24_000
"""Of a recording of which the codec's version is not known."""


def with_recordings(passages: Sequence[Passage], path: Path) -> list[Passage]:
    """Return the passages with their recordings from a corpus, at the rate of the codec's version; others as they are.

    Raises:
        DataError: if there is no corpus at ``path``.
    """
    wanted = {passage.id: passage for passage in passages if passage.id is not None and passage.recording is None}
    corpus = open_corpus(path)
    found: dict[str, Passage] = {}
    for row in corpus.rows():
        if len(found) == len(wanted):
            break
        if isinstance(row, Utterance) and row.id in wanted:
            found[row.id] = _with_recording(wanted[row.id], row, corpus.root)
    if len(found) < len(wanted):
        logger.warning("%s holds %d of %d passages' recordings.", path, len(found), len(wanted))
    return [found.get(passage.id or "", passage) for passage in passages]


def _with_recording(passage: Passage, row: Utterance, root: Path | None) -> Passage:
    rate = passage.ceiling.sample_rate if passage.ceiling else SAMPLE_RATE
    try:
        audio = read_utterance(row, sample_rate=rate, root=root)
    except AudioRejected as rejected:
        logger.warning("The recording of %r cannot be used: %s.", passage.text, rejected.reason)
        return passage
    return replace(passage, recording=Sound(audio.samples, rate))


LIGHT = ("clipping", "silence", "duration", "dnsmos")
"""Scores that take well under a second for a sentence."""


class Scorer:
    """Measures samples with some of the metrics of ``tts-train eval``.

    Args:
        names: Which; None takes :data:`LIGHT`, as far as what they need is installed.

    Raises:
        ConfigError: if a name is unknown, or what was named cannot be measured.
    """

    def __init__(self, names: Sequence[str] | None) -> None:
        light = [metric for metric in own_metrics({}) if metric.name in LIGHT and not metric.missing()]
        self.metrics: list[Metric] = light if names is None else _named(names)

    def score(self, passage: Passage, sound: Sound) -> dict[str, float]:
        """Return every figure that this sample has; lengths are held against the recording, else the ceiling."""
        # Without the corpus the codec's round trip is the nearest thing to the recording.
        reference = passage.recording or passage.ceiling
        take = Take(sound=sound, text=passage.text, language=passage.language, reference=reference)
        found = [metric.measure(take) for metric in self.metrics if metric.lacks(take) is None]
        return {name: value for figures in found for name, value in figures.items() if math.isfinite(value)}


def known_figures(scorer: Scorer) -> dict[str, str]:
    """Return the names of all figures, and where each is best."""
    return {figure.name: figure.better for metric in scorer.metrics for figure in metric.figures}


def mean_figures(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of each figure over the samples that have it."""
    names = dict.fromkeys(name for row in rows for name in row)
    values = {name: [row[name] for row in rows if name in row] for name in names}
    return {name: math.fsum(those) / len(those) for name, those in values.items()}


def keep_known(folder: Path, passage: Passage) -> None:
    """Write a passage's recording and its codec's ceiling, once."""
    for kind, sound in ((REFERENCE, passage.recording), (CEILING, passage.ceiling)):
        if sound is not None and len(sound.samples) and not (folder / kind / f"{passage.name}.wav").exists():
            write_sample(folder / kind, passage.name, sound.samples, sound.sample_rate, text=passage.text)


def keep_said(
    folder: Path, passage: Passage, sound: Sound, facts: Mapping[str, Any], *, step: int, loggers: Sequence[Logger]
) -> None:
    """Write what was said at a step, and show it in TensorBoard; nothing where there is no sound."""
    if not len(sound.samples):
        return
    about = {"language": passage.language, "speaker": passage.speaker}
    known = {name: value for name, value in about.items() if value is not None}
    target = folder / f"step-{step:06d}"
    # For people: the page shows them, and the exact means are in the metrics.
    rounded = {key: round(value, 3) if isinstance(value, float) else value for key, value in facts.items()}
    write_sample(target, passage.name, sound.samples, sound.sample_rate, text=passage.text, facts={**known, **rounded})
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            _show(logger.experiment, passage.name, sound, target / f"{passage.name}.png", step)


def _show(writer: Any, name: str, sound: Sound, picture: Path, step: int) -> None:  # noqa: ANN401 - untyped writer
    # TensorBoard writes 16-bit words and would wrap what is louder.
    samples = torch.from_numpy(np.clip(sound.samples, -1.0, 1.0))
    writer.add_audio(f"listen/{name}", samples[None], step, sound.sample_rate)
    with Image.open(picture) as image:
        writer.add_image(f"listen/{name}", np.asarray(image.convert("RGB")), step, dataformats="HWC")


def _named(names: Sequence[str]) -> list[Metric]:
    try:
        return choose(own_metrics({}), names)[0] if names else []
    except ConfigError as error:
        raise ConfigError(str(error).replace("--metrics", "--listen.metrics")) from error
