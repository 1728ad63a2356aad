"""What a backend is and what it is asked: every name that a backend's package needs, from one place.

A name is imported when it is first used, so that ``from tts_train.contract import Backend, Stage`` loads no torch;
only names of what computes (``StageModule``, ``StageData``, ``Checkpoint``, the voice) do.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tts_train.contract.backend import Backend, Curve, Demo, Format, Package, Sharding, Stage
    from tts_train.contract.data import AUTO, StageData
    from tts_train.contract.hooks import hookimpl
    from tts_train.contract.jobs import ExportJob, Job, Line, PrepareJob, SynthJob
    from tts_train.contract.metric import Figure, Metric, Take
    from tts_train.contract.module import StageModule, Work
    from tts_train.contract.probe import NoProbe, Probe, Said, SpeechProbe
    from tts_train.contract.reports import ExportReport, PrepareReport, Report, SynthReport
    from tts_train.contract.voice import (
        Passage,
        SampleVoice,
        Uttered,
        precision_of,
        take_turns,
    )
    from tts_train.disk.provenance import Provenance
    from tts_train.errors import (
        ConfigError,
        DataError,
        DiskError,
        Interrupted,
        MissingExtraError,
        NoTextsError,
        NumericError,
        RunLockedError,
        TTSTrainError,
        UnsafeFileError,
    )
    from tts_train.run.checkpoint import Checkpoint, RunCard, open_checkpoint
    from tts_train.sound import Sound

__all__ = [
    "AUTO",
    "Backend",
    "Checkpoint",
    "ConfigError",
    "Curve",
    "DataError",
    "Demo",
    "DiskError",
    "ExportJob",
    "ExportReport",
    "Figure",
    "Format",
    "Interrupted",
    "Job",
    "Line",
    "Metric",
    "MissingExtraError",
    "NoProbe",
    "NoTextsError",
    "NumericError",
    "Package",
    "Passage",
    "PrepareJob",
    "PrepareReport",
    "Probe",
    "Provenance",
    "Report",
    "RunCard",
    "RunLockedError",
    "Said",
    "SampleVoice",
    "Sharding",
    "Sound",
    "SpeechProbe",
    "Stage",
    "StageData",
    "StageModule",
    "SynthJob",
    "SynthReport",
    "TTSTrainError",
    "Take",
    "UnsafeFileError",
    "Uttered",
    "Work",
    "hookimpl",
    "open_checkpoint",
    "precision_of",
    "take_turns",
]

_HOMES = {
    "tts_train.contract.backend": "Backend Curve Demo Format Package Sharding Stage",
    "tts_train.contract.data": "AUTO StageData",
    "tts_train.contract.hooks": "hookimpl",
    "tts_train.contract.jobs": "ExportJob Job Line PrepareJob SynthJob",
    "tts_train.contract.metric": "Figure Metric Take",
    "tts_train.contract.module": "StageModule Work",
    "tts_train.contract.probe": "NoProbe Probe Said SpeechProbe",
    "tts_train.contract.reports": "ExportReport PrepareReport Report SynthReport",
    "tts_train.contract.voice": "Passage SampleVoice Uttered precision_of take_turns",
    "tts_train.disk.provenance": "Provenance",
    "tts_train.errors": "ConfigError DataError DiskError Interrupted MissingExtraError NoTextsError NumericError "
    "RunLockedError TTSTrainError UnsafeFileError",
    "tts_train.run.checkpoint": "Checkpoint RunCard open_checkpoint",
    "tts_train.sound": "Sound",
}
"""Where each name is defined; the imports above say the same to a type checker."""
_HOME = {name: home for home, names in _HOMES.items() for name in names.split()}


def __getattr__(name: str) -> object:
    """Import a public name when it is first used."""
    if name not in _HOME:
        raise AttributeError(f"tts_train.contract has no name {name!r}; see docs/writing-a-backend.md")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names."""
    return __all__
