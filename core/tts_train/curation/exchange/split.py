"""``corpus split``: which rows are trained on and which are held out, so that nothing of a part is heard in another."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace as with_values
from logging import getLogger
from pathlib import Path
from typing import ClassVar, Literal, TypeAlias

from tts_train.contract.reports import Report
from tts_train.curation.exchange.near import Groups, share_recordings, share_texts
from tts_train.curation.folder import CorpusFolder
from tts_train.curation.job import CorpusVerb
from tts_train.curation.row import ClipRow
from tts_train.datasets.split import place
from tts_train.errors import ConfigError, DataError, quoted

_log = getLogger(__name__)
By: TypeAlias = Literal["speaker", "recording", "none"]
TRAIN, VALIDATION, TEST = "train", "validation", "test"
BY, _HERE = "split_by", "corpus split"
"""Fact of a row whose part was chosen here; parts without it came with the corpus."""
_LENGTHS = (3.0, 7.0)
"""Seconds between short, middling and long clips: each part gets its share of all three."""
_BLOCK_SECONDS = 60.0
"""Stretch of a recording that is held out as one where whole recordings are too long to be held out."""
_TOO_LARGE = 1.5
"""How many times the wanted seconds a group may have and still be held out."""
_WHOLE, _SPEAKER, _LENGTH = 2.0, 1.0, 1.0
"""Weights of what a part should have its share of: seconds, seconds of each speaker, seconds of each length."""


@dataclass(kw_only=True)
class CorpusSplit(CorpusVerb):
    """Hold rows out for validation and test: whole recordings or speakers, with texts that are nearly the same.

    The rows say their part, prepare reads those that are trained on, and validation.jsonl and test.jsonl name the
    others. The same folder, shares and seed give the same parts.
    """

    positional: ClassVar[str] = "folder"
    positional_help: ClassVar[str] = "corpus folder"

    folder: Path
    """The corpus folder."""
    validation: float = 0.02
    """Share of the seconds (0 to below 1) to validate on while training."""
    test: float = 0.0
    """Share of the seconds (0 to below 1) to compare models on afterwards."""
    by: By = "recording"
    """What stays in one part: a speaker (who is then heard in no other), a recording, or ``none``: clip by clip."""
    texts: Literal["near", "same", "any"] = "near"
    """Which texts stay in one part: those that differ in one word at most, those that are the same, or none
    (``any``)."""
    seed: int = 0
    """Another number holds other rows out."""
    replace: bool = False
    """Choose anew where rows came with parts. A model that others trained on this set has seen its own train rows."""

    def run(self) -> Report:
        """Choose the parts, write them into the rows, and report."""
        shares = self._shares()
        folder = CorpusFolder.open(self.folder)
        with folder.holding():
            rows = folder.rows()
            self._require_own(rows)
            groups, block = self._groups(rows, shares)
            parts = _choose(rows, groups, shares, seed=self.seed, keep_speakers=self.by != "speaker")
            found = [_placed(row, part) for row, part in zip(rows, parts, strict=True)]
            for part in shares:
                if part not in parts:
                    raise DataError(self._nothing(part, groups))
            folder.write(found)
        return self._report(found, shares, groups, block)

    def _shares(self) -> dict[str, float]:
        shares = {TEST: self.test, VALIDATION: self.validation}
        for part, share in shares.items():
            if not 0 <= share < 1:
                raise ConfigError(f"--{part} {share} is no share of the rows: give 0 to below 1, such as 0.02.")
        if sum(shares.values()) >= 1:
            raise ConfigError(f"--validation {self.validation} and --test {self.test} leave nothing to train on.")
        return {part: share for part, share in shares.items() if share}

    def _require_own(self, rows: Sequence[ClipRow]) -> None:
        came = Counter(row.split for row in rows if row.split and row.facts.get(BY) != _HERE)
        if came and not self.replace:
            told = ", ".join(f"{part}: {count}" for part, count in came.most_common())
            raise ConfigError(
                f"The rows of {self.folder} came with parts ({told}), and stay as they are. To choose anew, add "
                "--replace true."
            )

    def _groups(self, rows: Sequence[ClipRow], shares: Mapping[str, float]) -> tuple[list[list[int]], float | None]:
        """Return the rows that stay together, and the seconds of a stretch where recordings had to be cut into some."""
        groups = self._joined(rows, None)
        if self.by != "recording" or not shares:
            return groups, None
        wanted = min(shares.values()) * sum(row.seconds for row in rows)
        cut = [group for group in groups if any(rows[item].cut for item in group)]
        smallest = min((_seconds(rows, group) for group in groups), default=0.0)
        # One long interview, held out, would leave nothing: stretches of it are, whose neighbours are few.
        if not cut or smallest <= _TOO_LARGE * wanted:
            return groups, None
        return self._joined(rows, _BLOCK_SECONDS), _BLOCK_SECONDS

    def _joined(self, rows: Sequence[ClipRow], block: float | None) -> list[list[int]]:
        groups = Groups(len(rows))
        if self.texts != "any":
            share_texts(groups, (row.text for row in rows), near=self.texts == "near")
        if self.by == "recording":
            share_recordings(groups, rows, block=block)
        if self.by == "speaker":
            for item, row in enumerate(rows):
                if row.speaker is None:
                    raise DataError(
                        f"{row.audio} names no speaker, and --by speaker keeps each in one part. Name them with: "
                        f"{quoted('tts-train', 'corpus', 'speakers', self.folder)}"
                    )
                groups.share(item, ("speaker", row.speaker))
        return groups.found()

    def _nothing(self, part: str, groups: Sequence[Sequence[int]]) -> str:
        largest = max(map(len, groups), default=0)
        looser = {"speaker": "--by recording", "recording": "--by none"}.get(self.by)
        # Prompts such as "You have two messages" hang together by one word, all of them.
        wider = {"near": "--texts same", "same": "--texts any"}.get(self.texts)
        advice = ", or ".join(filter(None, ("Give a larger share", looser, wider)))
        return (
            f"Nothing of {self.folder} can be held out as {part}: {len(groups)} groups of rows stay together, the "
            f"largest with {largest} rows, and each is too large, or the last of its speaker. {advice}. No row was "
            "changed."
        )

    def _report(
        self, rows: Sequence[ClipRow], shares: Mapping[str, float], groups: Sequence[Sequence[int]], block: float | None
    ) -> Report:
        seconds: dict[str, float] = defaultdict(float)
        for row in rows:
            seconds[row.split or TRAIN] += row.seconds
        total = sum(seconds.values())
        if block:
            _log.warning(
                "Whole recordings are too long to be held out, so stretches of %g s of them are. More recordings would "
                "keep neighbours apart.",
                block,
            )
        counts = Counter(row.split or TRAIN for row in rows)
        return Report(
            more={
                "folder": str(self.folder),
                "rows_in": len(rows),
                "rows": len(rows),
                "parts": {part: counts[part] for part in (TRAIN, VALIDATION, TEST) if counts[part]},
                "seconds": {part: round(seconds[part], 3) for part in (TRAIN, VALIDATION, TEST) if counts[part]},
                "shares": {part: round(seconds[part] / max(total, 1e-9), 4) for part in shares},
                "by": self.by,
                "groups": len(groups),
                **({"stretches_of": block} if block else {}),
                "next": self._next(shares),
            }
        )

    def _next(self, shares: Mapping[str, float]) -> list[str]:
        held = [
            quoted("tts-train", "check", self.folder / f"{part}.jsonl") for part in (VALIDATION, TEST) if part in shares
        ]
        return [quoted("tts-train", "check", self.folder), *held]


def _placed(row: ClipRow, part: str) -> ClipRow:
    return with_values(row, split=part, facts={**row.facts, BY: _HERE})


def _seconds(rows: Sequence[ClipRow], group: Sequence[int]) -> float:
    return sum(rows[item].seconds for item in group)


def _choose(
    rows: Sequence[ClipRow],
    groups: Sequence[Sequence[int]],
    shares: Mapping[str, float],
    *,
    seed: int,
    keep_speakers: bool,
) -> list[str]:
    """Return the part of each row.

    Groups come in an order by the hash of their first clip; one is held out if that brings the part nearer to its
    share of all seconds, of each speaker's and of each length's.

    Args:
        rows: all of them.
        groups: rows that stay together.
        shares: wanted share of seconds by part.
        seed: another gives another order.
        keep_speakers: hold no speaker's last group out.
    """
    parts = [TRAIN] * len(rows)
    totals: dict[str, float] = defaultdict(float)
    for row in rows:
        for what, value in _counts(row):
            totals[what] += value
    # Groups of each speaker that are still trained on.
    left: Counter[str | None] = Counter()
    for group in groups:
        left.update({rows[item].speaker for item in group})
    # By a hash of the name: rows that are added later change the parts of few others.
    order = sorted(groups, key=lambda group: place(min(rows[item].audio for item in group), seed=seed))
    # Test first: of what is scarce, the part that models are compared on gets its share.
    for part, share in shares.items():
        short = {what: total * share for what, total in totals.items()}
        for group in order:
            speakers = {rows[item].speaker for item in group}
            if parts[group[0]] != TRAIN or (keep_speakers and any(left[speaker] < 2 for speaker in speakers)):
                continue
            # One pass in a fixed order: what was passed over is not asked again, so the choice is stable.
            gain = _gains(rows, group, short)
            if gain is None:
                continue
            for what, value in gain.items():
                short[what] -= value
            left.subtract(speakers)
            for item in group:
                parts[item] = part
    return parts


def _gains(rows: Sequence[ClipRow], group: Sequence[int], short: Mapping[str, float]) -> dict[str, float] | None:
    """Return the seconds that a group brings of everything, if the part is nearer to its share with it; else None."""
    brings: dict[str, float] = defaultdict(float)
    for item in group:
        for what, value in _counts(rows[item]):
            brings[what] += value
    nearer = sum(_weight(what) * (abs(short[what]) - abs(short[what] - value)) for what, value in brings.items())
    # However well it fits otherwise, a part must not become much larger than was asked for.
    fits = brings["all"] <= _TOO_LARGE * short["all"]
    return brings if nearer > 0 and fits else None


def _counts(row: ClipRow) -> Iterator[tuple[str, float]]:
    yield "all", row.seconds
    yield f"speaker {row.speaker or ''}", row.seconds
    yield f"length {sum(row.seconds > edge for edge in _LENGTHS)}", row.seconds


def _weight(what: str) -> float:
    return _WHOLE if what == "all" else _SPEAKER if what.startswith("speaker") else _LENGTH
