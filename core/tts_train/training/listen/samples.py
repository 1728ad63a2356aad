"""Scores and keeps one sample of a run: its sound, mel picture and facts, on disk and in TensorBoard."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from PIL import Image

from tts_train.contract.metric import Metric, Take
from tts_train.contract.voice import Passage
from tts_train.errors import ConfigError
from tts_train.report.samples import write_sample
from tts_train.report.source import CEILING, REFERENCE
from tts_train.scoring.metrics.catalogue import choose, own_metrics
from tts_train.sound import Sound

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
    rounded = {key: round(value, 3) if isinstance(value, float) else value for key, value in facts.items()}
    write_sample(target, passage.name, sound.samples, sound.sample_rate, text=passage.text, facts={**known, **rounded})
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            _show(logger.experiment, passage.name, sound, target / f"{passage.name}.png", step)


def _show(writer: Any, name: str, sound: Sound, picture: Path, step: int) -> None:  # noqa: ANN401 - untyped writer
    samples = torch.from_numpy(np.clip(sound.samples, -1.0, 1.0))
    writer.add_audio(f"listen/{name}", samples[None], step, sound.sample_rate)
    with Image.open(picture) as image:
        writer.add_image(f"listen/{name}", np.asarray(image.convert("RGB")), step, dataformats="HWC")


def _named(names: Sequence[str]) -> list[Metric]:
    try:
        return choose(own_metrics({}), names)[0] if names else []
    except ConfigError as error:
        raise ConfigError(str(error).replace("--metrics", "--listen.metrics")) from error
