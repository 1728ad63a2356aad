"""What was found, in plain words: what to do first, and how much of the corpus it is about."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tts_train.findings.measure import Finding, FindingKind
from tts_train.findings.search import SearchResult
from tts_train.progress import duration


def summary(found: SearchResult) -> list[str]:
    """Return the summary, a line each: one for each kind that was found, then what was not looked for."""
    return [*_overview(found), *_told(found), *_unlooked(found)]


def affected(found: SearchResult, findings: Iterable[Finding]) -> float:
    """Return the seconds of the rows that findings are about, each row once."""
    return sum(found.lengths.get(origin, 0.0) for origin in {finding.origin for finding in findings})


def sentence(found: SearchResult, kind: FindingKind, findings: list[Finding]) -> str:
    """Say how many rows a kind is about, what is wrong, and what to do."""
    count = len({finding.origin for finding in findings})
    clips = "1 clip" if count == 1 else f"{count} clips"
    worst = findings[0]
    figure = f"{worst.figure:.{kind.digits}f} {kind.unit}".strip()
    return (
        f"{kind.name}: {clips} ({duration(affected(found, findings))}). {kind.summary} Worst: {worst.origin} "
        f"({figure}). {kind.advice}"
    )


def _overview(found: SearchResult) -> Iterator[str]:
    rows = len(found.rows)
    wrong = {finding.origin for finding in found.findings}
    seconds, whole = affected(found, found.findings), sum(found.lengths.values())
    if not wrong:
        yield f"Nothing was found in {rows} clips ({duration(whole)})."
        return
    yield f"{len(wrong)} of {rows} clips have findings ({duration(seconds)} of {duration(whole)})."


def _told(found: SearchResult) -> Iterator[str]:
    grouped = {name: findings for name, findings in found.by_kind().items() if findings}
    # In the catalogue's order, which is that of importance.
    for number, (name, findings) in enumerate(grouped.items(), 1):
        start = "Start with " if number == 1 else ""
        yield f"{number}. {start}{sentence(found, found.kinds[name], findings)}"


def _unlooked(found: SearchResult) -> Iterator[str]:
    whys: dict[str, list[str]] = {}
    for name, why in found.not_measured.items():
        whys.setdefault(why, []).append(name)
    for why, names in whys.items():
        yield f"Not measured: {', '.join(names)}, since {why}"
    for name, reasons in found.unmeasured_rows().items():
        for why, count in reasons.items():
            yield f"Not measured ({name}): {count} of {len(found.rows)} clips, since {why}"
