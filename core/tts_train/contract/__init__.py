"""What a backend is and what it is asked: where a backend's package imports from first.

A name is imported when it is first used: the table loads no torch, what computes (``StageModule``, ``StageData``) does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tts_train.lazy import lazy_names

if TYPE_CHECKING:
    from tts_train.contract.backend import (
        Backend as Backend,
        Curve as Curve,
        Demo as Demo,
        Format as Format,
        Package as Package,
        Sharding as Sharding,
        Stage as Stage,
    )
    from tts_train.contract.data import AUTO as AUTO, StageData as StageData
    from tts_train.contract.encoder import (
        Census as Census,
        Clip as Clip,
        ReadyRows as ReadyRows,
        RowEncoder as RowEncoder,
    )
    from tts_train.contract.hooks import hookimpl as hookimpl
    from tts_train.contract.jobs import (
        ExportJob as ExportJob,
        Job as Job,
        Line as Line,
        PrepareJob as PrepareJob,
        SynthJob as SynthJob,
    )
    from tts_train.contract.metric import Figure as Figure, Metric as Metric, Take as Take
    from tts_train.contract.module import StageModule as StageModule, Work as Work
    from tts_train.contract.prepare import ShardedPrepare as ShardedPrepare
    from tts_train.contract.probe import NoProbe as NoProbe, Probe as Probe, Said as Said, SpeechProbe as SpeechProbe
    from tts_train.contract.reports import (
        ExportReport as ExportReport,
        PrepareReport as PrepareReport,
        Report as Report,
        SynthReport as SynthReport,
    )
    from tts_train.contract.voice import (
        Passage as Passage,
        SampleVoice as SampleVoice,
        Uttered as Uttered,
        precision_of as precision_of,
        take_turns as take_turns,
    )
    from tts_train.disk.provenance import Provenance as Provenance
    from tts_train.errors import (
        ConfigError as ConfigError,
        DataError as DataError,
        DiskError as DiskError,
        Interrupted as Interrupted,
        MissingExtraError as MissingExtraError,
        NoTextsError as NoTextsError,
        NumericError as NumericError,
        RunLockedError as RunLockedError,
        TTSTrainError as TTSTrainError,
        UnsafeFileError as UnsafeFileError,
    )
    from tts_train.parallel.devices import choose_device as choose_device, own_device as own_device
    from tts_train.parallel.means import (
        Means as Means,
        unweighted as unweighted,
        weighted as weighted,
        wide_type as wide_type,
    )
    from tts_train.parallel.together import reshard as reshard
    from tts_train.progress import Progress as Progress
    from tts_train.run.checkpoint import (
        Checkpoint as Checkpoint,
        RunCard as RunCard,
        check_names as check_names,
        is_run as is_run,
        open_checkpoint as open_checkpoint,
    )
    from tts_train.run.places import reachable as reachable, whole_paths as whole_paths
    from tts_train.sound import Sound as Sound

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        ".backend": "Backend Curve Demo Format Package Sharding Stage",
        ".data": "AUTO StageData",
        ".hooks": "hookimpl",
        ".jobs": "ExportJob Job Line PrepareJob SynthJob",
        ".metric": "Figure Metric Take",
        ".module": "StageModule Work",
        ".probe": "NoProbe Probe Said SpeechProbe",
        ".reports": "ExportReport PrepareReport Report SynthReport",
        ".voice": "Passage SampleVoice Uttered precision_of take_turns",
        "tts_train.disk.provenance": "Provenance",
        "tts_train.errors": "ConfigError DataError DiskError Interrupted MissingExtraError NoTextsError "
        "NumericError RunLockedError TTSTrainError UnsafeFileError",
        "tts_train.parallel.devices": "choose_device own_device",
        "tts_train.progress": "Progress",
        "tts_train.run.checkpoint": "Checkpoint RunCard check_names is_run open_checkpoint",
        ".encoder": "Census Clip RowEncoder ReadyRows",
        ".prepare": "ShardedPrepare",
        "tts_train.parallel.together": "reshard",
        "tts_train.run.places": "reachable whole_paths",
        "tts_train.sound": "Sound",
        "tts_train.parallel.means": "Means unweighted weighted wide_type",
    },
)
