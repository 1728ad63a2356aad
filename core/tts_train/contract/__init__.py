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
        Drawn as Drawn,
        ExportJob as ExportJob,
        Line as Line,
        PrepareJob as PrepareJob,
        SynthJob as SynthJob,
    )
    from tts_train.contract.metric import (
        Figure as Figure,
        HeardText as HeardText,
        Metric as Metric,
        Recogniser as Recogniser,
        Take as Take,
    )
    from tts_train.contract.module import StageModule as StageModule, Work as Work
    from tts_train.contract.prepare import ShardedPrepare as ShardedPrepare
    from tts_train.contract.probe import NoProbe as NoProbe, Probe as Probe, Said as Said, SpeechProbe as SpeechProbe
    from tts_train.contract.reports import ExportReport as ExportReport, Report as Report, SynthReport as SynthReport
    from tts_train.contract.voice import (
        Passage as Passage,
        SampleVoice as SampleVoice,
        Uttered as Uttered,
        take_turns as take_turns,
    )
    from tts_train.errors import (
        ConfigError as ConfigError,
        DataError as DataError,
        DiskError as DiskError,
        MissingExtraError as MissingExtraError,
        NumericError as NumericError,
        TTSTrainError as TTSTrainError,
        UnsafeFileError as UnsafeFileError,
        quoted as quoted,
    )
    from tts_train.parallel.means import wide_type as wide_type
    from tts_train.parallel.processes import choose_device as choose_device
    from tts_train.progress import Progress as Progress
    from tts_train.run.checkpoint import (
        Checkpoint as Checkpoint,
        check_names as check_names,
        is_run as is_run,
        open_checkpoint as open_checkpoint,
    )
    from tts_train.sound import Sound as Sound

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        ".backend": "Backend Curve Demo Format Package Sharding Stage",
        ".data": "AUTO StageData",
        ".encoder": "Census Clip ReadyRows RowEncoder",
        ".hooks": "hookimpl",
        ".jobs": "Drawn ExportJob Line PrepareJob SynthJob",
        ".metric": "Figure HeardText Metric Recogniser Take",
        ".module": "StageModule Work",
        ".prepare": "ShardedPrepare",
        ".probe": "NoProbe Probe Said SpeechProbe",
        ".reports": "ExportReport Report SynthReport",
        ".voice": "Passage SampleVoice Uttered take_turns",
        "tts_train.errors": "ConfigError DataError DiskError MissingExtraError NumericError TTSTrainError "
        "UnsafeFileError quoted",
        "tts_train.parallel.means": "wide_type",
        "tts_train.parallel.processes": "choose_device",
        "tts_train.progress": "Progress",
        "tts_train.run.checkpoint": "Checkpoint check_names is_run open_checkpoint",
        "tts_train.sound": "Sound",
    },
)
