"""The page of ``corpus review``: one file that needs no network, with the rows as data and the clips by link."""

from __future__ import annotations

import base64
import hashlib
import importlib.resources
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import quote

import xxhash

from tts_train.curation.review.suspicion import KINDS
from tts_train.curation.review.table import COLUMNS, MISTAKEN, Shown
from tts_train.curation.row import ClipRow
from tts_train.errors import quoted
from tts_train.report.page import palette


@dataclass(frozen=True, kw_only=True)
class PageOptions:
    """Where a page lies, and what of."""

    corpus: Path
    out: Path
    """Folder of the page."""
    clips: Sequence[ClipRow]
    """All rows of the corpus, also those that are not shown and those that were taken out."""


def page_text(rows: Iterable[Shown], options: PageOptions) -> str:
    """Return the page as HTML."""
    package = importlib.resources.files(__package__)

    def part(name: str) -> str:
        return package.joinpath(name).read_text(encoding="utf-8")

    # One function around both, so that nothing of it is reachable from outside.
    script = f'"use strict";\n(() => {{\n{part("table.js")}\n{part("page.js")}\n}})();\n'
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return Template(part("page.html")).substitute(
        title=escape(options.corpus.resolve().name),
        style=palette() + part("style.css"),
        data=as_script_data(_data(rows, options)),
        script=script,
        # Only this script runs, whatever a text holds.
        script_hash=f"sha256-{digest}",
    )


def as_script_data(value: object) -> str:
    """Return JSON that ends no script element, whatever its strings hold."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _data(rows: Iterable[Shown], options: PageOptions) -> dict[str, Any]:
    shown = list(rows)
    corpus = options.corpus.resolve()
    # The rows as their cells, so that the page saves a row that nobody edited byte for byte as it was written.
    return {
        # Of the clips, not of their texts: what was edited in this browser is still there after an apply.
        "key": xxhash.xxh3_128_hexdigest(repr(sorted((row.audio, row.seconds) for row in options.clips)).encode()),
        "base": _base(corpus, options.out.resolve()),
        # Whole, since it is typed where the browser puts files.
        "command": quoted("tts-train", "corpus", "apply", corpus, "--table"),
        "columns": COLUMNS,
        "mistaken": MISTAKEN,
        "kinds": KINDS,
        "rows": [each.cells() for each in shown],
        "reasons": [[[reason.kind, reason.said] for reason in each.verdict.reasons] for each in shown],
        "places": _places(shown, options.clips),
    }


def _places(shown: Iterable[Shown], clips: Sequence[ClipRow]) -> list[int]:
    """Return where each row stands by name, which is the order of the recordings."""
    order = {audio: place for place, audio in enumerate(sorted(row.audio for row in clips))}
    return [order[each.row.audio] for each in shown]


def _base(corpus: Path, out: Path) -> str:
    """Return what stands before the path of a clip, as a link from the page."""
    try:
        relative = Path(os.path.relpath(corpus, out)).as_posix()
    # Another drive of Windows.
    except ValueError:
        return f"{corpus.as_uri()}/"
    # Begins with a dot, so that no name is taken for a scheme.
    return f"{quote(relative)}/" if relative.startswith(".") else f"./{quote(relative)}/"
