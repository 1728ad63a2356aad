"""The core's own answers to the hooks: what the stage declared. Asked last, so any plugin may answer before."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from tts_train.contract.backend import Format, Stage, resolve
from tts_train.contract.hooks import hookimpl
from tts_train.sharding.options import NAME, FsdpOptions

if TYPE_CHECKING:
    from lightning.pytorch import LightningDataModule, LightningModule
    from lightning.pytorch.strategies import Strategy

    from tts_train.contract.metric import Metric, Recogniser


@hookimpl(trylast=True)
def tts_train_data(stage: Stage) -> type[LightningDataModule]:
    """Answer with the data module that the stage declared."""
    return resolve(stage.data)


@hookimpl(trylast=True)
def tts_train_model(stage: Stage) -> type[LightningModule]:
    """Answer with the module that the stage declared."""
    return resolve(stage.model)


@hookimpl(trylast=True)
def tts_train_strategy(stage: Stage, name: str, options: Mapping[str, object]) -> Strategy | None:
    """Build ``fsdp`` from the stage's ``Sharding``."""
    if name != NAME:
        return None
    from tts_train.sharding.fsdp import FsdpStrategy

    given = options.get(NAME)
    return FsdpStrategy(stage.sharding, given if isinstance(given, FsdpOptions) else FsdpOptions())


@hookimpl(trylast=True)
def tts_train_export(stage: Stage) -> Mapping[str, Format]:
    """Answer with the formats that the stage declared."""
    return stage.formats


@hookimpl(trylast=True)
def tts_train_metrics(weights: Mapping[str, str]) -> Iterable[Metric]:
    """Answer with the core's metrics."""
    from tts_train.scoring.metrics.catalogue import own_metrics

    return own_metrics(weights)


@hookimpl(trylast=True)
def tts_train_recognisers(model: str | None) -> Iterable[Recogniser]:
    """Answer with the core's recognisers."""
    from tts_train.scoring.recognisers.catalogue import own_recognisers

    return own_recognisers(model)
