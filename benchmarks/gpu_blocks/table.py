"""Step 13: the table of an acceptance run, built from ``results.jsonl`` alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from common import table

from gpu_blocks.catalogue import BLOCKS, BY_NAME
from gpu_blocks.record import RUN, read_results

TABLE = "table.md"


def write_table(out: Path) -> list[str]:
    """Write ``table.md`` and return the criteria and parts that failed."""
    lines = read_results(out)
    failed = failures(lines)
    (out / TABLE).write_text(_page(lines, failed) + "\n", encoding="utf-8")
    return failed


def failures(lines: list[dict[str, Any]]) -> list[str]:
    """Return what failed, by block and name: criteria, parts that raised, and blocks that did not come to their end."""
    found = []
    ended = {line["block"] for line in lines if line["kind"] == "status"}
    for line in lines:
        name = f"{line['block']}: {line['name']}"
        if line["kind"] == "criterion" and not line["ok"]:
            found.append(f"{name} is {_value(line)}, goal {line['goal']}" if line["goal"] else name)
        elif line["kind"] == "failure":
            found.append(f"{name} ({line['note']})")
        elif line["kind"] == "status" and line["name"] in ("failed", "out of time"):
            found.append(f"{name} after {line['seconds']} s")
        elif line["kind"] == "began" and line["block"] not in (*ended, RUN):
            found.append(f"{line['block']}: did not come to its end")
    return found


def _page(lines: list[dict[str, Any]], failed: list[str]) -> str:
    about = [line for line in lines if line["block"] == RUN]
    head = dict.fromkeys(f"* {line['name']}: {_value(line)}" for line in about if line["kind"] == "figure")
    met = [line for line in lines if line["kind"] == "criterion" and line["ok"]]
    skipped = [line for line in lines if line["kind"] == "skipped"]
    verdict = f"{len(met)} criteria met, {len(failed)} failed, {len(skipped)} left out."
    parts = ["# Acceptance run on a card", "\n".join(head), f"**{verdict}**"]
    if failed:
        parts.append("\n".join(["Failed:", "", *(f"* {each}" for each in failed)]))
    for block in BLOCKS:
        own = [line for line in lines if line["block"] == block.name]
        if own:
            parts.append(_block(block.name, own))
    return "\n\n".join(parts)


def _block(name: str, lines: list[dict[str, Any]]) -> str:
    block = BY_NAME[name]
    ends = [line for line in lines if line["kind"] == "status"]
    told = "; ".join(f"{end['name']} after {end['seconds']} s (planned: {block.seconds} s)" for end in ends)
    told = told or ("Did not come to its end" if any(line["kind"] == "began" for line in lines) else "Not begun")
    heads = ["what", "value", "verdict", "remark"]
    rows = [_row(line) for line in lines if line["kind"] not in ("began", "status", "time")]
    parts = [f"## Step {block.step}: {name}", f"{block.what[0].upper()}{block.what[1:]}. {told}."]
    if rows:
        parts.append(table(heads, rows))
    return "\n\n".join(parts)


def _row(line: dict[str, Any]) -> list[str]:
    kind = line["kind"]
    verdict = {"failure": "FAIL", "skipped": "left out"}.get(kind, "")
    if kind == "criterion":
        verdict = "ok" if line["ok"] else "FAIL"
    remark = line.get("note") or (f"goal: {line['goal']}" if line.get("goal") else "")
    return [cell.replace("|", "/").replace("\n", " ") for cell in (line["name"], _value(line), verdict, remark)]


def _value(line: dict[str, Any]) -> str:
    value = line.get("value")
    if value is None:
        return ""
    if isinstance(value, dict):
        value = ", ".join(f"{key} {each}" for key, each in value.items())
    elif isinstance(value, list):
        value = ", ".join(map(str, value))
    elif isinstance(value, float):
        value = f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value} {line.get('unit', '')}".strip()
