"""``tts-train corpus slice``: from recordings to a folder of clips, with an account of every second."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from tts_train.contract.reports import Report
from tts_train.curation.folder import WORK, CorpusFolder, require_new
from tts_train.curation.job import CorpusJob
from tts_train.disk.apart import require_allowed, require_apart
from tts_train.disk.files import disk_errors
from tts_train.errors import ConfigError, DataError, quoted
from tts_train.progress import write_line

if TYPE_CHECKING:
    from tts_train.curation.slicing.recording import CutRecording, Recording


@dataclass(kw_only=True)
class CorpusSlice(CorpusJob):
    """Cut long recordings into utterances at pauses of the speech, or by subtitles that lie beside them."""

    positional: ClassVar[str] = "recordings"
    positional_help: ClassVar[str] = "a recording, or a folder of them, in any format and of any length"

    recordings: Path
    """A recording, or a folder of them."""
    out: Path
    """Corpus folder for the clips; the same command again continues or reuses it."""
    min_seconds: float = 2.0
    """Shortest clip, in seconds; shorter speech is joined to its neighbours, or left out where it stands alone."""
    max_seconds: float = 15.0
    """Longest clip, in seconds."""
    margin: float = 0.2
    """Seconds of quiet that are kept before and behind the words."""
    detector: Literal["auto", "silero", "energy"] = "auto"
    """What finds speech: Silero's network, or loudness alone; ``auto`` takes the network where it is installed."""
    subtitles: bool = True
    """Take cuts and texts from a file of the same name: .srt, .vtt, .TextGrid, or labels of Audacity in .txt."""
    speaker: str | None = None
    """Name of the speaker, the same for all recordings."""
    speaker_from: Literal["none", "folder"] = "none"
    """``folder``: the folder that a recording lies in is the name of its speaker."""
    language: str | None = None
    """Language of all recordings, such as en."""

    def check_places(self) -> None:
        """Refuse a folder that would be cut again, or that holds something else."""
        require_allowed(self.out)
        require_apart(self.recordings, self.out, given="the recordings")

    def run(self) -> Report:
        """Cut what is not cut yet, and write the tables.

        Raises:
            ConfigError: if settings do not fit together.
            DataError: if nothing could be read.
        """
        from tts_train.curation.slicing.names import named_recordings
        from tts_train.curation.speech.detectors import ENERGY, resolve_detector

        # Before anything is made: a refused command leaves nothing behind.
        self._check_settings()
        require_new(self.out)
        names = named_recordings(self.recordings)
        detector = resolve_detector(self.detector)
        if self.detector == "auto" and detector == ENERGY:
            write_line(
                "Speech is told by loudness alone, to which music is speech, too. For Silero's network: "
                "pip install 'tts-train[corpus]'"
            )
        # Held all the while: two commands would give one name to different clips.
        folder = CorpusFolder(self.out)
        with folder.holding(option="--out"), disk_errors(self.out):
            return self._slice(folder, names, detector)

    def _slice(self, folder: CorpusFolder, names: dict[str, Path], detector: str) -> Report:
        from tts_train.curation.slicing.grouping import Lengths
        from tts_train.curation.slicing.many import slice_all
        from tts_train.curation.slicing.recording import slice_recording
        from tts_train.curation.slicing.settle import settle

        work = self.out / WORK / "slices"
        # First: it tells the next command that the folder is a corpus in the making, also if this one is killed.
        work.mkdir(parents=True, exist_ok=True)
        recordings = self._recordings(folder, names)
        lengths = Lengths(least=self.min_seconds, most=self.max_seconds, margin=self.margin)
        cut_one = partial(slice_recording, out=self.out, work=work, lengths=lengths, detector=detector)
        cuts = slice_all(recordings, cut_one, self)
        _tell(recordings, cuts)
        # Tables of nothing would look like a corpus; those of an earlier command stay as they are.
        if recordings and all(cut.refused for cut in cuts):
            raise DataError(f"Nothing in {self.recordings} could be read. {_refusals(recordings, cuts)}")
        settled = settle(folder, recordings, cuts, self.language)
        for name in settled.unread:
            write_line(f"{name} cannot be read any more; its rows stay as they were.")
        if aside := len(settled.tables.moved):
            write_line(
                f"{aside} rows that were worked on are cut otherwise now: they went to {self.out / 'removed.jsonl'}, "
                "with their texts and clips."
            )
        return self._report(folder, recordings, cuts, settled.seconds, detector)

    def _recordings(self, folder: CorpusFolder, names: dict[str, Path]) -> list[Recording]:
        from tts_train.curation.slicing.names import stems
        from tts_train.curation.slicing.recording import Recording
        from tts_train.curation.slicing.settle import State
        from tts_train.curation.slicing.subtitles import SubtitleFinder

        state = State.read(self.out / WORK / "slices")
        state.require_same(folder, names)
        finder = SubtitleFinder(self.language)
        # Names that earlier clips have stay theirs.
        begin = stems(names, state.stems(folder))
        return [
            Recording(
                path=path,
                name=name,
                stem=begin[name],
                subtitles=finder.find(path) if self.subtitles else None,
                # A recording at the top lies in no speaker's folder.
                speaker=(Path(name).parent.name or None) if self.speaker_from == "folder" else self.speaker,
                applied=state.recordings.get(name, {}).get("key", ""),
            )
            for name, path in names.items()
        ]

    def _report(
        self,
        folder: CorpusFolder,
        recordings: Sequence[Recording],
        cuts: Sequence[CutRecording],
        seconds: dict[str, float],
        detector: str,
    ) -> Report:
        rows = folder.rows()
        odd: Counter[str] = Counter()
        for cut in cuts:
            odd.update({kind: len(cues) for kind, cues in cut.odd.items()})
        more: dict[str, Any] = {
            "recordings": len(recordings),
            "read": sum(not cut.refused for cut in cuts),
            "reused": sum(cut.reused for cut in cuts),
            "refused": dict(Counter(cut.refused for cut in cuts if cut.refused)),
            "rows": len(rows),
            "with_text": sum(bool(row.text) for row in rows),
            "hours": round(sum(row.seconds for row in rows) / 3600, 6),
            "seconds": seconds,
            "warnings": dict(Counter(warning for cut in cuts for warning in cut.warnings)),
            "subtitles": dict(odd),
            "detector": detector,
            "out": str(self.out),
        }
        if not rows:
            write_line(f"No speech of {self.min_seconds:g} s or more was found; {self.out / 'ledger.json'} says why.")
            return Report(more=more)
        # Texts by subtitles need no recogniser, only a person who reads them.
        whole = all(row.text for row in rows)
        more["next"] = [quoted("tts-train", "corpus", "review" if whole else "transcribe", self.out)]
        if whole:
            # Without texts check would drop every row.
            more["next"].append(quoted("tts-train", "check", self.out))
        return Report(more=more)

    def _check_settings(self) -> None:
        if not 0 < self.min_seconds < self.max_seconds:
            raise ConfigError(
                f"--min_seconds {self.min_seconds:g} must be more than 0 and less than --max_seconds "
                f"{self.max_seconds:g}. For example: --min_seconds 2 --max_seconds 15"
            )
        if not 0 <= self.margin * 2 < self.max_seconds:
            raise ConfigError(
                f"--margin {self.margin:g} must be 0 or more, and leave room for words in --max_seconds "
                f"{self.max_seconds:g}. For example: --margin 0.2"
            )
        if self.speaker is not None and self.speaker_from == "folder":
            raise ConfigError("--speaker and --speaker_from folder both say who speaks. Give one of them.")


def _tell(recordings: Sequence[Recording], cuts: Sequence[CutRecording]) -> None:
    """Name what could not be read, and the cues that are odd."""
    from tts_train.corpus.reasons import REASONS

    for recording, cut in zip(recordings, cuts, strict=True):
        if cut.refused:
            about = REASONS.get(cut.refused, "")
            write_line(f"{recording.name} is left out: {cut.refused} ({cut.detail}). {about}".rstrip())
        elif cut.odd:
            write_line(f"{recording.name}: {cut.detail}")


def _refusals(recordings: Sequence[Recording], cuts: Sequence[CutRecording]) -> str:
    # Five are enough to see what is wrong with a folder of hundreds; all of them were told one by one before.
    told = [f"{one.name}: {cut.refused} ({cut.detail})" for one, cut in zip(recordings, cuts, strict=True)]
    return "; ".join(told[:5]) + (f"; and {len(told) - 5} more" if len(told) > 5 else "") + "."
