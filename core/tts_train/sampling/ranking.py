"""A finished set of takes: all parts in one file, with rewards, what was counted, and the sounds that are kept."""

from __future__ import annotations

import json
import logging
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from tts_train.contract.metric import Figure
from tts_train.datasets.takes import ABOUT, FORMAT, TAKES, VERSION
from tts_train.disk.files import disk_errors, hash_file, write_json
from tts_train.errors import ConfigError
from tts_train.sampling.guards import PACE, SPEECH, pace_ratios
from tts_train.sampling.parts import AUDIO, Lacking, nested, write_parquet
from tts_train.sampling.rewards import Judged, Term, Wish, choose_terms, judge

Keep: TypeAlias = Literal["pairs", "all", "none"]
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class About:
    """What a set says of itself besides its takes."""

    backend: str
    stage: str
    source: str
    settings: Mapping[str, Any]
    """What decided the takes; see :mod:`tts_train.sampling.identity`."""
    data: Mapping[str, Any]
    """What is known of the data that the source was trained on."""
    left_out: Mapping[str, int]
    """Rows of the texts that were not spoken, by reason."""
    missing: Mapping[str, str]
    """Metrics that are not measured, and why."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a reward is made of, as it was asked for."""

    wishes: Sequence[Wish]
    keep: Keep


class Ranking:
    """Takes with their figures, before they are ranked.

    Args:
        files: Parquet files with the takes, in order: parts, or a finished set.
        figures: By name, those of guards and metrics.
        columns: What the backend keeps of a take.
    """

    def __init__(self, files: Sequence[Path], figures: Mapping[str, Figure], columns: Sequence[str]) -> None:
        self.files, self.figures = list(files), figures
        names = ["text_id", "text", "speaker", "language", "seconds", "ended", "error", "sound", *figures]
        whole = pa.concat_tables(pq.read_table(file, columns=names) for file in self.files)
        self.values: dict[str, list[Any]] = {name: whole.column(name).to_pylist() for name in names}
        self.drawn = [drawn for file in self.files for drawn in _drawn(file, columns)]
        # Here and not when a part is drawn, as it depends on all takes.
        own = ("text_id", "text", "speaker", "language", SPEECH, "ended")
        self.values[PACE] = list(pace_ratios(*(self.values[name] for name in own)))
        self.sounding = [seconds is not None for seconds in self.values["seconds"]]

    def judge(self, wishes: Sequence[Wish], missing: Mapping[str, str]) -> tuple[list[Term], Judged]:
        """Return what is rewarded, and the reward of each take."""
        # A metric may be able to measure, and find nothing in these texts that it can be held against.
        empty = [name for name in self.figures if all(value is None for value in self.values[name])]
        terms = choose_terms(wishes, self.figures, missing=missing, empty=empty)
        judged = judge(
            self.values["text_id"],
            {term.figure.name: self.values[term.figure.name] for term in terms},
            terms,
            sounding=self.sounding,
            drawn=self.drawn,
        )
        return terms, judged

    def best(self, judged: Judged) -> list[int]:
        """Return the row of the best take with a sound of each text."""
        return [rows[0] for rows in self._ranked(judged)]

    def wanted(self, judged: Judged, keep: Keep) -> set[int]:
        """Return the rows of takes whose sounds are to be kept."""
        if keep == "pairs":
            return {row for ranked in self._ranked(judged) for row in (ranked[0], ranked[-1])}
        return {row for row, has in enumerate(self.sounding) if has and keep == "all"}

    def _ranked(self, judged: Judged) -> list[list[int]]:
        texts: dict[str, list[int]] = defaultdict(list)
        for row, text_id in enumerate(self.values["text_id"]):
            if self.sounding[row] and judged.rewards[row] is not None:
                texts[text_id].append(row)
        # By the row where rewards are equal, so that the same takes have the same order.
        return [sorted(rows, key=lambda row: (-(judged.rewards[row] or 0.0), row)) for rows in texts.values()]

    def rewritten(self, judged: Judged, sounds: Sequence[str | None]) -> Iterator[pa.Table]:
        """Yield the takes with their rewards, a group at a time."""
        given = {PACE: self.values[PACE], "missed": judged.missed, "reward": judged.rewards, "sound": list(sounds)}
        first = 0
        for path in self.files:
            with pq.ParquetFile(path, page_checksum_verification=True) as file:
                for group in range(file.num_row_groups):
                    # Without the notes of parts, which are about a part alone.
                    table = file.read_row_group(group).replace_schema_metadata(None)
                    for name, column in given.items():
                        field = table.schema.field(name)
                        own = pa.array(column[first : first + table.num_rows], field.type)
                        table = table.set_column(table.schema.get_field_index(name), field, own)
                    first += table.num_rows
                    yield table


def _drawn(file: Path, columns: Sequence[str]) -> list[bool]:
    """Tell of each take of a file whether the backend kept anything of it."""
    found: list[bool] = []
    # A group at a time: these columns are as large as the set itself, and only their being there counts.
    with pq.ParquetFile(file) as opened:
        for group in range(opened.num_row_groups):
            table = opened.read_row_group(group, columns=list(columns))
            valid = (column.is_valid().to_pylist() for column in table.columns)
            found += [any(row) for row in zip(*valid, strict=True)]
    return found


def finish(
    out: Path, ranking: Ranking, schema: pa.Schema, asked: Wanted, about: About, lacking: Lacking
) -> dict[str, Any]:
    """Rank the takes, write the set and what it says of itself, and remove sounds that are not kept.

    Raises:
        ConfigError: if the reward names what is not measured, or sounds are wanted that were not kept.
    """
    terms, judged = ranking.judge(asked.wishes, about.missing)
    sounds = _kept_sounds(out, ranking, ranking.wanted(judged, asked.keep), asked.keep)
    said = _describe(ranking, judged, terms, about, lacking)
    with disk_errors(out):
        # The description comes last: a folder that has one is complete.
        write_parquet(out / TAKES, ranking.rewritten(judged, sounds), schema)
        said = {**said, "hash": hash_file(out / TAKES)}
        write_json(out / ABOUT, said)
        _remove_other_sounds(out, sounds)
    return said


def _kept_sounds(out: Path, ranking: Ranking, wanted: set[int], keep: Keep) -> list[str | None]:
    """Return the sound of each take that is kept; of takes that were ranked otherwise before some are gone."""
    sounds: list[str | None] = ranking.values["sound"]
    lost = sum(sounds[row] is None for row in wanted)
    if lost and keep == "all":
        raise ConfigError(
            f"--keep all: the sounds of {lost} takes in {out} were not kept. Draw them into another --out, or leave "
            "--keep all out."
        )
    if lost:
        _log.warning("The sounds of %d takes that are now the best or the worst of their text were not kept.", lost)
    return [sound if row in wanted else None for row, sound in enumerate(sounds)]


def _remove_other_sounds(out: Path, sounds: Sequence[str | None]) -> None:
    kept = {out / sound for sound in sounds if sound is not None}
    # After the description, which names none of them any more.
    for file in (out / AUDIO).rglob("*.wav"):
        if file not in kept:
            file.unlink()
    for folder in [path for path in (out / AUDIO).glob("*") if path.is_dir() and not any(path.iterdir())]:
        folder.rmdir()
    if not kept:
        shutil.rmtree(out / AUDIO, ignore_errors=True)


def _describe(
    ranking: Ranking, judged: Judged, terms: Sequence[Term], about: About, lacking: Lacking
) -> dict[str, Any]:
    values, takes = ranking.values, len(ranking.sounding)
    faulty = [has and error is not None for error, has in zip(values["error"], ranking.sounding, strict=True)]
    silent = [drawn and not has for drawn, has in zip(ranking.drawn, ranking.sounding, strict=True)]
    not_drawn = [not drawn for drawn in ranking.drawn]
    ended = sum(whole for whole, has in zip(values["ended"], ranking.sounding, strict=True) if has)
    return {
        "format": FORMAT,
        "version": VERSION,
        "backend": about.backend,
        "stage": about.stage,
        "source": about.source,
        "weights_hash": about.settings["weights_hash"],
        "takes": takes,
        "texts": len(set(values["text_id"])),
        "n": about.settings["n"],
        "left_out": dict(about.left_out),
        "ended": ended,
        "cut_off": sum(ranking.sounding) - ended,
        "silent": sum(silent),
        "not_drawn": sum(not_drawn),
        "faulty": sum(faulty),
        "examples": _examples(values, {"not_drawn": not_drawn, "silent": silent, "faulty": faulty}),
        "without_reward": judged.rewards.count(None),
        "missed": dict(Counter(name for names in judged.missed for name in names)),
        "left_out_of_rewards": dict(judged.left_out),
        "not_judged": nested(lacking),
        "not_measured": dict(about.missing),
        "reward": {term.figure.name: {"weight": term.weight, "floor": term.floor} for term in terms},
        "figures": _figures(ranking, judged),
        "settings": dict(about.settings),
        "data": json.loads(json.dumps(dict(about.data), default=str)),
    }


def _examples(values: Mapping[str, Sequence[Any]], kinds: Mapping[str, Sequence[bool]]) -> dict[str, str]:
    """Return the first take of each kind there is, by its text, and what is wrong with it."""
    found = {kind: next((row for row, is_one in enumerate(rows) if is_one), None) for kind, rows in kinds.items()}
    return {kind: f"{values['text_id'][row]}: {values['error'][row]}" for kind, row in found.items() if row is not None}


def _figures(ranking: Ranking, judged: Judged) -> dict[str, dict[str, Any]]:
    """Return of each figure what it is, its mean over texts, and that over the best take of each."""
    best = ranking.best(judged)
    found: dict[str, dict[str, Any]] = {}
    for name, figure in ranking.figures.items():
        values = ranking.values[name]
        texts: dict[str, list[float]] = defaultdict(list)
        for text_id, value in zip(ranking.values["text_id"], values, strict=True):
            if value is not None:
                texts[text_id].append(value)
        chosen = [values[row] for row in best if values[row] is not None]
        found[name] = {
            **{key: value for key, value in asdict(figure).items() if key != "name"},
            "n": sum(map(len, texts.values())),
            # Over texts and not over takes, as the best ones are: a text with silent takes has fewer of them.
            "mean": fmean(map(fmean, texts.values())) if texts else None,
            "best": fmean(chosen) if chosen else None,
        }
    return found
