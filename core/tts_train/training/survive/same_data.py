"""Says when a run goes on with other data than it was trained on: the path may be the same and its content not."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from tts_train.contract.data import stage_data
from tts_train.run.directory import RunDirectory

HASH, HASHES = "hash", "hashes"
"""What a data module's ``describe`` calls the hash of ``--data.path``, and those of its other sets by their option."""

logger = logging.getLogger(__name__)


class SameData(Callback):
    """Writes what the data are into ``run.json`` as soon as they are open, and compares them with what stood there.

    Args:
        run: the run directory.
        step: the step that the run continues from; None where it begins.
    """

    def __init__(self, run: RunDirectory, step: int | None) -> None:
        self.run = run
        self.step = step

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Compare, and write; the data are open and no network is built yet."""
        data = stage_data(trainer)
        if stage != "fit" or data is None or not trainer.is_global_zero:
            return
        about = dict(data.describe())
        before = self.run.read_record().get("data")
        if self.step and isinstance(before, dict):
            for change in changed(before, about):
                logger.warning(
                    "%s. The data are not those that this run was trained on until step %d: it continues on them, and "
                    "its figures before and after cannot be compared. To train on the old data, put them back; for a "
                    "run on the new ones alone, give another directory: --run_dir %s-2",
                    change,
                    self.step,
                    self.run.path,
                )
        self.run.update_record(data=about)


def changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Say which sets are others than before; a set of which there is no hash is not compared."""
    old, new = _hashes(before), _hashes(now)
    found = []
    for option in sorted(set(old) & set(new)):
        if old[option] != new[option]:
            rows = f", {before.get('rows', '?')} rows -> {now.get('rows', '?')} rows" if option == "path" else ""
            found.append(f"--data.{option} has changed: hash {old[option][:12]} -> {new[option][:12]}{rows}")
    return found


def _hashes(about: Mapping[str, Any]) -> dict[str, str]:
    others = about.get(HASHES)
    named = {"path": about.get(HASH), **(others if isinstance(others, dict) else {})}
    return {option: value for option, value in named.items() if isinstance(value, str)}
