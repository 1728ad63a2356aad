"""``corpus speakers``: whose voice each clip is, told by its sound."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from logging import getLogger
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from tts_train.contract.reports import Report
from tts_train.curation.folder import CorpusFolder
from tts_train.curation.job import CorpusJob, Facts, measure_clips
from tts_train.curation.row import ClipRow
from tts_train.curation.speakers.grouping import NOBODY, Voices, find_voices, likeness, typical
from tts_train.curation.speakers.names import (
    BY,
    CLUSTER,
    FROM_CLUSTER,
    LIKENESS,
    OTHER,
    TABLE,
    Voice,
    cluster_of,
    is_given,
    name_clusters,
    read_names,
    renamed,
    write_table,
)
from tts_train.curation.speakers.voices import RESEMBLYZER, SPEECH, VECTOR, Embedding, choose_embedding
from tts_train.errors import ConfigError, DataError, quoted

_log = getLogger(__name__)
_TOLD = 20
"""Outliers that the report lists; all have their facts in the table of rows."""


@dataclass(kw_only=True)
class CorpusSpeakers(CorpusJob):
    """Tell whose voice each clip is: clusters of voices, clips that are like no other, and a table to name them.

    A name that came with the corpus, or from a person, stays; where it contradicts the sound, that is told.
    """

    positional: ClassVar[str] = "folder"
    positional_help: ClassVar[str] = "corpus folder"

    folder: Path
    """The corpus folder."""
    embeddings: str = RESEMBLYZER
    """What voices are compared by: ``resemblyzer``, whose weights are in its package, or ``wavlm:MODEL`` with a folder
    or hub name."""
    speakers: str = "auto"
    """How many speakers there are; ``auto`` finds out."""
    names: Path | None = None
    """A table speakers.csv whose column ``name`` a person filled in: the clusters get those names, and nothing else is
    done."""

    def run(self) -> Report:
        """Measure what is not measured yet, cluster, name, write both tables, and report."""
        count = _number(self.speakers)
        folder = CorpusFolder.open(self.folder)
        if self.names is not None:
            return self._rename(folder, self.names)
        embedding = choose_embedding(self.embeddings)
        with folder.holding():
            rows = folder.rows()
            found = measure_clips(folder, rows, embedding.work(), title="Voices", job=self)
            heard = [at for at, facts in enumerate(found) if VECTOR in facts]
            if not heard:
                raise DataError(
                    f"No clip of {self.folder} can be heard. See why: {quoted('tts-train', 'check', self.folder)}"
                )
            vectors, speech = _arrays([found[at] for at in heard])
            voices = find_voices(vectors, speech, embedding, count=count)
            told = _Told(rows, heard, vectors, speech, voices, embedding)
            table = told.table()
            folder.write(told.rows(), beside={TABLE: write_table(table)})
        return self._report(rows, found, told, table)

    def _rename(self, folder: CorpusFolder, table: Path) -> Report:
        names = read_names(table)
        if not names:
            raise DataError(f"--names {table} gives no name: write one into the column name of a line.")
        with folder.holding():
            rows, changed = renamed(folder.rows(), names, of=str(table))
            # The table shows what the clusters are called now, so that it can be edited and given again.
            folder.write(rows, beside={TABLE: write_table(_kept_table(rows, folder.path / TABLE))})
        return Report(
            more={
                "folder": str(self.folder),
                "rows_in": len(rows),
                "rows": len(rows),
                "renamed": changed,
                "speakers": dict(Counter(row.speaker or "(not named)" for row in rows).most_common()),
                "seconds": {"kept": round(sum(row.seconds for row in rows), 3)},
                "next": [quoted("tts-train", "check", self.folder)],
            }
        )

    def _report(self, rows: Sequence[ClipRow], found: Sequence[Facts], told: _Told, table: Sequence[Voice]) -> Report:
        errors = Counter(facts["error"] for facts in found if VECTOR not in facts)
        outliers = told.outliers()
        clusters = {
            str(voice.cluster): {
                "speaker": voice.speaker,
                "clips": voice.clips,
                "minutes": round(voice.seconds / 60, 2),
            }
            for voice in table
        }
        written = self.folder / TABLE
        following = [quoted("tts-train", "corpus", "speakers", self.folder, "--names", written)]
        if len(outliers) > _TOLD:
            _log.warning("%d clips are like no speaker, or like another than theirs; some are told.", len(outliers))
        return Report(
            more={
                "folder": str(self.folder),
                "rows_in": len(rows),
                "rows": len(rows),
                "seconds": {"kept": round(sum(row.seconds for row in rows), 3)},
                "clusters": clusters,
                "outliers": len(outliers),
                "outlying": dict(list(outliers.items())[:_TOLD]),
                "contradictions": len(told.others),
                "not_heard": dict(errors),
                "table": str(written),
                "next": [*following, quoted("tts-train", "corpus", "review", self.folder)],
            }
        )


class _Told:
    """What the voices say of the rows."""

    def __init__(
        self,
        rows: Sequence[ClipRow],
        heard: Sequence[int],
        vectors: np.ndarray[Any, np.dtype[np.float32]],
        speech: np.ndarray[Any, np.dtype[np.float64]],
        voices: Voices,
        embedding: Embedding,
    ) -> None:
        self._all, self._heard, self._embedding = rows, heard, embedding
        self._rows = [rows[at] for at in heard]
        self._vectors, self._speech, self._voices = vectors, speech, voices
        # Of the others: whom a clip sounds like that was given another name.
        self._names, self.others = name_clusters(self._rows, voices.labels)
        self._like = likeness(vectors, self._names)

    def rows(self) -> list[ClipRow]:
        """Return all rows with names and facts."""
        found = list(self._all)
        for place, at in enumerate(self._heard):
            found[at] = self._row(place)
        return found

    def _row(self, place: int) -> ClipRow:
        row, name, like = self._rows[place], self._names[place], float(self._like[place])
        # Those of an earlier time, which may not hold any more.
        facts = {key: value for key, value in row.facts.items() if key not in (CLUSTER, LIKENESS, OTHER)}
        facts[CLUSTER] = int(self._voices.labels[place]) + 1
        if np.isfinite(like):
            facts[LIKENESS] = round(like, 3)
        if other := self.others.get(place):
            facts[OTHER] = other
        if is_given(row):
            return replace(row, facts=facts)
        if name is None:
            facts.pop(BY, None)
            return replace(row, speaker=None, facts=facts)
        return replace(row, speaker=name, facts={**facts, BY: FROM_CLUSTER})

    def table(self) -> list[Voice]:
        """Return a line for each cluster."""
        lines = []
        for label in range(self._voices.count):
            here = np.flatnonzero(self._voices.labels == label)
            names = Counter(self._names[at] or "" for at in here)
            clips = typical(self._vectors, self._voices, self._speech, label)
            lines.append(
                Voice(
                    cluster=label + 1,
                    speaker=names.most_common(1)[0][0],
                    clips=len(here),
                    seconds=sum(self._rows[at].seconds for at in here),
                    typical=[self._rows[at].audio for at in clips],
                )
            )
        return lines

    def outliers(self) -> dict[str, str]:
        """Return what is odd about clips that are like nobody, or not like the speaker they are said to be."""
        found: dict[str, str] = {}
        short = self._speech < self._embedding.enough
        for place, row in enumerate(self._rows):
            least = self._embedding.alike_short if short[place] else self._embedding.alike
            like = self._like[place]
            if other := self.others.get(place):
                found[row.audio] = f"is called {row.speaker} and sounds like {other}"
            elif self._voices.labels[place] == NOBODY:
                found[row.audio] = "is like no cluster"
            elif is_given(row) and like < least:
                found[row.audio] = f"is {like:.2f} like the other clips of {row.speaker}, not {least:.2f}"
        return found


def _number(given: str) -> int | None:
    if given == "auto":
        return None
    if not given.isdecimal() or not int(given):
        raise ConfigError(f"--speakers {given}: give a number from 1, or auto.")
    return int(given)


def _arrays(
    found: Sequence[Mapping[str, Any]],
) -> tuple[np.ndarray[Any, np.dtype[np.float32]], np.ndarray[Any, np.dtype[np.float64]]]:
    vectors = np.array([facts[VECTOR] for facts in found], np.float32)
    # Rounded when they were kept.
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-8)
    return vectors, np.array([facts[SPEECH] for facts in found], np.float64)


def _kept_table(rows: Sequence[ClipRow], file: Path) -> list[Voice]:
    """The table's lines with the names of now; the clips to hear are those of the file, where it is there."""
    import csv

    heard: dict[int, list[str]] = {}
    if file.is_file():
        with file.open(encoding="utf-8-sig", newline="") as opened:
            for line in csv.DictReader(opened):
                if (line.get("cluster") or "").isdecimal():
                    heard[int(line["cluster"])] = [line.get(f"clip_{number}") or "" for number in (1, 2, 3)]
    members: defaultdict[int, list[ClipRow]] = defaultdict(list)
    for row in rows:
        if cluster := cluster_of(row):
            members[cluster].append(row)
    lines = []
    for number, here in sorted(members.items()):
        names = Counter(row.speaker or "" for row in here)
        clips = heard.get(number) or [row.audio for row in here[:3]]
        seconds = sum(row.seconds for row in here)
        lines.append(
            Voice(cluster=number, speaker=names.most_common(1)[0][0], clips=len(here), seconds=seconds, typical=clips)
        )
    return lines
