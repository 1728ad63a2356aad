"""What ``--drop`` and ``--thresholds`` say, held against the kinds of findings that there are."""

from __future__ import annotations

import math
from collections.abc import Mapping

from tts_train.configuration.values import nearest
from tts_train.errors import ConfigError
from tts_train.findings.measure import FindingKind


def read_drop(words: str | None, kinds: Mapping[str, FindingKind]) -> tuple[str, ...]:
    """Return the kinds whose rows are to be dropped, of ``noisy,clipping``.

    Raises:
        ConfigError: naming those that there are.
    """
    names = tuple(dict.fromkeys(name.strip() for name in (words or "").split(",") if name.strip()))
    for name in names:
        _require(name, kinds, "--drop")
    return names


def read_thresholds(words: str | None, kinds: Mapping[str, FindingKind]) -> dict[str, float]:
    """Return the threshold of every kind: as given in ``noisy=12,level=6``, the others as they are.

    Raises:
        ConfigError: naming the kinds that there are, with their thresholds.
    """
    found = {name: kind.threshold for name, kind in kinds.items()}
    for part in filter(None, (words or "").replace(" ", "").split(",")):
        name, _, value = part.partition("=")
        _require(name, kinds, "--thresholds")
        try:
            found[name] = float(value)
        except ValueError:
            found[name] = math.nan
        if not math.isfinite(found[name]):
            raise ConfigError(
                f"--thresholds {part}: a threshold is a number, as in --thresholds {name}={kinds[name].threshold:g}."
            )
    return found


def _require(name: str, kinds: Mapping[str, FindingKind], option: str) -> None:
    if name not in kinds:
        raise ConfigError(
            f"{option}: there is no finding {name!r}.{nearest(name, kinds)} There are: {', '.join(kinds)}."
        )
