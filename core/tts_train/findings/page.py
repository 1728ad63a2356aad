"""Write ``report.html`` of a corpus: one page, complete in itself, that opens without a network."""

from __future__ import annotations

import importlib.resources
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template

from tts_train.disk.files import disk_errors, write_atomically
from tts_train.findings.heard import Heard, listen, worst
from tts_train.findings.histogram import histogram
from tts_train.findings.measure import Finding, FindingKind
from tts_train.findings.search import SearchResult
from tts_train.findings.summary import affected, in_order, sentence, spelt, spoilt, told, unlooked
from tts_train.progress import duration
from tts_train.report.chart import number
from tts_train.report.page import palette

PAGE_FILE = "report.html"


def write_page(found: SearchResult, out: Path, *, path: Path | str, layout: str, onward: Sequence[str]) -> Path:
    """Write the page into a folder and return its path.

    Args:
        found: what was found.
        out: the folder.
        path: the corpus; the worst rows are read once more.
        layout: of the corpus, as the user named it.
        onward: commands that come next.

    Raises:
        DiskError: if the disk is full.
    """
    named = worst(found)
    heard = listen(path, layout, {origin for origins in named.values() for origin in origins})
    page = render(found, heard, title=_title(path), onward=onward)
    file = out / PAGE_FILE
    with disk_errors(file):
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(file, page)
    return file


def render(found: SearchResult, heard: Mapping[str, Heard], *, title: str, onward: Sequence[str] = ()) -> str:
    """Return the page as HTML."""
    own, report = importlib.resources.files(__package__), importlib.resources.files("tts_train.report")
    rows, whole, named = len(found.rows), sum(found.lengths.values()), worst(found)
    return Template(own.joinpath("page.html").read_text(encoding="utf-8")).substitute(
        style=palette() + report.joinpath("style.css").read_text(encoding="utf-8"),
        title=escape(title),
        subject=escape(f"{rows} clips, {duration(whole)}"),
        headline=_headline(found),
        first=_first(found),
        findings=_table(found),
        worst="".join(_kind(found, name, origins, heard) for name, origins in named.items())
        or '<p class="none">Nothing was found.</p>',
        spread=_spread(found),
        left=_left(found),
        onward=_onward(onward),
    )


def _title(path: Path | str) -> str:
    return Path(path).resolve().name or str(path)


def _headline(found: SearchResult) -> str:
    wrong = spoilt(found)
    whole = sum(found.lengths.values())
    report = found.report
    dropped = sum(report.get("dropped", {}).values())
    tiles = [
        ("Clips", number(len(found.rows)), duration(whole)),
        ("With findings", number(len(wrong)), duration(affected(found, found.findings))),
        ("Rows dropped", number(dropped), ", ".join(report.get("dropped", {})) or "every row can be read"),
        ("Speakers", number(len(report.get("speakers", {})) or 1), "as the rows name them"),
    ]
    drawn = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}<small>{escape(note)}</small></dd></div>"
        for name, value, note in tiles
    )
    return f'<dl class="tiles">{drawn}</dl>'


def _first(found: SearchResult) -> str:
    grouped = in_order(found)
    if not grouped:
        return '<p class="none">Nothing was found.</p>'
    items = "".join(_item(name, sentence(found, found.kinds[name], findings)) for name, findings in grouped.items())
    return f'<ol class="first">{items}</ol>'


def _item(name: str, said: str) -> str:
    return f"<li><b>{escape(name)}</b>{escape(said.removeprefix(name))}</li>"


def _table(found: SearchResult) -> str:
    grouped = found.by_kind()
    lines = "".join(_line(found, found.kinds[name], findings) for name, findings in grouped.items())
    head = "".join(
        f'<th scope="col">{name}</th>'
        for name in ("Finding", "Clips", "Time", "Told", "Where the threshold comes from")
    )
    return f'<div class="wide"><table><tr>{head}</tr>{lines}</table></div>'


def _line(found: SearchResult, kind: FindingKind, findings: Sequence[Finding]) -> str:
    side = "at or below" if kind.below else "from"
    cells = (
        str(len({finding.origin for finding in findings})),
        spelt(affected(found, findings)) if findings else "",
        f"{side} {number(found.thresholds[kind.name])} {kind.unit}",
        kind.source,
    )
    written = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
    return f'<tr><th scope="row">{escape(kind.name)}</th>{written}</tr>'


def _kind(found: SearchResult, name: str, origins: Sequence[str], heard: Mapping[str, Heard]) -> str:
    kind = found.kinds[name]
    findings = {finding.origin: finding for finding in found.by_kind()[name]}
    takes = "".join(_take(kind, findings[origin], heard.get(origin)) for origin in origins)
    heading = f'<h3>{escape(name)}</h3><p class="aside">{escape(kind.summary)} {escape(kind.advice)}</p>'
    return f'<article>{heading}<div class="takes">{takes}</div></article>'


def _take(kind: FindingKind, finding: Finding, heard: Heard | None) -> str:
    text = heard.text if heard else ""
    said = escape(f"{finding.origin}: {text}")
    body = '<p class="none">It cannot be played here.</p>'
    if heard and heard.sound:
        body = (
            f'<img src="data:image/png;base64,{heard.picture}" alt="Mel spectrogram, {said}">'
            f'<audio controls preload="metadata" aria-label="{said}" '
            f'src="data:audio/mpeg;base64,{heard.sound}"></audio>'
        )
    facts = " · ".join(escape(part) for part in dict.fromkeys((told(kind, finding), finding.detail)) if part)
    quote = f'<p class="said">“{escape(text)}”</p>' if text else ""
    return (
        f'<figure class="take"><figcaption>{escape(finding.origin)}</figcaption>{quote}{body}'
        f'<p class="facts">{facts}</p></figure>'
    )


def _spread(found: SearchResult) -> str:
    drawn = [
        histogram(found.kinds[name], [each.figure for each in figures.values()], found.thresholds[name])
        for name, figures in found.figures.items()
    ]
    drawn = [each for each in drawn if each]
    if not drawn:
        return '<p class="none">Nothing was measured.</p>'
    return f'<div class="charts">{"".join(drawn)}</div>'


def _left(found: SearchResult) -> str:
    lines = "".join(f"<li>{escape(line)}</li>" for line in unlooked(found))
    return f'<ul class="first">{lines}</ul>' if lines else '<p class="none">Everything was measured.</p>'


def _onward(commands: Sequence[str]) -> str:
    items = "".join(f"<li><pre><code>{escape(line)}</code></pre></li>" for line in commands)
    return f'<ul class="commands">{items}</ul>' if items else '<p class="none">Nothing.</p>'
