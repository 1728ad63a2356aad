"""``tts-train corpus transcribe``: texts for the rows that have none."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from tts_train.contract.reports import Report
from tts_train.corpus.language import language_code
from tts_train.curation.folder import CorpusFolder
from tts_train.curation.job import ClipWork, CorpusJob, measure_clips
from tts_train.curation.recognition.choosing import AUTO, INSTALL, find_recogniser
from tts_train.curation.recognition.hearing import ClipHearing
from tts_train.curation.recognition.outcome import BY, Outcome
from tts_train.curation.row import ClipRow
from tts_train.errors import ConfigError, quoted
from tts_train.plugins import Plugins


@dataclass(kw_only=True)
class CorpusTranscribe(CorpusJob):
    """Write down what is said in the clips that have no text; texts that are there stay as they are.

    The same command again continues.
    """

    positional: ClassVar[str] = "folder"
    positional_help: ClassVar[str] = "corpus folder, as corpus slice and corpus merge write it"

    folder: Path
    recogniser: str = AUTO
    """``whisper`` (extra ``asr``), ``sphinx`` (English, offline, often wrong), one that a plugin brings, or ``auto``:
    whisper, or an error that says what to install."""
    model: str | None = None
    """Weights of the recogniser: for whisper a size such as large-v3 (``small`` where none is given; downloaded once),
    a hub name, or a folder."""
    language: str = AUTO
    """Language of rows that name none, such as en; ``auto`` tells it clip by clip."""
    second: str | None = None
    """Another recogniser, NAME or NAME:MODEL, whose text is kept beside the first one's: how far the two agree says how
    sure a text is."""
    again: Literal["none", "recogniser"] = "none"
    """``recogniser`` also hears rows again whose text a recogniser wrote. Texts of people, subtitles and the corpus
    always stay."""

    def run(self) -> Report:
        """Hear what has no text, write the table, and report."""
        folder = CorpusFolder.open(self.folder)
        # Before the folder is held: nothing is written where something is missing.
        hearing = self._hearing()
        with folder.holding():
            rows = folder.rows()
            due = [row for row in rows if self._is_due(row)]
            work = ClipWork(
                name="transcribe",
                measure_many=hearing.hear,
                settings=hearing.settings(),
                of_row=hearing.language_of,
            )
            heard = measure_clips(folder, due, work, title="Transcribing", job=self)
            # Only here is the table written: a command that is killed before leaves it as it was.
            outcome = Outcome(by=hearing.first, second=hearing.second)
            told = {row.audio: outcome.row(row, facts) for row, facts in zip(due, heard, strict=True)}
            rows = [told.get(row.audio) or outcome.keep(row) for row in rows]
            seconds = folder.write(rows)
        return Report(
            more={
                "folder": str(self.folder),
                **outcome.figures(),
                "recogniser": hearing.first.name,
                "model": hearing.first.model or "its own",
                "worth": hearing.first.worth,
                "seconds": seconds,
                "next": list(self._next()),
            }
        )

    def _is_due(self, row: ClipRow) -> bool:
        if not row.text.strip():
            return True
        # A text that came from nobody named may be a person's work, and stays.
        return self.again == "recogniser" and (row.text_by or "").startswith(BY)

    def _hearing(self) -> ClipHearing:
        """Find the recognisers and all that they need, so that nothing is missing once the work has begun."""
        plugins = Plugins()
        plugins.load_all()
        first = find_recogniser(self.recogniser, self.model, plugins, option="--recogniser")
        second = None
        if self.second is not None:
            # The first colon: a folder under Windows has one of its own.
            name, _, model = self.second.partition(":")
            second = find_recogniser(name, model or None, plugins, option="--second")
            if importlib.util.find_spec("jiwer") is None:
                raise ConfigError(f"--second compares texts by jiwer, which is not installed: {INSTALL}")
            # By what they hear with: a hub name and its folder may be the same weights.
            if (second.name, second.settings()) == (first.name, first.settings()):
                raise ConfigError(
                    f"--second {self.second} is the first recogniser itself and would always agree. Name another one, "
                    "or NAME:MODEL with another model."
                )
        hearing = ClipHearing(first=first, second=second, language=self._language(), processes=self.workers)
        if why := first.lacks(hearing.language):
            raise ConfigError(f"--language {self.language}: {why}.")
        return hearing

    def _language(self) -> str | None:
        if self.language == AUTO:
            return None
        if (code := language_code(self.language)) is None:
            raise ConfigError(f"--language {self.language} is no language code. Give one such as en or fr, or {AUTO}.")
        return code

    def _next(self) -> Iterator[str]:
        yield quoted("tts-train", "corpus", "review", self.folder)
        yield quoted("tts-train", "check", self.folder)
