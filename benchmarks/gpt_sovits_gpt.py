"""A step of GPT-SoVITS's stages gpt and dpo against upstream's way, stated again plainly; time, then memory.

Times alternate between the sides in one process; memory is measured in a process for each side. Batches are 4 rows of
at most 60 phonemes and 200 codes, ragged as in ``RAGGED`` or all as long as the longest.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from common import MIB, child, machine, peak_mib, save, table, wait_for_quiet

RAGGED = ((60, 200), (52, 175), (44, 150), (36, 125))
EQUAL = ((60, 200),) * 4
SIDES = ("naive", "gpt", "dpo")
GATHERED = 4
"""Batches of an optimiser step in upstream's training."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", default="gpt-sovits-gpt", help="name of the files in results/")
    parser.add_argument("--layers", type=int, default=24, help="24 are released")
    parser.add_argument("--shapes", nargs="+", choices=("ragged", "equal"), default=("ragged", "equal"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--wait", type=float, default=0.0, help="most minutes to wait for a quiet machine")
    parser.add_argument("--task", help="what a child process does")
    given = parser.parse_args()
    if given.task:
        task = json.loads(given.task)
        print(json.dumps(_time(task) if task["what"] == "time" else _memory(task)))
        return
    results: dict[str, Any] = {"machine": machine(), "layers": given.layers, "threads": given.threads}
    common = {"layers": given.layers, "rounds": given.rounds}
    for shape in given.shapes:
        wait_for_quiet(given.wait)
        results[shape] = child(__file__, {"what": "time", "shape": shape, **common}, threads=given.threads)
        for side in SIDES:
            task = {"what": "memory", "side": side, "shape": shape, **common}
            results[f"{shape} {side} memory"] = child(__file__, task, threads=given.threads)
    save(given.name, results, _report(results))
    print(_report(results))


def _time(task: dict[str, Any]) -> dict[str, Any]:
    """Alternate the sides; return each one's seconds, by the clock and of the processor."""
    _check()
    network, steps = _sides(task, SIDES)
    seen: dict[str, list[list[float]]] = {side: [] for side in SIDES}
    loads = []
    for number in range(task["rounds"] + 1):
        loads.append(round(os.getloadavg()[0], 2))
        for side in SIDES:
            marks = [(time.perf_counter(), time.process_time())]
            for part in steps[side]:
                part()
                marks.append((time.perf_counter(), time.process_time()))
            network.zero_grad()
            # The first round makes the optimisers' state.
            if number:
                seen[side].append([b - a for x, y in pairwise(marks) for a, b in zip(x, y, strict=True)])
    names = ("batch_wall", "batch_cpu", "optimizer_wall", "optimizer_cpu")
    figures = {
        side: {name: [round(each[place], 3) for each in rounds] for place, name in enumerate(names)}
        for side, rounds in seen.items()
    }
    return {"sides": figures, "loads": loads}


def _memory(task: dict[str, Any]) -> dict[str, Any]:
    """Return how far two optimiser steps, the first of which makes its state, raise the process's peak size in MiB."""
    import torch  # noqa: F401 - libraries count for neither side

    import tts_train_gpt_sovits.stages.gpt.module  # noqa: F401

    before = _resident_mib()
    network, steps = _sides(task, (task["side"],))
    for _ in range(2):
        for part in steps[task["side"]]:
            part()
        network.zero_grad()
    return {"peak_mib": peak_mib(), "grown_mib": round(peak_mib() - before)}


def _sides(task: dict[str, Any], sides: tuple[str, ...]) -> tuple[Any, dict[str, tuple[Callable[[], None], ...]]]:
    """Return the network, and for each side a batch forward and backward, then an optimiser step."""
    import torch
    from gpt_sovits_naive import NaiveScaledAdam, naive_loss, top3

    from tts_train_gpt_sovits.networks.gpt.network import GptNetwork
    from tts_train_gpt_sovits.networks.gpt.packing import pack
    from tts_train_gpt_sovits.signal.versions import GptConfig
    from tts_train_gpt_sovits.stages.gpt.dpo import preference
    from tts_train_gpt_sovits.stages.gpt.optimizer import ScaledAdam

    torch.manual_seed(0)
    network = GptNetwork(GptConfig(layers=task["layers"])).train()
    rows, pairs = (_rows(task["shape"], pairs=pairs) for pairs in (False, True))
    accuracy = top3(network.config.end)
    ours = ScaledAdam(network.parameters()) if set(sides) != {"naive"} else None
    theirs = NaiveScaledAdam(list(network.parameters())) if "naive" in sides else None

    def naive() -> None:
        naive_loss(network, rows, accuracy).backward()

    def gpt() -> None:
        output = network(pack(rows))
        output.top3(network.config.end)
        output.losses.mean().backward()

    def dpo() -> None:
        output = network(pack(pairs))
        output.top3(network.config.end)
        (preference(output.chosen_logps, output.rejected_logps).loss + output.losses.mean()).backward()

    batches = {"naive": naive, "gpt": gpt, "dpo": dpo}
    return network, {side: (batches[side], (theirs if side == "naive" else ours).step) for side in sides}  # type: ignore[union-attr]


def _rows(shape: str, *, pairs: bool) -> list[Any]:
    """Return the batch; every rejected sequence is as a coin and two places in the middle say."""
    import torch

    from tts_train.datasets import Corruption
    from tts_train_gpt_sovits.networks.gpt.packing import GptUtterance

    chance = torch.Generator().manual_seed(0)
    rows = []
    for number, (x, y) in enumerate(RAGGED if shape == "ragged" else EQUAL):
        codes = torch.randint(0, 1024, (y,), generator=chance)
        # Two places drawn evenly lie at a third and at two thirds on average.
        cut = Corruption("repeat" if number % 2 else "lost", y // 3, 2 * y // 3)
        rows.append(
            GptUtterance(
                phonemes=torch.randint(0, 700, (x,), generator=chance),
                codes=codes,
                bert=torch.randn(x, 1024, generator=chance),
                rejected=cut.of(codes) if pairs else None,
            )
        )
    return rows


def _check() -> None:
    """Refuse to compare two things: without dropout and padding both give one loss, and both optimisers one step."""
    import torch
    from gpt_sovits_naive import NaiveScaledAdam, naive_loss, top3

    from tts_train_gpt_sovits.networks.gpt.network import GptNetwork
    from tts_train_gpt_sovits.networks.gpt.packing import pack
    from tts_train_gpt_sovits.signal.versions import GptConfig
    from tts_train_gpt_sovits.stages.gpt.optimizer import ScaledAdam

    networks = []
    for kind in (NaiveScaledAdam, ScaledAdam):
        torch.manual_seed(1)
        network = GptNetwork(GptConfig(width=32, heads=2, layers=2, dropout=0.0))
        optimizer = kind(list(network.parameters()), lr=0.01)
        for _ in range(9):
            rows = _rows("equal", pairs=False)
            loss = naive_loss(network, rows, top3(1024)) if kind is NaiveScaledAdam else network(pack(rows)).loss_sum
            network.zero_grad()
            loss.backward()
            optimizer.step()
        networks.append((float(loss.detach()), torch.cat([each.detach().flatten() for each in network.parameters()])))
    (naive, theirs), (own, ours) = networks
    if abs(naive - own) > 1e-3 * own or not torch.allclose(theirs, ours, rtol=1e-2, atol=1e-4):
        raise SystemExit(
            f"The sides differ: losses {naive} and {own}, parameters by {float((theirs - ours).abs().max())}."
        )


def _report(results: dict[str, Any]) -> str:
    about = results["machine"]
    lines = [
        "# A step of GPT-SoVITS's stages gpt and dpo",
        "",
        f"{about['cpu']}, {about['cores']} cores, torch {about['torch']}, float32, {results['layers']} layers, "
        f"{results['threads']} threads, revision {about['revision']}, {about['started']}.",
        "`naive` is upstream's way stated again plainly (benchmarks/gpt_sovits_naive.py). Seconds are medians: forward "
        f"and backward of a batch, an optimiser step, and {GATHERED} batches with one, as upstream trains.",
    ]
    for shape in (shape for shape in ("ragged", "equal") if shape in results):
        sides, loads = results[shape]["sides"], results[shape]["loads"]
        rows = []
        for side in SIDES:
            cells = [
                round(median(sides[side][name]), 2)
                for name in ("batch_cpu", "optimizer_cpu", "batch_wall", "optimizer_wall")
            ]
            grown = results[f"{shape} {side} memory"]["grown_mib"]
            rows.append([side, *cells, *(round(GATHERED * cells[i] + cells[i + 1], 2) for i in (0, 2)), grown])
        heads = (
            "side",
            "batch CPU s",
            "optimiser CPU s",
            "batch s",
            "optimiser s",
            "4 + 1 CPU s",
            "4 + 1 s",
            "memory MiB",
        )
        naive, gpt, dpo = rows
        lines += ["", f"## {shape}, load average {min(loads)} to {max(loads)}", "", table(heads, rows), ""]
        lines += [
            f"gpt is {naive[5] / gpt[5]:.2f} times as fast as naive in CPU time, {naive[6] / gpt[6]:.2f} by the clock "
            f"(batch and step each: {(naive[1] + naive[2]) / (gpt[1] + gpt[2]):.2f}; goal 1.5), with "
            f"{gpt[7] / naive[7]:.2f} of its memory. dpo takes {dpo[5] / gpt[5]:.2f} times gpt's CPU time, "
            f"{dpo[6] / gpt[6]:.2f} by the clock (goal at most 1.7) and {dpo[7] / gpt[7]:.2f} of its memory (goal at "
            "most 1.3)."
        ]
    return "\n".join(lines)


def _resident_mib() -> float:
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE") / MIB


if __name__ == "__main__":
    main()
