"""The training benchmark's table, and what it says about the goals."""

from __future__ import annotations

from typing import Any

from common import table

UPSTREAM, ACCUMULATED, PADDED, OURS, SAME, ONES = (
    "hf batch 1 (upstream)",
    "hf batch 1 x 4",
    "hf padded",
    "ours",
    "ours, hf's batches",
    "ours, hf's batches of 1",
)
FIRST = 4
"""Steps over which rounding has not yet grown: losses are compared over these, and over all."""


def report(results: dict[str, Any], padded: int) -> str:
    """Return Markdown."""
    about = results["machine"]
    parts = [
        "# Training on a CPU: tts-train against Hugging Face's Trainer",
        f"{about['cpu']}, {about['cores']} cores, {about['memory_gib']} GiB; Python {about['python']}, torch "
        f"{about['torch']}, transformers {about['transformers']}, lightning {about['lightning']}; revision "
        f"{about['revision']}; {about['started']} UTC. Command: `{about['command']}`",
        f"Float32, {results['threads']} threads, AdamW (fused on both sides), clipping at 1. Vocabulary 156,940. Our "
        f"batches are packed to 2,048 tokens; a padded one has {padded} rows.",
    ]
    for name, shape in results["shapes"].items():
        parts += [f"## Shape `{name}`: {shape['model']}, {shape['rows']} rows", _about(shape), _rows(shape)]
        parts += ["\n".join(f"* {line}" for line in _goals(shape["runs"]))]
    return "\n\n".join(parts)


def _about(shape: dict[str, Any]) -> str:
    run = shape["runs"].get(OURS)
    if run is None:
        return ""
    share = run["head_parameters"] / run["parameters"]
    return (
        f"{run['parameters'] / 1e6:.1f} M parameters, {run['head_parameters'] / 1e6:.1f} M of them in the tied output "
        f"matrix: {100 * share:.0f} % of the products' arithmetic (attention left out) and "
        f"{100 * run['head_share_of_time']:.0f} % of our time. {run['real_tokens']} real tokens."
    )


def _rows(shape: dict[str, Any]) -> str:
    runs = shape["runs"]
    base = runs[OURS]["tokens_per_s"] if OURS in runs else None
    rows = [
        [
            name,
            run["steps"],
            run["tokens_per_s"],
            run["tokens_per_cpu_s"],
            f"{base / run['tokens_per_s']:.2f}" if base else "",
            f"{run['peak_mib'] / 1024:.2f}",
            run["load_before"],
        ]
        for name, run in runs.items()
    ]
    heads = ["side", "steps", "real tokens/s", "a CPU second", "ours is faster by", "peak GiB", "load before"]
    return table(heads, rows)


def _goals(runs: dict[str, Any]) -> list[str]:
    if not {UPSTREAM, ACCUMULATED, PADDED, OURS, SAME} <= set(runs):
        return []
    ours = runs[OURS]
    best = max((UPSTREAM, PADDED), key=lambda name: runs[name]["tokens_per_s"])
    speed = ours["tokens_per_s"] / runs[best]["tokens_per_s"]
    work = ours["tokens_per_cpu_s"] / runs[best]["tokens_per_cpu_s"]
    over = ours["tokens_per_s"] / runs[ACCUMULATED]["tokens_per_s"]
    memory = ours["peak_mib"] / runs[PADDED]["peak_mib"]
    lines = [
        f"Speed: {speed:.2f} times the better of the two ({best}) by the clock, {work:.2f} by CPU time; "
        f"{_verdict(speed >= 2, '2 times')}. With gradients of 4 batches accumulated, as many tokens a step as ours: "
        f"{over:.2f} times.",
        f"Memory: {memory:.2f} of the padded one; {_verdict(memory <= 0.5, 'half')}.",
    ]
    for mine, other in ((SAME, PADDED), (ONES, UPSTREAM)):
        if {mine, other} <= set(runs):
            start, whole = (_difference(runs[mine]["losses"], runs[other]["losses"], n) for n in (FIRST, None))
            lines.append(
                f"Losses of the same batches ({mine}; {other}): largest relative difference {start:.1e} over the first "
                f"{FIRST} steps, {whole:.1e} over all; {_verdict(start <= 1e-5, '1e-5')}."
            )
    return lines


def _verdict(reached: bool, goal: str) -> str:
    return f"reaches the goal ({goal})" if reached else f"does not reach the goal ({goal})"


def _difference(ours: list[float], other: list[float], count: int | None) -> float:
    return max(abs(a - b) / abs(b) for a, b in list(zip(ours, other, strict=True))[:count])
