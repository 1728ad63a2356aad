"""The core's own answers to the hooks: what the stage declared. Asked last, so any plugin may answer before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tts_train.backend import Format, Stage, resolve
from tts_train.hookspecs import hookimpl

if TYPE_CHECKING:
    from lightning.pytorch import LightningDataModule, LightningModule


@hookimpl(trylast=True)
def tts_train_data(stage: Stage) -> type[LightningDataModule]:
    """Answer with the data module that the stage declared."""
    return resolve(stage.data)


@hookimpl(trylast=True)
def tts_train_model(stage: Stage) -> type[LightningModule]:
    """Answer with the module that the stage declared."""
    return resolve(stage.model)


@hookimpl(trylast=True)
def tts_train_export(stage: Stage) -> Mapping[str, Format]:
    """Answer with the formats that the stage declared."""
    return stage.formats
