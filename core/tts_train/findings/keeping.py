"""What was measured of each clip, kept by the clip's content, so that no clip is measured twice."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from tts_train.disk.files import disk_errors, write_json
from tts_train.findings.measure import Examined, Measure

WHY = "why"
"""Figure that a measure has in place of all others where it could not be taken: the reason."""


@dataclass(frozen=True)
class KeptFigures:
    """A folder with a file for each clip; processes share it."""

    folder: Path

    def take(self, examined: Examined) -> dict[str, dict[str, Any]]:
        """Return what was measured of this clip, by key of the measure."""
        try:
            found = json.loads(self._file(examined).read_text(encoding="utf-8"))
        # Not there, or cut short by a full disk: it is measured again.
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def put(self, examined: Examined, figures: Mapping[str, Mapping[str, Any]]) -> None:
        """Keep what was measured.

        Raises:
            DiskError: if the disk is full.
        """
        file = self._file(examined)
        with disk_errors(file):
            file.parent.mkdir(parents=True, exist_ok=True)
            write_json(file, figures)

    def _file(self, examined: Examined) -> Path:
        # What was decoded, not the file: rows may name stretches of one file, or hold theirs in a table.
        digest = xxhash.xxh3_128(np.ascontiguousarray(examined.raw).data)
        digest.update(f"{examined.raw_rate} {examined.raw.shape}".encode())
        name = digest.hexdigest()
        # Two letters apart: a folder with a hundred thousand files is slow on some systems.
        return self.folder / name[:2] / f"{name[2:]}.json"


def measure_key(measure: Measure, examined: Examined) -> str:
    """Return a name under which a measure's figures of a sound are kept: another for all else that they depend on."""
    take, near = examined.take, examined.near if measure.around else ()
    # Not for all of them: a text that is corrected does not have its voice and its noise measured anew.
    said = (take.text, take.language) if measure.reads_text else ()
    settings = json.dumps([measure.settings(), said, near], sort_keys=True)
    return f"{measure.name} {measure.version} {xxhash.xxh3_64_hexdigest(settings.encode())}"
