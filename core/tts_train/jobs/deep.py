"""``tts-train check PATH --deep``: what is wrong with the rows, each by name, and a page to hear it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xxhash

from tts_train.curation.folder import LEDGER, TABLE, WORK
from tts_train.disk.apart import require_apart
from tts_train.errors import ConfigError, DataError
from tts_train.progress import Progress, write_line

if TYPE_CHECKING:
    from tts_train.corpus.audio.read import RowReader
    from tts_train.corpus.read import Corpus

DEEP: dict[str, str] = {
    "drop": "findings whose rows are dropped, as in noisy,clipping; without it none is",
    "thresholds": "figures from which on a finding is told, as in noisy=12,level=6",
    "out": "folder for report.html, findings.jsonl and what was measured (a cache folder of yours; in a corpus folder, "
    "its report/)",
    "kept": "JSONL file of the rows that are kept, which prepare --corpus reads",
}
"""Options that ``--deep`` has besides those of ``check``, with their help."""


@dataclass(frozen=True, kw_only=True)
class DeepReport:
    """What a search found, ready to be printed."""

    figures: dict[str, Any]
    """What ``--json`` prints."""
    summary: tuple[str, ...]
    """In words, a line each."""
    refused: DataError | None
    """Why the command fails after all: more rows were dropped than allowed."""

    def in_short(self) -> dict[str, Any]:
        """Return the figures for people, who find the rows in the summary and on the page."""
        counts = {name: len(set(origins)) for name, origins in self.figures["findings"].items() if origins}
        return {**{name: value for name, value in self.figures.items() if name != "not_measured"}, "findings": counts}


def require_deep(options: dict[str, Any]) -> None:
    """Refuse options of ``--deep`` without it.

    Raises:
        ConfigError: naming the option.
    """
    given = [name for name in DEEP if options.get(name) is not None]
    if given and not options["deep"]:
        raise ConfigError(f"--{given[0]} belongs to --deep. Add --deep.")


def deep_check(options: dict[str, Any], reader: Callable[[Corpus], RowReader | None] | None) -> DeepReport:
    """Search a corpus, write the page and the list, and say what was found.

    Args:
        options: of the command ``check``.
        reader: of the backend whose limits hold; None: those of every backend.

    Raises:
        ConfigError: if a finding is not known, or a threshold is none.
        DataError: if the corpus cannot be read.
    """
    from tts_train.findings.search import Search, search, write_findings
    from tts_train.findings.summary import summary

    out, keep = _places(Path(options["path"]), options["out"])
    asked = Search(
        path=options["path"],
        keep=keep,
        drop=options["drop"],
        thresholds=options["thresholds"],
        layout=options["corpus_format"],
        max_dropped=options["max_dropped"],
        workers=options["workers"],
        reader=reader,
        dropped_path=options["dropped"],
    )
    with Progress("Listening to clips") as progress:
        found = search(asked, progress=progress.to)
    file = write_findings(found, out)
    findings = {name: [each.origin for each in findings] for name, findings in found.by_kind().items()}
    report = {**found.report, "findings": findings, "not_measured": dict(found.not_measured)}
    return DeepReport(
        figures={**report, "findings_file": str(file)}, summary=tuple(summary(found)), refused=found.refused
    )


def is_corpus_folder(path: Path) -> bool:
    """Tell whether the verbs of ``tts-train corpus`` made a folder."""
    return (path / TABLE).is_file() and (path / LEDGER).is_file()


def _places(path: Path, out: Path | None) -> tuple[Path, Path]:
    """Return where the report goes, and where figures are kept: never into recordings that are somebody's own."""
    if is_corpus_folder(path):
        return out or path / "report", path / WORK / "findings"
    if out is None:
        name = os.fspath(path.resolve()) if path.exists() else os.fspath(path)
        # By the whole path: two corpora called ``wavs`` have a folder each.
        out = _caches() / f"{path.resolve().name}-{xxhash.xxh3_64_hexdigest(os.fsencode(name))[:8]}"
        write_line(f"The report and what is measured go to {out}; --out FOLDER chooses another place.")
    elif path.exists():
        require_apart(path if path.is_dir() else path.parent, out, given="the corpus in")
    return out, out / "measured"


def _caches() -> Path:
    home = os.environ.get("LOCALAPPDATA") if sys.platform == "win32" else os.environ.get("XDG_CACHE_HOME")
    return Path(home or Path.home() / ".cache") / "tts-train" / "check"
