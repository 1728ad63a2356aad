"""Every hook of tts-train, in the order in which a run asks them.

A plugin is a module (or object) whose functions bear :data:`hookimpl`. Arguments are passed by name and an
implementation takes those it wants. ``docs/hooks.md`` has a section for each hook.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from lightning.pytorch import Callback, LightningDataModule, LightningModule
    from lightning.pytorch.cli import LightningArgumentParser
    from lightning.pytorch.strategies import Strategy

    from tts_train.contract.backend import Backend, Format, Stage
    from tts_train.contract.metric import Metric, Recogniser

PROJECT = "tts_train"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


# --- what is trained ---------------------------------------------------------------------------------------------


@hookspec(firstresult=True)
def tts_train_backend() -> Backend | None:
    """Describe the backend that this plugin brings.

    Asked of the chosen backend's plugin; an extension that brings no backend does not implement it.
    """


@hookspec(firstresult=True)
def tts_train_data(stage: Stage) -> type[LightningDataModule] | None:
    """Choose the data module that feeds ``stage``. The first answer wins; the core answers last, as declared."""


@hookspec(firstresult=True)
def tts_train_model(stage: Stage) -> type[LightningModule] | None:
    """Choose the module that ``stage`` trains. The first answer wins; the core answers last, as declared."""


# --- how it is run -----------------------------------------------------------------------------------------------


@hookspec
def tts_train_arguments(parser: LightningArgumentParser, stage: Stage) -> None:
    """Add options under ``--plugins.<name>`` to the training commands of ``stage``."""


@hookspec(firstresult=True)
def tts_train_strategy(stage: Stage, name: str, options: Mapping[str, object]) -> Strategy | None:
    """Build the strategy called ``name`` for ``stage``. The first answer wins; None leaves ``name`` to Lightning.

    ``options`` holds what ``--plugins.*`` said, by plugin name, and what ``--fsdp.*`` said, under ``fsdp``.
    """


@hookspec
def tts_train_callbacks(stage: Stage, options: Mapping[str, object]) -> Iterable[Callback]:
    """Make callbacks for a run of ``stage``; all answers are used. ``options`` holds what ``--plugins.*`` said."""


# --- what comes out ----------------------------------------------------------------------------------------------


@hookspec
def tts_train_export(stage: Stage) -> Mapping[str, Format]:
    """Name the formats to which ``stage`` can be exported. Answers are merged; two of one name are an error."""


@hookspec
def tts_train_metrics(stage: Stage, weights: Mapping[str, str]) -> Iterable[Metric]:
    """Bring metrics for ``tts-train eval`` of ``stage``; all answers are used, and two of one name are an error.

    ``weights`` holds what ``--weights.<metric>`` said: models of the user's.
    """


# --- before all of it --------------------------------------------------------------------------------------------


@hookspec
def tts_train_recognisers(model: str | None) -> Iterable[Recogniser]:
    """Bring recognisers for ``tts-train corpus transcribe``; all answers are used, two of one name are an error.

    Asked of the extensions and of every backend that is installed. ``model`` is what ``--model`` said, or what stands
    behind a name in ``--second``.
    """
