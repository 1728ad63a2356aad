"""Where pairs come from: takes that were sampled and scored, files of pairs, or recordings and faults made of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import torch
import xxhash
from numpy.typing import NDArray

from tts_train.datasets.corruption import Corruption
from tts_train.datasets.store.foreign import foreign_rows, hash_of_files
from tts_train.datasets.store.parquet_rows import ParquetRows
from tts_train.datasets.takes import TakeSet
from tts_train.errors import DataError
from tts_train.families.token_lm.data.held_out import HeldRow
from tts_train.families.token_lm.data.token_set import BAD_SHARE, EXAMPLES, TokenRows
from tts_train.families.token_lm.preference.check import SAME, fault_of, require_ids
from tts_train.families.token_lm.speaking.drawing import DRAWN_IDS, PROMPT_IDS
from tts_train.parallel.together import leads
from tts_train.progress import Progress

if TYPE_CHECKING:
    from tts_train.families.token_lm.layout import Ids
    from tts_train.families.token_lm.model import TokenLM

CHOSEN, REJECTED = "chosen_ids", "rejected_ids"
"""Columns of a file of pairs, beside that of the prompt."""


class Sides(NamedTuple):
    """The ids of one pair."""

    prompt: Ids
    """The last one is the start of speech."""
    chosen: Ids
    """Whole frames and the end of speech."""
    rejected: Ids
    """May lack an end where it was cut off."""


class PairSource(ABC):
    """Pairs by index, and what is known of each before it is read.

    Args:
        token_lm: The model that they are of.
        path: Where they lie.
    """

    drawn_with: Mapping[str, Any] = MappingProxyType({})
    """What takes say of the model that drew them: ``source`` and ``weights_hash``."""
    says: ClassVar[str]
    """What they are, for messages."""
    fixed: ClassVar[bool] = True
    """Whether a pair is the same in every epoch."""

    def __init__(self, token_lm: TokenLM, path: Path) -> None:
        self.layout = token_lm.layout
        self.path = path
        self.left_out: Counter[str] = Counter()
        """Pairs, or texts without one, by the reason why they are not used."""
        self.examples: dict[str, str] = {}
        """Some of them by name, where one can look at them."""
        self.ids: list[str] = []
        """Of the pairs."""
        self.texts: list[str] = []
        """What each pair says: pairs of a text are held out together."""
        self.speakers: list[str | None] = []
        self.languages: list[str | None] = []
        self.sizes: NDArray[np.int64] = np.zeros((0, 3), dtype=np.int64)
        """(pairs, 3) positions of prompt, better and worse one; for pairs that differ in each epoch, the most."""

    def __len__(self) -> int:
        return len(self.ids)

    @abstractmethod
    def sides(self, place: int, lap: int) -> Sides:
        """Return the ids of a pair as they are in an epoch."""

    @abstractmethod
    def row(self, place: int) -> HeldRow:
        """Return the better one of a pair with its text, as far as that is known."""

    @property
    @abstractmethod
    def hash(self) -> str:
        """A hash that changes when the pairs could."""

    @property
    def facts(self) -> dict[str, Any]:
        """What is known of the data that the ids were made with, as ``StageData.remember`` says it."""
        return {}

    @property
    def settings(self) -> Mapping[str, Any]:
        """How the ids were made, as far as it is known."""
        settings: Mapping[str, Any] = self.facts.get("settings") or {}
        return settings

    # A frame of many ids may be one position, so ids are never counted for a batch.
    def positions(self, ids: Ids) -> int:
        """Return how many positions ids take."""
        return len(self.layout.starts(ids))

    def _heard(self, prompt: Ids, audio: Ids, columns: Mapping[str, Any]) -> HeldRow:
        names = {"id": "text_id", "text": "text", "speaker": "speaker", "language": "language"}
        named: dict[str, Any] = {name: columns.get(column) for name, column in names.items()}
        return HeldRow(prompt=prompt, audio=audio[self.layout.slot_of(audio) >= 0], **named)


class CheckedPairs(PairSource):
    """Pairs that are read to be checked: the sizes of all are known from then on."""

    def _check(
        self,
        names: Sequence[str],
        texts: Sequence[str | None],
        speakers: Sequence[str | None],
        languages: Sequence[str | None],
    ) -> list[int]:
        """Read every pair, note those that can be used, and return their places among all.

        Args:
            names: Of the pairs.
            texts: What each pair says; where that is None, it says what others with its prompt say.
            speakers: Who says each.
            languages: In which language.
        """
        sizes, usable, said = [], [], list[str]()
        faults: dict[str, list[str]] = {}
        with Progress("Checking pairs", len(names)) if leads() else nullcontext() as progress:
            for place, name in enumerate(names):
                if progress is not None:
                    progress.advance()
                sides = self._read(place)
                fault = fault_of(*sides, self.layout)
                if fault:
                    faults.setdefault(fault, []).append(name)
                    continue
                usable.append(place)
                sizes.append([self.positions(side) for side in sides])
                said.append(texts[place] or _hash_of(sides.prompt))
        self.left_out.update({fault: len(of) for fault, of in faults.items()})
        self.examples = {fault: _named(of) for fault, of in faults.items()}
        self._refuse_many(faults, len(names))
        # From here on a place counts the pairs that can be used.
        self.ids = [names[place] for place in usable]
        self.texts = said
        self.speakers = [speakers[place] for place in usable]
        self.languages = [languages[place] for place in usable]
        self.sizes = np.array(sizes, dtype=np.int64).reshape(-1, 3)
        return usable

    @abstractmethod
    def _read(self, place: int) -> Sides:
        """Return the ids of one of all pairs."""

    def _refuse_many(self, faults: Mapping[str, Sequence[str]], count: int) -> None:
        # Equal takes whose codec decodes with noise differ in what is measured; they teach nothing and are no fault.
        bad = sum(len(of) for fault, of in faults.items() if fault != SAME or len(of) == count)
        # A few bad rows are left out and named. Many mean another model's pairs, with which nothing should begin.
        if bad and (bad > BAD_SHARE * count or bad == count):
            lines = "\n".join(f"  {len(of)} pairs: {fault}; {self.examples[fault]}" for fault, of in faults.items())
            raise DataError(f"{bad} of {count} pairs in {self.path} cannot be used.\n{lines}")


class TakePairs(CheckedPairs):
    """The best take of a text against its worst, as ``tts-train sample`` drew and scored them.

    Args:
        token_lm: The model.
        path: A folder that ``tts-train sample`` wrote.
        margin: Least difference of their rewards.
        per_text: Most pairs of a text.

    Raises:
        DataError: if the takes are of another model, or too many of them are no utterances.
    """

    says = "pairs of takes"

    def __init__(self, token_lm: TokenLM, path: Path, *, margin: float, per_text: int) -> None:
        super().__init__(token_lm, path)
        about = ("text_id", "text", "speaker", "language")
        self._takes = TakeSet(path, backend=token_lm.backend, columns=(*about, PROMPT_IDS, DRAWN_IDS))
        self.drawn_with = self._takes.about
        if missing := [name for name in (PROMPT_IDS, DRAWN_IDS) if name not in self._takes.names]:
            raise DataError(f"The takes in {path} have no column {', '.join(missing)}: draw them again.")
        require_ids(self._takes.rows.types, (PROMPT_IDS, DRAWN_IDS), path)
        # The rule of which take is better belongs to the set; every stage that learns from takes asks it.
        pairs, without = self._takes.pairs(margin=margin, per_text=per_text)
        self.left_out.update(without)
        self._rows = [(pair.chosen, pair.rejected) for pair in pairs]
        speakers, languages = self._takes.column("speaker"), self._takes.column("language")
        # By rows, as a text may have several pairs.
        names = [f"{pair.text_id}:{pair.chosen}>{pair.rejected}" for pair in pairs]
        texts = [pair.text_id for pair in pairs]
        # Every pair is read once here: sizes are needed for batches, and what is wrong must be known before a step.
        rows = [pair.chosen for pair in pairs]
        usable = self._check(names, texts, [speakers[row] for row in rows], [languages[row] for row in rows])
        self._rows = [self._rows[place] for place in usable]

    def sides(self, place: int, lap: int) -> Sides:
        """Return the ids of a pair."""
        return self._read(place)

    def row(self, place: int) -> HeldRow:
        """Return the better take with its text."""
        columns = self._takes.row(self._rows[place][0])
        return self._heard(_ids(columns[PROMPT_IDS]), _ids(columns[DRAWN_IDS]), columns)

    @property
    def hash(self) -> str:
        """That of the takes."""
        return self._takes.hash

    @property
    def facts(self) -> dict[str, Any]:
        """What is known of the data of the model that was sampled."""
        return self._takes.facts

    def _read(self, place: int) -> Sides:
        # Both were drawn from the same prompt.
        chosen, rejected = (self._takes.row(row) for row in self._rows[place])
        return Sides(_ids(chosen[PROMPT_IDS]), _ids(chosen[DRAWN_IDS]), _ids(rejected[DRAWN_IDS]))


class StoredPairs(CheckedPairs):
    """Pairs that a file holds, made elsewhere.

    Args:
        token_lm: The model.
        path: A Parquet file or a folder of them with columns ``prompt_ids``, ``chosen_ids``, ``rejected_ids``, and
            perhaps ``id``, ``text``, ``speaker`` and ``language``.

    Raises:
        DataError: if there is no such file, or too many of its rows are no pairs.
    """

    says = "pairs of a file"

    def __init__(self, token_lm: TokenLM, path: Path, rows: ParquetRows) -> None:
        super().__init__(token_lm, path)
        require_ids(rows.types, (PROMPT_IDS, CHOSEN, REJECTED), path)
        self._rows, self._places = rows, list(range(len(rows)))
        names = self._column("id", [f"row:{row}" for row in range(len(rows))])
        texts, speakers, languages = (
            self._column(name, [None] * len(rows)) for name in ("text_id", "speaker", "language")
        )
        # By row until they are checked, and by place among those that can be used from then on.
        self._places = self._check(names, texts, speakers, languages)

    def sides(self, place: int, lap: int) -> Sides:
        """Return the ids of a pair."""
        return self._read(place)

    def row(self, place: int) -> HeldRow:
        """Return the better one with its text, where the file has it."""
        columns = self._rows.row(self._places[place])
        return self._heard(_ids(columns[PROMPT_IDS]), _ids(columns[CHOSEN]), {"text_id": self.ids[place], **columns})

    @cached_property
    def hash(self) -> str:
        """That of the files."""
        return hash_of_files(self._rows.files)

    def _read(self, place: int) -> Sides:
        columns = self._rows.row(self._places[place])
        return Sides(*(_ids(columns[name]) for name in (PROMPT_IDS, CHOSEN, REJECTED)))

    def _column(self, name: str, missing: list[Any]) -> list[Any]:
        if name not in self._rows.names:
            return missing
        values = self._rows.column(name).to_pylist()
        return [other if value is None else str(value) for value, other in zip(values, missing, strict=True)]


class MadePairs(PairSource):
    """Recordings against themselves with a part of the frames said twice or left out, another one in each epoch.

    Args:
        token_lm: The model.
        path: A folder that ``tts-train prepare`` wrote.
        max_tokens: Most positions of a row.
        seed: Of what is drawn.
    """

    says = "recordings against faults made of them"
    fixed = False

    def __init__(self, token_lm: TokenLM, path: Path, *, max_tokens: int, seed: int) -> None:
        super().__init__(token_lm, path)
        self._source = TokenRows.open(token_lm, path, max_tokens=max_tokens, on_too_long="drop")
        self._seed = seed
        rows = self._source.rows
        prompts = self._source.prepared.rows.column("prompt_tokens").to_numpy()[rows].astype(np.int64)
        # With the ids that end a row, of which no more than the end of speech is said: an upper bound is enough.
        bodies = self._source.sizes - prompts
        # A part that is said twice makes it twice as long at most.
        sizes = np.stack([prompts, bodies, 2 * bodies], axis=1)
        # One frame has no part that could be left out.
        enough = np.flatnonzero(bodies > 2 * self.layout.frame_positions)
        self.left_out = Counter(self._source.left_out)
        if len(enough) < len(rows):
            self.left_out["too short to lose a part"] += len(rows) - len(enough)
        self._set = self._source.take(enough.tolist(), speech_only=True)
        ids, speakers = self._source.ids, self._source.speakers
        self.ids = self.texts = [ids[place] for place in enough]
        self.speakers = [speakers[place] for place in enough]
        self.languages = [None] * len(enough)
        self.sizes = sizes[enough]

    def sides(self, place: int, lap: int) -> Sides:
        """Return a recording and what is made of it in an epoch, of seed, epoch and row alone."""
        document = self._set[place]
        ids, prompt = document.input_ids, document.learn_from
        said = ids[prompt:]
        # Whole frames are repeated or lost: within one there is no place to cut at.
        frames = torch.from_numpy(self.layout.in_frames(said[self.layout.slot_of(said) >= 0]))
        fault = Corruption.at(len(frames), seed=self._seed, lap=lap, row=int(self._set.rows[place]))
        # Both end: what is taught is what to say, and not when to stop.
        end = np.array([self.layout.end_of_speech], dtype=np.int64)
        chosen, rejected = (np.append(of.numpy().reshape(-1), end) for of in (frames, fault.of(frames)))
        return Sides(ids[:prompt], chosen, rejected)

    def row(self, place: int) -> HeldRow:
        """Return a recording; its text is not read for training."""
        sides = self.sides(place, 0)
        return self._heard(sides.prompt, sides.chosen, {"text_id": self.ids[place]})

    @property
    def places(self) -> NDArray[np.int64]:
        """The row of the prepared set that each pair is made of."""
        return self._set.rows

    @property
    def hash(self) -> str:
        """That of the prepared set."""
        return self._source.prepared.hash

    @property
    def facts(self) -> dict[str, Any]:
        """What the set says of itself."""
        return self._source.prepared.facts


def open_pairs(
    token_lm: TokenLM, path: Path, *, margin: float, per_text: int, max_tokens: int, seed: int
) -> PairSource:
    """Open what lies at ``path``: takes, a prepared folder, or files of pairs.

    Raises:
        DataError: if it is none of these.
    """
    from tts_train.datasets.store.shards import is_prepared
    from tts_train.datasets.takes import is_begun, is_takes

    # What prepare and sample finished says so in a file of its own; all else is looked at by its columns.
    if is_takes(path):
        return TakePairs(token_lm, path, margin=margin, per_text=per_text)
    if is_prepared(path):
        return MadePairs(token_lm, path, max_tokens=max_tokens, seed=seed)
    sample = f"tts-train sample RUN --texts FILE --out {path}"
    if not path.exists():
        raise DataError(f"There is nothing at {path}. Draw takes with the model that is to be trained: {sample}")
    if is_begun(path):
        raise DataError(f"The takes in {path} are not finished. Run the same tts-train sample again: it goes on.")
    rows = foreign_rows(
        path, columns=None, prepare=f"tts-train prepare --backend {token_lm.backend} --corpus RECORDINGS --out"
    )
    if missing := [name for name in (PROMPT_IDS, CHOSEN, REJECTED) if name not in rows.names]:
        raise DataError(
            f"{path} has no column {', '.join(missing)} (it has {', '.join(rows.names)}), so it holds no pairs. Give a "
            f"folder of takes ({sample}-takes), a folder that tts-train prepare wrote, or Parquet files with "
            f"{PROMPT_IDS}, {CHOSEN} and {REJECTED}."
        )
    return StoredPairs(token_lm, path, rows)


def _ids(values: Any) -> Ids:  # noqa: ANN401 - a list of numbers as Parquet gives it, or None
    return np.asarray([] if values is None else values, dtype=np.int64)


def _hash_of(ids: Ids) -> str:
    return str(xxhash.xxh3_128_hexdigest(ids.tobytes()))


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - EXAMPLES} more" if len(names) > EXAMPLES else ""
    return ", ".join(names[:EXAMPLES]) + more
