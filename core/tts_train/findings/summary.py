"""What was found, in plain words: what to do first, and how much of the corpus it is about."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tts_train.findings.measure import Finding, FindingKind
from tts_train.findings.search import SearchResult
from tts_train.progress import duration


def summary(found: SearchResult) -> list[str]:
    """Return the summary, a line each: one for each kind that was found, then what was not looked for."""
    return [*_overview(found), *_told(found), *unlooked(found)]


def spoilt(found: SearchResult) -> set[str]:
    """Return the rows that have findings, without those that are dropped anyway."""
    return {finding.origin for finding in found.findings} & found.lengths.keys()


def affected(found: SearchResult, findings: Iterable[Finding]) -> float:
    """Return the seconds of the rows that findings are about, each row once."""
    return sum(found.lengths.get(origin, 0.0) for origin in {finding.origin for finding in findings})


def sentence(found: SearchResult, kind: FindingKind, findings: list[Finding]) -> str:
    """Say how many rows a kind is about, what is wrong, and what to do."""
    count = len({finding.origin for finding in findings})
    clips = "1 clip" if count == 1 else f"{count} clips"
    worst = findings[0]
    return (
        f"{kind.name}: {clips} ({spelt(affected(found, findings))}). {kind.summary} Worst: {worst.origin} "
        f"({told(kind, worst)}). {kind.advice}"
    )


def told(kind: FindingKind, finding: Finding) -> str:
    """Say a figure with its unit; of a row that is dropped anyway there is none, but why it is."""
    return finding.detail if finding.dropped else f"{finding.figure:.{kind.digits}f} {kind.unit}".strip()


def spelt(seconds: float) -> str:
    """Say how much sound it is; rows that are dropped anyway add nothing to it."""
    return duration(seconds) if seconds else "dropped anyway"


def in_order(found: SearchResult) -> dict[str, list[Finding]]:
    """Return what was found by name of the kind: what spoils most of the sound first, what does no harm last."""
    grouped = {name: findings for name, findings in found.by_kind().items() if findings}
    lost = {name: affected(found, findings) for name, findings in grouped.items()}
    return {name: grouped[name] for name in sorted(grouped, key=lambda name: (found.kinds[name].harmless, -lost[name]))}


def _overview(found: SearchResult) -> Iterator[str]:
    rows = len(found.rows)
    wrong = spoilt(found)
    seconds, whole = affected(found, found.findings), sum(found.lengths.values())
    if not wrong:
        # There may be findings still, of rows that are dropped anyway.
        yield f"Nothing is wrong with the {rows} clips that can be used ({duration(whole)})."
        return
    yield f"{len(wrong)} of {rows} clips have findings ({duration(seconds)} of {duration(whole)})."


def _told(found: SearchResult) -> Iterator[str]:
    for number, (name, findings) in enumerate(in_order(found).items(), 1):
        start = "Start with " if number == 1 else ""
        yield f"{number}. {start}{sentence(found, found.kinds[name], findings)}"


def unlooked(found: SearchResult) -> Iterator[str]:
    """Say what was not looked for, and why: packages that are missing, and rows that a measure does not fit."""
    if tokens := found.without_sound():
        yield f"Not measured: {tokens} rows hold token ids and no sound"
    whys: dict[str, list[str]] = {}
    for name, why in found.not_measured.items():
        whys.setdefault(why, []).append(name)
    for why, names in whys.items():
        yield f"Not measured: {', '.join(names)}, since {why}"
    for name, reasons in found.unmeasured_rows().items():
        for why, count in reasons.items():
            yield f"Not measured ({name}): {count} of {len(found.rows)} clips, since {why}"
