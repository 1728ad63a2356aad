"""What a run directory holds, read without torch for the report; missing or broken parts become notes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tts_train.errors import ConfigError
from tts_train.report.history import Entry, History, series
from tts_train.run.places import located, project_of

REFERENCE = "reference"
"""The folder beside ``step-*`` in ``samples/`` that holds the recordings the samples are compared with."""
CEILING = "codec"
"""The folder beside it with what the codec leaves of them."""
COMPARED = (REFERENCE, CEILING)
DATASET_FILE, DROPPED_FILE, TAKES_FILE = "dataset.json", "dropped.jsonl", "takes.json"
EXAMPLES = 5
"""Rows of each reason that a page shows."""
_STEP = re.compile(r"step-(\d+)")


@dataclass(frozen=True, kw_only=True)
class SavedSample:
    """One rendering of an utterance: the recording, what the codec leaves of it, or what the model said at a step."""

    step: int | None
    """The checkpoint's step; None for what is compared with."""
    sound: Path
    """The WAV file."""
    facts: Mapping[str, Any]
    """What its JSON says: text, seconds, peak, scores."""

    @property
    def kind(self) -> str:
        """The folder it lies in: ``reference``, ``codec`` or ``step-*``."""
        return self.sound.parent.name

    @property
    def picture(self) -> Path:
        """Where its mel picture lies, if it was drawn."""
        return self.sound.with_suffix(".png")


@dataclass(frozen=True, kw_only=True)
class Run:
    """Everything the report shows, as found on disk."""

    folder: Path
    card: Mapping[str, Any]
    """``run.json``."""
    config_text: str
    """``config.yaml`` as it stands; empty if there is none."""
    config: Mapping[str, Any]
    """The same, parsed."""
    metrics: Mapping[str, list[Entry]]
    """Scalars by name, sorted by step."""
    takes: Mapping[str, list[SavedSample]]
    """Samples by utterance: the reference first, the codec's ceiling, then by step."""
    prepared_set: Mapping[str, Any]
    """The index that ``prepare`` wrote, ``dataset.json``: its report and lengths; empty if unreachable."""
    dropped: Mapping[str, list[str]]
    """Rows that ``prepare`` dropped, by reason: a few of them, as ``where: why``."""
    checkpoints: Mapping[str, int]
    """Whole checkpoints by name, with their size in bytes."""
    notes: list[str] = field(default_factory=list)
    """What could not be read, for the reader."""


def read_run(run_dir: Path) -> Run:
    """Read a run directory.

    Raises:
        ConfigError: if ``run_dir`` is no directory.
    """
    if not run_dir.is_dir():
        raise ConfigError(f"{run_dir} is not a directory. Give the run directory that `tts-train fit` wrote.")
    notes: list[str] = []
    card = read_json(run_dir / "run.json", notes)
    config_file = run_dir / "config.yaml"
    # Shown as it is, also where it cannot be parsed.
    config_text = config_file.read_text(encoding="utf-8", errors="replace") if config_file.exists() else ""
    config = _parse_config(config_text, notes)
    data = _data_path(config, card, run_dir)
    return Run(
        folder=run_dir,
        card=card,
        config_text=config_text,
        config=config,
        metrics=series(History(run_dir).entries()),
        takes=_takes(run_dir / "samples", notes),
        prepared_set=_prepared_set(data, card, notes),
        dropped=_dropped(data),
        checkpoints=_checkpoints(run_dir / "checkpoints"),
        notes=notes,
    )


def read_json(path: Path, notes: list[str]) -> dict[str, Any]:
    """Return the object in a JSON file; an empty one, with a note if the file is broken, where there is none."""
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        notes.append(f"{path.name} could not be read: {error}")
        return {}
    if isinstance(content, dict):
        return content
    notes.append(f"{path.name} holds no JSON object, so it is not shown.")
    return {}


def _parse_config(text: str, notes: list[str]) -> dict[str, Any]:
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        notes.append(f"config.yaml could not be parsed: {error}")
        return {}
    return content if isinstance(content, dict) else {}


def _prepared_set(path: str | None, card: Mapping[str, Any], notes: list[str]) -> dict[str, Any]:
    """``dataset.json`` from the folder that ``--data.path`` named, else what ``run.json`` says about the data."""
    if path is not None:
        found = read_json(Path(path) / DATASET_FILE, notes)
        if found:
            return found
        # Takes of a model were never prepared, and the run card says what they held.
        if (Path(path) / TAKES_FILE).is_file():
            return _known(card)
        notes.append(f"The prepared data in {path} cannot be reached from here, so its counts come from run.json.")
    return _known(card)


def _known(card: Mapping[str, Any]) -> dict[str, Any]:
    known = card.get("data")
    return dict(known) if isinstance(known, dict) else {}


def _data_path(config: Mapping[str, Any], card: Mapping[str, Any], run_dir: Path) -> str | None:
    """The folder that ``prepare`` wrote; None for a backend whose data have no ``--data.path``."""
    options = config.get("data")
    options = options if isinstance(options, dict) else {}
    inner = options.get("init_args")
    # Where a data class is named, its options lie below init_args.
    path = (inner if isinstance(inner, dict) else options).get("path")
    folder = card.get("folder")
    if not isinstance(path, str):
        return None
    project = project_of(config.get("run_dir"), run_dir)
    return located(path, folder if isinstance(folder, str) else None, project=project)


def _dropped(path: str | None) -> dict[str, list[str]]:
    """Examples of each reason, from the ``dropped.jsonl`` that ``prepare`` writes; broken lines are passed over."""
    file = Path(path or "") / DROPPED_FILE
    found: dict[str, list[str]] = {}
    if path is None or not file.is_file():
        return found
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
            examples = found.setdefault(str(row["reason"]), [])
            if len(examples) < EXAMPLES:
                examples.append(": ".join(str(row[key]) for key in ("origin", "detail") if row.get(key)))
        except (ValueError, KeyError, TypeError):
            continue
    return found


def _takes(samples: Path, notes: list[str]) -> dict[str, list[SavedSample]]:
    found: dict[str, list[SavedSample]] = {}
    for folder in sorted(samples.glob("*/")):
        step = _STEP.fullmatch(folder.name)
        if step is None and folder.name not in COMPARED:
            continue
        for sound in sorted(folder.glob("*.wav")):
            facts = read_json(sound.with_suffix(".json"), notes)
            take = SavedSample(step=int(step[1]) if step else None, sound=sound, facts=facts)
            found.setdefault(sound.stem, []).append(take)
    return {
        # Negative places: what is compared with stands before step 0.
        name: sorted(takes, key=lambda take: COMPARED.index(take.kind) - 2 if take.step is None else take.step)
        for name, takes in sorted(found.items())
    }


def _checkpoints(folder: Path) -> dict[str, int]:
    """Only folders with a manifest are whole."""
    # The manifest is written last, so a folder without one is half of a checkpoint.
    whole = sorted(path.parent for path in folder.glob("step-*/MANIFEST.json"))
    return {path.name: sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) for path in whole}
