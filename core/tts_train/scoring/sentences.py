"""The sentences that sources are compared on: held out, spread over languages and speakers, the same every time.

What a source was trained on is known by the ids of utterances, so that no sentence is called new that was learned.
"""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Literal, TypeAlias

from tts_train.corpus import Utterance, read_audio
from tts_train.corpus.audio.containers import AudioRejected
from tts_train.corpus.read import open_corpus
from tts_train.corpus.rows.utterance import Rejected
from tts_train.datasets.split import place, run_seed, split
from tts_train.datasets.store.shards import PreparedSet, is_prepared
from tts_train.datasets.takes import TakeSet, is_takes
from tts_train.errors import DataError
from tts_train.run.checkpoint import RunCard, is_run, open_checkpoint
from tts_train.sound import Sound

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Learned:
    """The utterances that a source's training used."""

    ids: frozenset[str]


def learned_by(source: Path) -> Learned | None:
    """Return what a run or a checkpoint of ours was trained on; None if nothing tells.

    Exports and models of others do not say, nor does a run whose prepared data are not here any more, or that is
    damaged. A run tells by the options of data that ``prepare`` wrote, ``--data.path``, ``val_share`` and ``val_path``,
    or by the texts of takes: a stage whose data have other options does not say. What it began with counts as well.
    """
    try:
        return _learned_by(source) if is_run(source) else None
    except DataError:
        return None  # opening it to speak says why


def _learned_by(source: Path) -> Learned | None:
    card = open_checkpoint(source).card
    own = _rows_learned(card)
    if own is None:
        return None
    began = card.options("model", "init_from").get("init_from")
    # What the run began with was trained, too. A base that is no run has none of these rows, and one that does not say
    # takes nothing from what the run itself says.
    before = learned_by(Path(began)) if isinstance(began, str) and is_run(Path(began)) else None
    return Learned(own | before.ids if before else own)


def _rows_learned(card: RunCard) -> frozenset[str] | None:
    """Return the rows, or the texts of takes, that a run itself was trained on; None if nothing tells."""
    data = card.options("data", "path")
    path, share = data.get("path"), data.get("val_share")
    if path and is_takes(path):
        # Held-out texts of takes as well: the model that was sampled has spoken all of them.
        return frozenset(TakeSet(path, columns=()).column("text_id"))
    # Only data that come from prepare have these; which rows are held out then follows from them and the seed alone.
    if not path or share is None or not is_prepared(path):
        return None
    rows = PreparedSet(path)
    # With a validation set of its own all rows of the path were trained on.
    share = 0.0 if data.get("val_path") else float(share)
    seed = run_seed(card.config.get("seed_everything"))  # which --data.seed follows
    train, _ = split(rows.ids, share, speakers=rows.speakers, seed=seed)
    return frozenset(rows.ids[row] for row in train)


def was_learned(row_id: str, sources: Iterable[Learned | None]) -> bool | None:
    """Tell whether any source was trained on an utterance; None if one does not say and the others were not."""
    told = [None if source is None else row_id in source.ids for source in sources]
    if True in told:
        return True
    return None if None in told else False


Split: TypeAlias = "Literal['held_out', 'learned', 'all']"

VOICE_CLIPS = 5
"""Other recordings of a speaker that stand for the voice."""
_MOST_CLIPS = 512
"""Recordings of voices that are kept in memory: a hundred speakers or so."""


@dataclass(frozen=True, kw_only=True)
class Sentence:
    """A sentence with its recording, as far as there is one."""

    name: str
    """Of its files: ``s01``, ``s02``, …"""
    id: str
    text: str
    speaker: str | None
    language: str | None
    learned: bool | None
    """Whether a source was trained on it; None if not all of them say."""
    recording: Sound | None = None
    voice: tuple[Sound, ...] = ()
    """Other recordings of the speaker."""


@dataclass(frozen=True)
class TextRow:
    """A text that can be spoken; its recording is read when it is asked for."""

    id: str
    text: str
    speaker: str | None
    language: str | None
    utterance: Utterance | None = None
    """Its recording, as far as there is one."""
    learned: bool | None = None
    """Whether a source was trained on it; None if not all of them say."""

    def recording(self) -> Sound | None:
        """Read the recording; one that cannot be used is left out, as in training."""
        if self.utterance is None:
            return None
        try:
            audio = read_audio(self.utterance.audio, start=self.utterance.start, end=self.utterance.end)
        except AudioRejected:
            return None
        return Sound(audio.samples, audio.sample_rate)


def choose_sentences(
    data: Path,
    *,
    count: int,
    which: Split,
    learned: Callable[[str], bool | None],
    language: str | None = None,
    layout: str = "auto",
    seed: int = 0,
) -> list[Sentence]:
    """Choose sentences from a corpus, or from a prepared folder, which has no recordings.

    Args:
        data: what ``prepare`` or ``fit`` reads.
        count: how many, as far as there are.
        which: ``held_out`` takes only what no source was trained on, as far as that is known; ``learned`` only what
            one is known to be trained on.
        learned: tells of an id whether a source was trained on it.
        language: language of rows that name none.
        layout: layout of the corpus.
        seed: another seed chooses others.

    Raises:
        DataError: if there is no such sentence.
    """
    rows = list(read_rows(data, learned, language=language, layout=layout))
    # By a hash of the id, so that more sentences contain the fewer ones, and added rows move none.
    ordered = spread(of_split(rows, which, data), seed=seed)
    voices = SpeakerClips(rows, seed)
    found: list[Sentence] = []
    for row in ordered:
        if len(found) == count:
            break
        recording = row.recording()
        if row.utterance is None or recording is not None:
            found.append(sentence_of(f"s{len(found) + 1:02d}", row, recording, voices))
    if not found:
        raise DataError(f"None of the recordings of {data} can be read. See why: tts-train check {data}")
    return found


def of_split(rows: Sequence[TextRow], which: Split, data: Path) -> list[TextRow]:
    """Return the rows that no source was trained on, those that one was, or all; see :func:`choose_sentences`.

    Raises:
        DataError: if there is no such row.
    """
    # Rows of which it is not known count as held out, and a warning below says so.
    fresh = list(rows) if which == "all" else [row for row in rows if bool(row.learned) == (which == "learned")]
    if not fresh and which == "learned":
        raise DataError(
            f"{data} has no sentence that a source is known to be trained on, among {len(rows)} with a text. Give the "
            "corpus or the prepared folder of the run, or --split all."
        )
    if not fresh:
        raise DataError(
            f"{data} has no sentence to speak: {len(rows)} rows with a text, all of them trained on. Give other "
            "recordings, or --split all to hear what was learned."
        )
    if any(row.learned is None for row in fresh):
        _log.warning("Not every source says what it was trained on: these sentences may have been learned.")
    return fresh


def sentence_of(name: str, row: TextRow, recording: Sound | None, voices: SpeakerClips) -> Sentence:
    """Return a row as it is measured: with its recording and others of its speaker."""
    return Sentence(
        name=name,
        id=row.id,
        text=row.text,
        speaker=row.speaker,
        language=row.language,
        learned=row.learned,
        recording=recording,
        voice=voices.of(row),
    )


class SpeakerClips:
    """Recordings of each speaker, read when they are asked for.

    Args:
        rows: Rows, with recordings or without.
        seed: Of the order in which recordings are taken.
    """

    def __init__(self, rows: Sequence[TextRow], seed: int) -> None:
        self._rows: dict[str | None, list[TextRow]] = defaultdict(list)
        self._sounds: OrderedDict[str, Sound | None] = OrderedDict()
        # In another order than the sentences: otherwise those that are spoken would be the recordings of the voice.
        for row in sorted(rows, key=lambda row: place(row.id, seed=seed + 1)):
            if row.utterance is not None:
                self._rows[row.speaker].append(row)

    def of(self, row: TextRow) -> tuple[Sound, ...]:
        """Return recordings of the speaker of ``row``, without its own."""
        others = [other for other in self._rows[row.speaker] if other.id != row.id][:VOICE_CLIPS]
        return tuple(sound for other in others if (sound := self._sound(other)) is not None)

    def _sound(self, row: TextRow) -> Sound | None:
        if row.id not in self._sounds:
            self._sounds[row.id] = row.recording()
            # The oldest goes: texts come speaker by speaker, or in turns among a few.
            if len(self._sounds) > _MOST_CLIPS:
                self._sounds.popitem(last=False)
        return self._sounds[row.id]


def read_rows(
    data: Path,
    learned: Callable[[str], bool | None],
    *,
    language: str | None = None,
    layout: str = "auto",
    left_out: Counter[str] | None = None,
) -> Iterator[TextRow]:
    """Yield the rows with a text of a corpus or a prepared folder.

    Args:
        data: What ``prepare`` or ``fit`` reads.
        learned: Tells of an id whether a source was trained on it.
        language: Language of rows that name none.
        layout: Layout of the corpus.
        left_out: Counts the other rows, by reason.
    """
    without: Counter[str] = Counter() if left_out is None else left_out
    if is_prepared(data):
        # The columns that are used here, without the features, which are most of a set.
        prepared = PreparedSet(data, columns=("id", "text", "speaker", "language"))
        # Nothing to compare with is worth saying before models are loaded.
        _log.warning("%s holds no recordings, so nothing is compared with them. Give the corpus.", data)
        for number in range(len(prepared)):
            row = prepared.row(number)
            own = row.get("language") or language
            if row.get("text"):
                yield TextRow(row["id"], row["text"], row.get("speaker"), own, None, learned(row["id"]))
            else:
                without["empty_text"] += 1
        return
    for one in open_corpus(data, layout=layout).rows():
        if isinstance(one, Utterance):
            yield TextRow(one.id, one.text, one.speaker, one.language or language, one, learned(one.id))
        else:
            without[one.reason if isinstance(one, Rejected) else "no text"] += 1


def spread(rows: Sequence[TextRow], *, seed: int) -> list[TextRow]:
    """Take turns between languages, and between the speakers of each, in an order that the ids decide."""
    languages: dict[str | None, dict[str | None, list[TextRow]]] = defaultdict(lambda: defaultdict(list))
    for row in sorted(rows, key=lambda row: place(row.id, seed=seed)):
        languages[row.language][row.speaker].append(row)
    return _in_turns([_in_turns(list(speakers.values())) for speakers in languages.values()])


def _in_turns(groups: Sequence[Sequence[TextRow]]) -> list[TextRow]:
    return [row for turn in zip_longest(*groups) for row in turn if row is not None]
