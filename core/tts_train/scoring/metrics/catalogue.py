"""The metrics that tts-train brings, in the order of its tables, and the choice among them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from tts_train.contract.metric import Metric
from tts_train.errors import ConfigError
from tts_train.scoring.metrics.opinion import DistillMos, Dnsmos
from tts_train.scoring.metrics.reference import MelCepstralDistortion, Pitch
from tts_train.scoring.metrics.speaker import SpeakerSimilarity, WavLmSimilarity
from tts_train.scoring.metrics.wave import Clipping, Duration, Silence
from tts_train.scoring.metrics.words import Recognition, WordsFound


def own_metrics(weights: Mapping[str, str]) -> list[Metric]:
    """Return the core's metrics; ``weights`` names models of the user's by metric."""
    return [
        Dnsmos(),
        DistillMos(),
        WordsFound(),
        Recognition(weights.get("recognition")),
        SpeakerSimilarity(),
        WavLmSimilarity(weights.get("wavlm")),
        MelCepstralDistortion(),
        Pitch(),
        Duration(),
        Silence(),
        Clipping(),
    ]


def choose(metrics: Iterable[Metric], names: Sequence[str]) -> tuple[list[Metric], dict[str, str]]:
    """Return the metrics to measure, and of the others why they cannot be.

    Args:
        metrics: all there are.
        names: those to measure; none means all that can be.

    Raises:
        ConfigError: if a name is unknown, or a metric that was named cannot be measured.
    """
    known = {metric.name: metric for metric in metrics}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ConfigError(f"--metrics {','.join(unknown)}: there is no such metric. Choose from: {', '.join(known)}.")
    wanted = [metric for name, metric in known.items() if not names or name in names]
    missing = {metric.name: why for metric in wanted if (why := metric.missing())}
    # What was named must not be left out; without names all that can be measured is.
    if names and missing:
        told = "; ".join(f"{name}: {why}" for name, why in missing.items())
        raise ConfigError(f"--metrics names what cannot be measured yet. {told}.")
    return [metric for metric in wanted if metric.name not in missing], missing
