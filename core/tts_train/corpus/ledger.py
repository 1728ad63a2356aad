"""The account of a corpus: every row ends exactly once, as kept or as dropped for a reason."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import xxhash

from tts_train.corpus.reasons import REASONS, WARNINGS
from tts_train.corpus.rows.utterance import Rejected, Row, Utterance
from tts_train.disk.files import patiently
from tts_train.errors import DataError, TTSTrainError

EXAMPLES_PER_REASON = 3
_DECLARE = "a backend names its own in Backend(reasons=...), an extension with tts_train.corpus.declare_reasons"


class Ledger:
    """Counts what became of each row; workers keep ledgers of their own, which :meth:`merge` adds up.

    Asking for a report while a row is open, or settling a row twice, is a fault of ours and raises RuntimeError.
    """

    def __init__(self) -> None:
        self.kept = 0
        self.seconds = 0.0
        self.dropped: list[Rejected] = []
        self.warnings: Counter[str] = Counter()
        self.speakers: Counter[str] = Counter()
        self.languages: Counter[str] = Counter()
        self.advice: dict[str, str] = {}
        """What to type for a reason in this corpus, in place of what :data:`REASONS` says in general."""
        self._open: set[int] = set()
        self._settled: set[int] = set()

    @property
    def rows(self) -> int:
        """Rows seen, settled or still open."""
        return len(self._open) + len(self._settled)

    @property
    def unsettled(self) -> int:
        """Rows seen whose end is not known yet."""
        return len(self._open)

    def begin(self, row: Row) -> None:
        """Open the account of a row; a rejected one is settled at once."""
        if isinstance(row, Rejected):
            self.drop(row.origin, row.reason, row.detail)
            return
        # Numbers, not strings: a corpus of ten million rows would fill gigabytes with their origins.
        key = _key(row.origin)
        if key in self._open or key in self._settled:
            raise RuntimeError(f"row {row.origin} was read twice")
        self._open.add(key)

    def keep(
        self,
        row: Row | str,
        *,
        seconds: float = 0.0,
        speaker: str | None = None,
        language: str | None = None,
        warnings: Iterable[str] = (),
    ) -> None:
        """Settle a row (or the row of that origin) as used; ``seconds`` is the length of its audio.

        An utterance brings its own speaker, language and warnings; what is given here is added to them.
        """
        origin = row if isinstance(row, str) else row.origin
        self._settle(origin)
        if isinstance(row, Utterance):
            speaker, language = speaker or row.speaker, language or row.language
            # Each once: a warning that the row brings may be given again.
            warnings = dict.fromkeys((*row.warnings, *warnings))
        self.kept += 1
        self.seconds += seconds
        self.speakers.update([speaker] if speaker else [])
        self.languages.update([language] if language else [])
        self.warn(*warnings)

    def drop(self, row: Row | str, reason: str, detail: str = "") -> None:
        """Settle a row (or the row of that origin) as not used."""
        if reason not in REASONS:
            raise TTSTrainError(f"{reason!r} is no drop reason; {_DECLARE}")
        origin = row if isinstance(row, str) else row.origin
        self._settle(origin)
        self.dropped.append(Rejected(origin, reason, detail))

    def drop_deadly(self, row: Row) -> None:
        """Settle a row whose recording kills the process that reads it."""
        self.drop(row, "decode_crash", "the process that read it died")

    def warn(self, *kinds: str, count: int = 1) -> None:
        """Count something odd that did not cost the row."""
        for kind in kinds:
            if kind not in WARNINGS:
                raise TTSTrainError(f"{kind!r} is no warning; {_DECLARE}")
            self.warnings[kind] += count

    def merge(self, other: Ledger) -> None:
        """Add another ledger's rows; rows open here that the other one settled are settled."""
        # Two workers with the same row would count it twice without a word.
        if self._settled & (other._settled | other._open):
            raise RuntimeError("two ledgers settle the same row")
        self._settled |= other._settled
        self._open = (self._open | other._open) - self._settled
        self.kept += other.kept
        self.seconds += other.seconds
        self.dropped += other.dropped
        for mine, theirs in zip(self._counters(), other._counters(), strict=True):
            mine.update(theirs)

    def report(self) -> dict[str, Any]:
        """Return rows, kept, dropped by reason, hours, and kept rows by speaker and by language, in plain types."""
        if self._open or self.rows != self.kept + len(self.dropped):
            raise RuntimeError(f"{self.rows} rows, but {self.kept} kept and {len(self.dropped)} dropped")
        return {
            "rows": self.rows,
            "kept": self.kept,
            "dropped": _ranked(Counter(row.reason for row in self.dropped)),
            "hours": round(self.seconds / 3600, 6),
            "speakers": _ranked(self.speakers),
            "languages": _ranked(self.languages),
            "warnings": _ranked(self.warnings),
        }

    def enforce(self, max_dropped: float, *, asked: Collection[str] = ()) -> None:
        """Stop if more than the share ``max_dropped`` (0 to 1) of the rows was dropped, or none is left.

        Args:
            max_dropped: share that may be dropped.
            asked: reasons by which the user asked to drop rows; those rows are not counted.

        Raises:
            DataError: naming the reasons, their counts, the first rows of each and what to do.
        """
        if not 0 <= max_dropped <= 1:
            raise DataError(f"--max_dropped is a share from 0 to 1, not {max_dropped}.")
        if not self.rows:
            raise no_rows()
        # Of all rows, those of earlier runs among them: a shard that is used again brings its account along.
        share = sum(row.reason not in asked for row in self.dropped) / self.rows
        if self.kept and share <= max_dropped:
            return
        allowed = f"at most {max_dropped:.1%} may be" if self.kept else "none is left"
        advice = f"Mend the rows, or allow it with --max_dropped {_round_up(share)}." if self.kept else "Mend the rows."
        lines = "\n".join(self._reason_lines())
        raise DataError(
            f"{len(self.dropped)} of {self.rows} rows were dropped ({share:.1%}); {allowed}.\n{lines}\n{advice}"
        )

    def write_dropped(self, path: Path) -> None:
        """Write one JSON object a dropped row: origin, reason, detail. The file is whole or not there."""
        temporary = path.with_name(f".{path.name}.tmp")
        try:
            with temporary.open("w", encoding="utf-8") as file:
                for row in self.dropped:
                    # ASCII escapes carry file names whose bytes are no valid text.
                    file.write(json.dumps({"origin": row.origin, "reason": row.reason, "detail": row.detail}) + "\n")
            patiently(lambda: temporary.replace(path))
        finally:
            temporary.unlink(missing_ok=True)

    def state(self) -> dict[str, Any]:
        """Return everything in plain types, for :meth:`from_state`: to send, or to store with finished work."""
        return {
            "kept": self.kept,
            "seconds": self.seconds,
            "dropped": [[row.origin, row.reason, row.detail] for row in self.dropped],
            "counters": [dict(counter) for counter in self._counters()],
            # Sorted: a shard keeps this account, and the same rows should make the same file.
            "open": sorted(self._open),
            "settled": sorted(self._settled),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Ledger:
        """Rebuild a ledger from :meth:`state`."""
        ledger = cls()
        ledger.kept, ledger.seconds = state["kept"], state["seconds"]
        ledger.dropped = [Rejected(*row) for row in state["dropped"]]
        for counter, counts in zip(ledger._counters(), state["counters"], strict=True):
            counter.update(counts)
        ledger._open, ledger._settled = set(state["open"]), set(state["settled"])
        return ledger

    def _settle(self, origin: str) -> None:
        key = _key(origin)
        if key in self._settled:
            raise RuntimeError(f"row {origin} was settled twice")
        self._open.discard(key)
        self._settled.add(key)

    def _counters(self) -> tuple[Counter[str], Counter[str], Counter[str]]:
        return self.warnings, self.speakers, self.languages

    def _reason_lines(self) -> Iterator[str]:
        for reason, count in _ranked(Counter(row.reason for row in self.dropped)).items():
            examples = [row for row in self.dropped if row.reason == reason][:EXAMPLES_PER_REASON]
            where = "; ".join(f"{row.origin} ({row.detail})" if row.detail else row.origin for row in examples)
            # A shard that is used again may hold a reason of a module that this process did not import.
            advice = self.advice.get(reason) or REASONS.get(reason, "See the rows.")
            yield f"  {reason}: {count}. {advice} First: {_printable(where)}"


def no_rows() -> DataError:
    """Return the error of a corpus without rows."""
    return DataError("The corpus has no rows. Check the path, or name its layout with --corpus_format.")


def _key(origin: str) -> int:
    """A number for an origin that is the same in every process, and far smaller than the string."""
    # surrogateescape: the origin may hold a file name whose bytes are no text.
    return xxhash.xxh3_64_intdigest(origin.encode("utf-8", "surrogateescape"))


def _ranked(counter: Counter[str]) -> dict[str, int]:
    return dict(sorted(counter.items(), key=lambda item: (-item[1], item[0])))


def _round_up(share: float) -> float:
    # Up to the next percent: with a rounded share the same rows would be refused again.
    return min(1.0, int(share * 100 + 1) / 100)


def _printable(text: str) -> str:
    """File names may hold line breaks and escape sequences that would reach the terminal."""
    with suppress(UnicodeEncodeError):
        text.encode()
        if text.isprintable():
            return text
    return text.encode("unicode_escape", "surrogatepass").decode("ascii")
