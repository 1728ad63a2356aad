"""The fault table: what was promised, what happened, and what the peers did."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from common import table

Row = dict[str, Any]

OURS_FAULTS = {
    "F1": "kill -9 at a random moment of training, TMPDIR on another file system",
    "F1 command lines": "the same with real command lines, nothing forked",
    "F1 stages": "kill -9 in training, every stage of both backends",
    "F2": "kill -9 inside a save, after each file of a checkpoint and after its renaming",
    "F2 stages": "kill -9 inside a save, every stage",
    "F3": "kill -9 of prepare with 2 workers",
    "F4": "newest checkpoint cut, flipped by one bit, robbed of a file, files swapped",
    "F5": "disk full in the middle of a run",
    "F8": "two runs in one directory, 50 ms apart",
    "F9": "times of files shuffled by up to a day",
    "F10": "SIGTERM, SIGINT, SIGUSR1 at a random moment",
    "F11": "a data worker killed",
    "F14": "the disk has become read-only",
    "F16": "one of two processes (gloo) killed",
}
NOT_HERE = (
    "Not in this run: loss of power (only processes were killed; files and folders are flushed before a checkpoint is "
    "renamed, which this cannot prove), a data worker that hangs, file systems without locks "
    "(`tests/core/run/test_lock.py`), memory running out, and a clock that is changed while a run goes."
)


def report(results: Row) -> str:
    """Return the tables as Markdown."""
    rows: list[Row] = [row for row in results["rows"] if "skipped" not in row]
    return "\n\n".join(
        [
            "# Faults: tts-train beside Hugging Face's Trainer and plain Lightning",
            _about(results),
            "## Figures\n\n" + _figures(rows),
            "## Kills (-9) in training, the same network, data and settings\n\n" + _kills(rows),
            "## tts-train by fault\n\n" + _ours(rows),
            "## A damaged checkpoint\n\n" + _damage(rows),
            "## The other faults, side by side\n\n" + _others(rows),
            _notes(results["rows"]),
        ]
    )


def _about(results: Row) -> str:
    about = results["machine"]
    return (
        f"{about['cpu']}, {about['cores']} cores, {about['memory_gib']} GiB; Python {about['python']}, torch "
        f"{about['torch']}, lightning {about['lightning']}, transformers {about['transformers']}; revision "
        f"{about['revision']}; {about['started']} UTC; {about['seconds'] / 60:.1f} minutes by the clock, "
        f"{about['cpu_s'] / 60:.1f} of CPU time, load average before {about['load_before']}, after "
        f"{about['load_after']}. Command: `{about['command']}`.\n\n"
        f"{len(results['rows'])} trials in {about['lanes']} lanes. Each process of a trial is forked from one parent "
        f"that has imported everything and has these threads: {', '.join(about['threads'])}; the command lines among "
        f"the trials are processes of their own and end in the same weights. Runs on {about['disk']}, TMPDIR on "
        f"{about['tmpdir']}. All sides train the toy's network (65,000 weights, dropout, AdamW) for 40 steps and save "
        "at every step (at every tenth under signals), which makes a kill hit a save far more often than in real life: "
        "the shares of the peers are of this exposure. The peers continue as their documentation says: "
        '`get_last_checkpoint`, and `ckpt_path="last"` with `save_last`. Exact means that the final weights have the '
        "same hash as those of the same side's run without a fault."
    )


def _figures(rows: Sequence[Row]) -> str:
    ours = _of(rows, "tts-train", stages=True)
    killed = [row for row in ours if row.get("killed")]
    continued = [row for row in ours if "exact" in row and row["fault"] != "F16"]
    trained = [row for row in continued if row["fault"] != "F3"]
    corpus = next((row for row in ours if row["fault"] == "F6"), {})
    hostile = next((row for row in ours if row["fault"] == "F7"), {})
    undamaged = [row for row in trained if row["fault"] != "F4"]
    lost = [row["lost"] for row in undamaged if "lost" in row]
    lines = [
        ["kills (-9) survived by the same command", "all", _share(killed, "survived")],
        ["continuations that equal the run without a fault, bit for bit", "all", _share(continued, "exact")],
        ["bytes of temporary files left over", "0", sum(row.get("leaked", 0) for row in ours)],
        ["steps lost, at most (1 save apart; 2 in the stages' runs)", "one save", max(lost, default="none run")],
        ["trials that left a checkpoint that is not whole", "0", sum(row.get("whole") is False for row in undamaged)],
        ["rows of bad recordings accounted for", "all", f"{corpus.get('accounted')} of {corpus.get('rows')}"],
        ["of them with the expected verdict", "all", _verdicts(corpus)],
        [
            "hostile files refused (one is harmless and read)",
            "all but 1",
            f"{hostile.get('refused')} of {hostile.get('files')}",
        ],
        ["code run by hostile files", "0", hostile.get("executions")],
        [
            "seconds to continue, median (set-up included)",
            "",
            _median([r["seconds"] for r in killed if "seconds" in r]),
        ],
    ]
    return table(["", "goal", "tts-train"], lines)


def _kills(rows: Sequence[Row]) -> str:
    lines = []
    for side in _sides(rows):
        found = [row for row in _of(rows, side) if row["fault"] == "F1" and row.get("killed")]
        if found:
            lost = max((row["lost"] for row in found if "lost" in row), default="")
            leaked = sum(row["leaked"] for row in found)
            lines.append([side, len(found), _share(found, "survived"), _share(found, "exact"), lost, leaked])
    return table(["side", "kills", "continued", "exact", "steps lost, at most", "temporary bytes left"], lines)


def _ours(rows: Sequence[Row]) -> str:
    lines = []
    for fault, what in OURS_FAULTS.items():
        found = [row for row in _of(rows, "tts-train", stages=True) if row["fault"] == fault and "skipped" not in row]
        if not found:
            continue
        codes = sorted({str(row["exit"]) for row in found if "exit" in row})
        lost = max((row["lost"] for row in found if "lost" in row and fault != "F4"), default="")
        survived = _share(found, "survived") if "survived" in found[0] else ""
        exact = _share(found, "exact") if "exact" in found[0] else ""
        lines.append([fault.split()[0], what, len(found), survived, exact, lost, ", ".join(codes)])
    heads = ["", "fault", "trials", "continued", "exact", "steps lost, at most", "exit code after the fault"]
    by_stage = [
        f"{side} {_share([row for row in _of(rows, side) if row.get('killed')], 'exact')}"
        for side in _sides(rows)
        if side.startswith(("orpheus", "gpt_sovits"))
    ]
    return table(heads, lines) + (f"\n\nKills by stage, exact: {', '.join(by_stage)}." if by_stage else "")


def _damage(rows: Sequence[Row]) -> str:
    lines = []
    for side in _sides(rows):
        found = [row for row in _of(rows, side) if row["fault"] == "F4"]
        if not found:
            continue
        taken = [row for row in found if row["survived"] and row.get("lost") == 0]
        stopped = [row for row in found if row["again"] != 0]
        named = sum(bool(row["set_aside"] and row["named"]) for row in found)
        lines.append(
            [side, len(found), _share(found, "survived"), _share(found, "exact"), len(taken), len(stopped), named]
        )
    heads = [
        "side",
        "damages",
        "continued",
        "exact",
        "took the damaged one",
        "stopped",
        "set aside and named",
    ]
    return table(heads, lines)


def _others(rows: Sequence[Row]) -> str:
    lines = [line for side in _sides(rows) for line in _lines_of(side, _of(rows, side))]
    return table(["side", "fault", "trials", "what happened"], sorted(lines, key=lambda line: str(line[1])))


def _lines_of(side: str, rows: Sequence[Row]) -> list[list[object]]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(
            f"{row['fault']} {row.get('what', '')}" if row["fault"] == "F12" else row["fault"], []
        ).append(row)
    lines: list[list[object]] = []
    for found in groups.values():
        fault = found[0]["fault"]
        if fault in _TOLD and "skipped" not in found[0]:
            title, tell = _TOLD[fault]
            title = f"{title}: {found[0]['what']}" if fault == "F12" else title
            lines.append([side, title, len(found), tell(found)])
    return lines


def _signals(found: list[Row]) -> str:
    codes = sorted({str(row["exit"]) for row in found})
    lost = max((row["lost"] for row in found if "lost" in row), default="?")
    return f"exit {', '.join(codes)}; {lost} steps lost at most; exact {_share(found, 'exact')}"


def _disk(found: list[Row]) -> str:
    codes = sorted({str(row["exit"]) for row in found})
    left = max(row["left_in_tmp"] for row in found)
    told = f"exit {', '.join(codes)}; continued {_share(found, 'survived')}, exact {_share(found, 'exact')}"
    return f"{told}; {left} bytes left in TMPDIR"


def _before(found: list[Row]) -> str:
    return "; ".join(f"exit {row['exit']} after {row['steps']} steps" for row in found)


def _nan(found: list[Row]) -> str:
    finite = {True: "weights finite", False: "**weights NaN**", None: "no weights written"}
    return "; ".join(f"exit {row['exit']}, {finite[row['finite']]}" for row in found)


def _two(found: list[Row]) -> str:
    codes = sorted({str(row["exit"]) for row in found})
    return f"exit codes {' '.join(codes)}; result exact {_share(found, 'exact')}"


def _rate(found: list[Row]) -> str:
    row = found[0]
    return (
        f"{'applied' if row['applied'] else '**the old one stays**'}; difference {'' if row['said'] else 'not '}printed"
    )


def _refusal(found: list[Row]) -> str:
    return "; ".join(f"{r['what']}: exit {r['exit']}, {'' if r['printed'] else 'not '}printed" for r in found)


_TOLD = {
    "F5": ("disk full in the middle", _disk),
    "F5 before": ("disk too small from the start", _before),
    "F8": ("two runs in one directory", _two),
    "F10": ("signals, a save every 10 steps", _signals),
    "F12": ("F12", _nan),
    "F15": ("changed learning rate", _rate),
    "F15 refused": ("changed model or data", _refusal),
}


def _notes(rows: Sequence[Row]) -> str:
    left_out = [f"{row['fault']} of {row['side']}: {row['skipped']}" for row in rows if "skipped" in row]
    skipped = sorted(f"{left_out.count(line)} times {line}" for line in set(left_out))
    said = {f"{row['side']}, {row['fault']}: `{row['said']}`" for row in rows if _failed(row)}
    failures = [f"* {line}" for line in sorted(said)]
    late = sum(row.get("killed") is False for row in rows)
    lines = [f"* Skipped, {line}" for line in skipped] + [
        f"* {late} kills came after the end and count nowhere."
    ] * bool(late)
    told = ["What was said where a run could not continue:\n\n" + "\n".join(failures[:20])] if failures else []
    return "\n\n".join(["\n".join([*lines, f"* {NOT_HERE}"]), *told])


def _failed(row: Row) -> bool:
    return row.get("survived") is False and bool(row.get("said"))


def _of(rows: Sequence[Row], side: str, *, stages: bool = False) -> list[Row]:
    return [
        row for row in rows if row["side"] == side or (stages and row["side"].startswith(("orpheus", "gpt_sovits")))
    ]


def _sides(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row["side"] for row in rows))


def _share(rows: Sequence[Row], key: str) -> str:
    return f"{sum(bool(row.get(key)) for row in rows)} of {len(rows)}"


def _verdicts(corpus: Row) -> str:
    wrong = corpus.get("wrong", [])
    return f"{corpus.get('rows', 0) - len(wrong)} of {corpus.get('rows')}"


def _median(values: list[float]) -> float | str:
    return sorted(values)[len(values) // 2] if values else ""
