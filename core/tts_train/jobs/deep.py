"""``tts-train check PATH --deep``: what is wrong with the rows, each by name, and a page to hear it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xxhash

from tts_train.curation.folder import WORK, CorpusFolder, is_corpus_folder
from tts_train.curation.found import drop_table, note_findings
from tts_train.disk.apart import require_apart
from tts_train.disk.files import disk_errors, write_atomically
from tts_train.errors import ConfigError, DataError, quoted
from tts_train.progress import Progress, write_line

if TYPE_CHECKING:
    from tts_train.contract.metric import Recogniser
    from tts_train.corpus.audio.read import RowReader
    from tts_train.corpus.read import Corpus
    from tts_train.findings.search import Search, SearchResult

DROP_TABLE = "drop.csv"
"""Of a corpus folder: the rows that ``--drop`` takes, as ``corpus apply`` reads it."""
DEEP: dict[str, str] = {
    "drop": "findings whose rows are dropped, as in noisy,clipping; without it no row is dropped",
    "thresholds": "figures from which on a finding is told, as in noisy=12,level=6",
    "out": "folder for report.html, findings.jsonl and what was measured; without it report/ of a corpus folder, else "
    "a folder in the user's cache",
    "kept": "JSONL file of the rows that are kept, which prepare --corpus reads",
    "recogniser": "also hear every clip with this one, NAME or NAME:MODEL as in whisper:small, and compare the texts",
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
        left_out = ("not_measured", "text", "next")
        return {**{name: value for name, value in self.figures.items() if name not in left_out}, "findings": counts}


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
        ConfigError: if a finding is not known, or a threshold is not a number.
        DataError: if the corpus cannot be read.
    """
    from tts_train.findings.page import write_page
    from tts_train.findings.search import search, write_findings
    from tts_train.findings.summary import summary
    from tts_train.findings.text.coverage import in_words, text_coverage

    path = Path(options["path"])
    if options["kept"] is not None:
        from tts_train.findings.kept import require_above

        require_above(path, options["kept"])
    out, keep = _places(path, options["out"])
    if is_corpus_folder(path):
        # Rows that cannot be written back are told before every clip is heard.
        CorpusFolder.open(path).rows()
    with Progress("Listening to clips") as progress:
        found = search(_asked(options, keep, reader), progress=progress.to)
    files = {"findings_file": str(write_findings(found, out)), **_lists(found, options["kept"], path, out)}
    onward = _onward(found, path, files)
    files["page"] = str(write_page(found, out, path=options["path"], layout=options["corpus_format"], onward=onward))
    findings = {name: [each.origin for each in told] for name, told in found.by_kind().items()}
    text = text_coverage(found.rows)
    figures = {**found.report, "findings": findings, "not_measured": dict(found.not_measured), **files}
    figures |= {"text": text, "next": onward}
    return DeepReport(figures=figures, summary=(*summary(found), *in_words(text)), refused=found.refused)


def _asked(options: dict[str, Any], keep: Path, reader: Callable[[Corpus], RowReader | None] | None) -> Search:
    from tts_train.findings.search import Search

    return Search(
        path=options["path"],
        keep=keep,
        drop=options["drop"],
        thresholds=options["thresholds"],
        layout=options["corpus_format"],
        max_dropped=options["max_dropped"],
        workers=options["workers"],
        reader=reader,
        dropped_path=options["dropped"],
        recogniser=_recogniser(options["recogniser"]),
    )


def _recogniser(words: str | None) -> Recogniser | None:
    if words is None:
        return None
    from tts_train.curation.recognition.choosing import find_recogniser
    from tts_train.plugins import Plugins

    plugins = Plugins()
    plugins.load_all()
    # The first colon: a folder under Windows has one of its own.
    name, _, model = words.partition(":")
    return find_recogniser(name, model or None, plugins, option="--recogniser")


def _lists(found: SearchResult, kept: Path | None, path: Path, out: Path) -> dict[str, str]:
    """Write what other commands take on: the kept rows, and in a corpus folder the names of findings and the table."""
    from tts_train.findings.heard import files_of
    from tts_train.findings.kept import write_kept

    written: dict[str, str] = {}
    if kept is not None:
        write_kept(found, kept)
        written["kept_file"] = str(kept)
    if is_corpus_folder(path):
        clips = files_of(found, path)
        note_findings(path, {clips[origin]: names for origin, names in found.by_row().items() if origin in clips})
        if taken := [clips[origin] for origin in found.taken if origin in clips]:
            file = out / DROP_TABLE
            with disk_errors(file):
                write_atomically(file, drop_table(taken))
            written["drop_table"] = str(file)
    return written


def _onward(found: SearchResult, path: Path, files: dict[str, str]) -> list[str]:
    """Return the commands that come next."""
    if is_corpus_folder(path):
        taken = [quoted("tts-train", "corpus", "apply", path, "--table", files["drop_table"])] if found.taken else []
        return [*taken, quoted("tts-train", "corpus", "review", path)]
    corpus = files.get("kept_file", str(path))
    return [f"{quoted('tts-train', 'prepare', '--corpus', corpus)} --backend NAME --out PREPARED"]


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
        require_apart(path, out, given="the corpus in")
    return out, out / "measured"


def _caches() -> Path:
    home = os.environ.get("LOCALAPPDATA") if sys.platform == "win32" else os.environ.get("XDG_CACHE_HOME")
    return Path(home or Path.home() / ".cache") / "tts-train" / "check"
