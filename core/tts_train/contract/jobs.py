"""The jobs besides training that a backend offers: prepare, synth, and one for each export format.

A job is a dataclass: its fields become command-line options (the string under a field is its help text) and
``run`` does the work. Modules that define jobs import torch inside ``run`` only, so that ``--help`` stays fast.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tts_train.contract.reports import ExportReport, Report, SynthReport
from tts_train.disk.apart import require_apart, require_not_read
from tts_train.disk.place import check_place, may_sign, staged_folder
from tts_train.disk.provenance import Provenance
from tts_train.errors import ConfigError, DataError

# jsonargparse imports this block, too, to read the types of options: nothing in it may load torch.
if TYPE_CHECKING:
    from tts_train.corpus.audio.read import RowReader
    from tts_train.corpus.read import Corpus
    from tts_train.disk.sound_files import Samples
    from tts_train.sound import Sound


# kw_only, in every job: a backend may add options without a default to a base class whose options have one.
@dataclass(kw_only=True)
class Job(ABC):
    """Something a command does: options as fields, work in :meth:`run`."""

    @abstractmethod
    def run(self) -> Report:
        """Do the work and report it in plain types. Progress goes to stderr.

        Raises:
            TTSTrainError: with a message for the user and an exit code.
        """

    def check_places(self) -> None:  # noqa: B027 - a job may have nothing to refuse
        """Refuse outputs that would be read again as input; commands ask before :meth:`run`.

        Raises:
            ConfigError: with a place that can be used.
        """


@dataclass(kw_only=True)
class PrepareJob(Job):
    """Turn recordings and text into training features."""

    corpus: Path
    """Recordings with text: a folder, a metadata file, a .list, a .jsonl, Parquet, or a hub data set."""
    out: Path
    """Folder for the prepared set; running the same command again continues or reuses it."""
    corpus_format: str = "auto"
    """Layout of the corpus; ``auto`` detects it. Or what columns mean, as in ``audio|speaker|text``."""
    workers: int = 0
    """Processes that read and encode audio; 0 works in this process, which a file that kills its decoder ends. With 1
    or more such a file is dropped by name."""
    max_dropped: float = 0.05
    """Share of rows (0 to 1) that may be dropped before the command stops with exit code 2."""

    def reader(self, corpus: Corpus) -> RowReader | None:
        """Return how this job reads a row before its networks are asked, and by which limits it refuses one.

        ``tts-train check --backend`` asks this, so that it drops what ``prepare`` drops; None: only what every backend
        refuses is refused beforehand.
        """
        del corpus
        return None

    def fit_options(self) -> Sequence[str]:
        """Return the options that ``fit`` needs besides ``--data.path``, as in ``["--model.init_from", "tiny"]``.

        They stand in the next command that ``prepare`` prints, for what a set was made for and recipes do not name.
        """
        return ()

    def outputs(self) -> Mapping[str, Path]:
        """Return what is written, by option."""
        return {"--out": self.out}

    def check_places(self) -> None:
        """Refuse outputs that are the corpus, lie in it or hold it."""
        # What prepare writes into the corpus would be read as rows by the next prepare.
        for option, path in self.outputs().items():
            require_apart(self.corpus, path, given="--corpus", option=option)


@dataclass(kw_only=True)
class ExportJob(Job):
    """Write a trained model in a format that other tools load, then load it back and compare."""

    source: Path
    """Run directory or checkpoint to export."""
    out: Path
    """Where the files go."""

    @abstractmethod
    def run(self) -> ExportReport:
        """Write the files, read them back, compare, and report it.

        Raises:
            TTSTrainError: with a message for the user and an exit code.
        """

    def check_places(self) -> None:
        """Refuse to write over the source, or among the checkpoints that it is read from."""
        require_not_read(self, self.out)
        # Elsewhere in the run directory an export may lie: its own card is read before the run's (see read_provenance).
        checkpoints = self.source / "checkpoints"
        if checkpoints.is_dir():
            require_apart(checkpoints, self.out, given="the checkpoints in")

    @property
    def run_name(self) -> str:
        """The name of the run directory that is exported."""
        # Resolved: from inside the run, ``.`` or ``step-000400`` does not say its name.
        path = self.source.resolve()
        return path.parent.parent.name if path.parent.name == "checkpoints" else path.name

    def require_folder(self) -> None:
        """Refuse an ``out`` that :meth:`folder` cannot replace; called before anything is loaded.

        Raises:
            ConfigError: with what is in the way.
        """
        check_place(self.out)

    @contextmanager
    def folder(self, made_by: Provenance) -> Iterator[Path]:
        """Yield an empty folder that takes the name ``out`` if the block ends well, and vanishes if it does not.

        Args:
            made_by: written into it, so that ``synth`` knows it; see ``Checkpoint.provenance``.

        Raises:
            ConfigError: see :meth:`require_folder`.
            DiskError: if it cannot be written.
        """
        self.require_folder()
        with staged_folder(self.out) as folder:
            yield folder
            made_by.write(folder)

    def file(self, name: str) -> ExportedFile:
        """Return where the file ``name`` goes: ``out`` itself if it has the same suffix, else into the folder ``out``.

        A folder with files of other tools gets the file and nothing else.

        Raises:
            ConfigError: if ``out`` is a file of another kind.
        """
        if self.out.suffix == Path(name).suffix:
            return ExportedFile(path=self.out, folder=None)
        if self.out.exists() and not self.out.is_dir():
            raise ConfigError(f"--out {self.out} is a file. Give a folder, or a name that ends in {Path(name).suffix}.")
        return ExportedFile(path=self.out / name, folder=self.out if may_sign(self.out) else None)


@dataclass(frozen=True, kw_only=True)
class ExportedFile:
    """One file of an export: named by the user, or by the job in a folder that the user named."""

    path: Path
    folder: Path | None
    """The folder of which the export may say what it is; None where the user named the file."""

    def sign(self, made_by: Provenance) -> None:
        """Say beside the file what made it, so that ``synth`` knows it."""
        if self.folder is not None:
            made_by.write(self.folder)


@dataclass(frozen=True, kw_only=True)
class Line:
    """One of many sentences to speak with one model."""

    text: str
    out: Path
    """Sound file to write."""
    seed: int = 0
    speaker: str | None = None
    """Who says it in the recordings."""
    language: str | None = None
    """Its language, as the corpus names it."""


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """One take of a line as the model drew it, with what a stage that learns from takes must know of it."""

    sound: Sound | None = None
    """What it sounds like; None where nothing was drawn that could be decoded."""
    frames: Sequence[int] = ()
    """One number for each frame of the sound, in order; equal numbers sound alike. Repetitions are counted in it."""
    ended: bool = False
    """Whether the model ended it; False where it was cut off."""
    columns: Mapping[str, Any] = field(default_factory=dict)
    """What it was drawn from, and what was drawn, by the names in :meth:`SynthJob.drawn_columns`."""
    error: str | None = None
    """Why there is no sound, or why what was drawn is never to be preferred although there is one."""


_Synth = TypeVar("_Synth", bound="SynthJob")


@dataclass(kw_only=True)
class SynthJob(Job):
    """Speak a text with a trained model."""

    source: Path
    """Run directory, checkpoint or exported model to speak with."""
    text: str
    """What to say."""
    out: Path
    """Sound file to write: .wav, .flac, .mp3, .ogg or .opus, as its ending says."""
    speaker: str | None = None
    """Voice name as it stands in the training data; none for single-voice models."""
    seed: int = 0
    """Seed of the sampling; the same seed gives the same sound on the same machine."""
    max_new_tokens: int = 1200
    """Most tokens to generate."""

    @abstractmethod
    def run(self) -> SynthReport:
        """Speak the text, write the file, and report it.

        Raises:
            DataError: if the text gives no sound; nothing is written then.
        """

    def check_places(self) -> None:
        """Refuse to write over the model or the recording that is read."""
        require_not_read(self, self.out)

    def of(self: _Synth, line: Line) -> _Synth:
        """Return the job that speaks a line. A job whose models take names or languages passes those on, too."""
        return replace(self, text=line.text, out=line.out, seed=line.seed)

    def write(self, sound: Samples, *, sample_rate: int, out: Path | None = None) -> None:
        """Write what was spoken as 16-bit mono, in the format that the file's ending says.

        Args:
            sound: samples (N,), full scale 1; what is beyond it is cut there.
            sample_rate: samples a second.
            out: the file; None is the job's own.

        Raises:
            DiskError: if it cannot be written.
        """
        from tts_train.disk.sound_files import write_sound

        write_sound(out or self.out, sound, sample_rate=sample_rate)

    def try_open(self, lines: Sequence[Line]) -> None:
        """Open everything that speaking these lines needs, then let go of it: weights, codec, tokenizer, libraries.

        ``tts-train eval`` asks every source before the first of them speaks.

        Raises:
            TTSTrainError: if something cannot be opened.
        """

    def speak_all(self, lines: Iterable[Line]) -> Iterator[SynthReport]:
        """Speak many lines and report each as :meth:`run` does; with ``error`` for one that gave no sound.

        Here every line loads the model anew; a job that can keep it overrides this.
        """
        for line in lines:
            try:
                yield self.of(line).run()
            except DataError as error:
                yield SynthReport(error=str(error))

    def round_trip(self, recordings: Iterable[tuple[Path, Line]]) -> bool:
        """Encode each recording as for training, decode it, and write it as WAV where its line says.

        No model of this stage can sound better. Returns False, having written nothing, if there is no codec between.
        """
        del recordings
        return False

    def draw(self, lines: Iterable[Line]) -> Iterator[Drawn]:
        """Say each line as one utterance, as training knows them, and keep what was drawn; nothing is written.

        ``tts-train sample`` asks this for one part of a set after another, so what is opened for the first is kept, and
        writes what comes. A line that cannot be said gives a take with ``error``. Takes of the same line and seed are
        the same, whatever is drawn beside them.

        Raises:
            ConfigError: if this job keeps nothing of what it draws.
        """
        del lines
        raise ConfigError(f"Takes of {self.source} cannot be kept: its stage has nothing that learns from them.")

    def drawn_columns(self) -> Mapping[str, str]:
        """Return the columns of :attr:`Drawn.columns`, each with its type as Arrow writes it (``list<int32>``)."""
        return {}

    def known(self) -> Mapping[str, Any]:
        """Return what is known of the data that the source was trained on, as ``StageData.remember`` says it."""
        return {}
