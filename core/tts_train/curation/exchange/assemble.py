"""Which of the rows that were brought stand in the table: one for each sound, and none whose texts contradict."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from tts_train.corpus.rows.text import clean_text
from tts_train.curation.exchange.bring import Brought
from tts_train.curation.exchange.sources import Piece
from tts_train.curation.folder import GONE, KEPT
from tts_train.curation.row import ClipRow

FROM = "from"
"""Fact of a row: the source and row that it came from, by which the same command knows it again."""
CONFLICT = "conflict"
"""Fact of a row that was taken out, since another row gives the same sound another text: that text."""

_RANKS = {"person": 3, "corpus": 2, "subtitles": 2}
"""Whose text stays where texts of one sound differ; a recogniser's has 1. Equal ranks: neither can be believed."""


@dataclass
class _Held:
    row: ClipRow
    own: bool
    """Whether it stood in the folder before."""


@dataclass
class Assembly:
    """Rows of a corpus folder that take in others."""

    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    """Of all rows that were brought, by fate."""
    fates: Counter[str] = field(default_factory=Counter)
    """Rows that were brought, by fate."""
    dropped: list[tuple[str, str, str, float]] = field(default_factory=list)
    """Origin, reason, detail and seconds of rows that are in no table."""
    added: int = 0
    conflicts: list[str] = field(default_factory=list)
    _kept: dict[str, _Held] = field(default_factory=dict)
    """By content."""
    _removed: list[ClipRow] = field(default_factory=list)
    _gone: dict[str, set[str]] = field(default_factory=dict)
    """Texts by content of rows that were taken out."""
    _known: dict[str, str] = field(default_factory=dict)
    """Fate by origin of the rows that stood here before."""

    def stand(self, row: ClipRow, content: str, *, removed: bool = False) -> None:
        """Take a row that stands in the folder already; what is brought later never changes its text."""
        if FROM in row.facts:
            self._known[str(row.facts[FROM])] = GONE if removed else KEPT
        if removed:
            self._put_away(row, content)
        else:
            # Two clips of one sound may stand here: a name of its own keeps the second.
            self._kept[content if content not in self._kept else f"{content} {row.audio}"] = _Held(row, own=True)

    def add(self, piece: Piece, brought: Brought) -> None:
        """Take one row in, or account for why not."""
        seconds = round(float(brought.get("seconds", 0.0)), 3)
        # In this order: what cannot be used, what stands here already, what is new.
        if "error" in brought:
            self.drop(piece.origin, brought["error"], brought.get("detail", ""), seconds)
        elif fate := self._known.get(piece.origin):
            self._count(fate, seconds)
        else:
            self._take(piece, brought, seconds)

    def drop(self, origin: str, reason: str, detail: str, seconds: float = 0.0) -> None:
        """Account for a row that stands in no table."""
        self.dropped.append((origin, reason, detail, seconds))
        self._count(reason, seconds)

    def tables(self) -> tuple[list[ClipRow], list[ClipRow]]:
        """Return the rows of ``corpus.jsonl`` and of ``removed.jsonl``."""
        return [held.row for held in self._kept.values()], self._removed

    def _take(self, piece: Piece, brought: Brought, seconds: float) -> None:
        row = _finished(piece, brought)
        content: str = brought["content"]
        held = self._kept.get(content)
        # Taken out once is taken out: a source that still has the row does not bring it back.
        if held is None and clean_text(row.text)[0] in self._gone.get(content, ()):
            self.drop(piece.origin, "duplicate", "the same sound was taken out of this corpus", seconds)
        elif held is None and content in self._gone:
            self._put_away(row, content)
            self._count(GONE, seconds)
        elif piece.removed:
            self._take_removed(piece, row, content, held, seconds)
        elif held is None:
            self._kept[content] = _Held(row, own=False)
            self.added += 1
            self._count(KEPT, seconds)
        elif _same_text(held.row, row):
            # The row that stands stays, with what it left open filled in: a text, a name.
            self._kept[content] = replace(held, row=_completed(held.row, row))
            self.drop(piece.origin, "duplicate", f"the same sound as {_origin(held.row)}", seconds)
        else:
            self._settle_conflict(content, held, row, seconds)

    def _take_removed(self, piece: Piece, row: ClipRow, content: str, held: _Held | None, seconds: float) -> None:
        if held is not None:
            self.drop(
                piece.origin, "duplicate", f"taken out of its corpus, and another has it: {held.row.audio}", seconds
            )
            return
        self._put_away(row, content)
        self._count(GONE, seconds)

    def _settle_conflict(self, content: str, held: _Held, row: ClipRow, seconds: float) -> None:
        """Keep the text that outranks the other; neither where both rank alike, as readers of a corpus do."""
        self.conflicts.append(f"{_origin(held.row)} and {row.facts[FROM]}")
        mine, theirs = _rank(held.row), _rank(row)
        # What stands here may have been typed since the first merge; a source never overrules it.
        if held.own or mine > theirs:
            self._put_away(row, content, held.row.text)
            self._count(GONE, seconds)
            return
        self._put_away(held.row, content, row.text)
        # It was counted when it came; each second has one fate.
        self._count(KEPT, -held.row.seconds, rows=-1)
        self._count(GONE, held.row.seconds)
        # The better text takes the place of the other, and its row all that belongs to it.
        if theirs > mine:
            self._kept[content] = _Held(row, own=False)
            self._count(KEPT, seconds)
            return
        # Neither can be believed, as readers of a corpus hold it: which is right, a person hears.
        del self._kept[content]
        self.added -= 1
        self._put_away(row, content, held.row.text)
        self._count(GONE, seconds)

    def _put_away(self, row: ClipRow, content: str, other: str | None = None) -> None:
        self._removed.append(row if other is None else replace(row, facts={**row.facts, CONFLICT: other}))
        self._gone.setdefault(content, set()).add(clean_text(row.text)[0])

    def _count(self, fate: str, seconds: float, *, rows: int = 1) -> None:
        self.seconds[fate] += seconds
        self.fates[fate] += rows


def once(rows: Iterable[ClipRow]) -> tuple[list[ClipRow], dict[str, str]]:
    """Give rows of one clip a clip each: a table has one row for a clip.

    Returns:
        The rows, and the file to copy by the name of its copy.
    """
    found: list[ClipRow] = []
    copies: dict[str, str] = {}
    taken: set[str] = set()
    for row in rows:
        name, number = row.audio, 2
        stem, dot, suffix = row.audio.rpartition(".")
        while name in taken:
            name, number = f"{stem}-{number}{dot}{suffix}", number + 1
        if name != row.audio:
            copies[name] = row.audio
        taken.add(name)
        found.append(replace(row, audio=name))
    return found, copies


def _finished(piece: Piece, brought: Brought) -> ClipRow:
    row = piece.row
    seconds = round(float(brought["seconds"]), 3)
    cut = row.cut
    # The source gave no end, so that of its recording is it.
    if cut is not None and piece.end is None and piece.start is not None:
        cut = replace(cut, end=round(cut.start + seconds, 3))
    facts = {**row.facts, FROM: piece.origin}
    found = replace(row, audio=brought["audio"], seconds=seconds, cut=cut, facts=facts)
    return replace(found, reference=brought.get("reference"))


def _same_text(one: ClipRow, other: ClipRow) -> bool:
    # Cleaned, as every reader does it: a double blank is no contradiction. A row without a text contradicts none.
    first, second = clean_text(one.text)[0], clean_text(other.text)[0]
    return not first or not second or first == second


def _completed(row: ClipRow, other: ClipRow) -> ClipRow:
    """What one row leaves open, another row of the same sound may say."""
    if not row.text and other.text:
        row = replace(row, text=other.text, text_by=other.text_by, confidence=other.confidence)
    return replace(
        row,
        speaker=row.speaker or other.speaker,
        language=row.language or other.language,
        cut=row.cut or other.cut,
        split=row.split or other.split,
        instruct=row.instruct or other.instruct,
        reference=row.reference or other.reference,
        audio_codes=row.audio_codes or other.audio_codes,
    )


def _origin(row: ClipRow) -> str:
    return str(row.facts.get(FROM, row.audio))


def _rank(row: ClipRow) -> int:
    return _RANKS.get(row.text_by or "", 1)
