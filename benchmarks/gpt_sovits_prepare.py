"""`tts-train prepare --backend gpt_sovits` against upstream's three scripts, stated again plainly; whole processes.

    python benchmarks/gpt_sovits_prepare.py --name 2026-01-31-gpt-sovits-prepare

Networks have the released sizes and seeded weights; speed does not hang on their values. The sides take turns.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from common import child, machine, peak_mib, save, table, wait_for_quiet

STAGES = ("text", "hubert", "semantic")
GOAL = 2.0
VERSION = "v2"


def main() -> None:
    """Run all sides in turn and write the table."""
    given = _arguments()
    if given.task:
        task = json.loads(given.task)
        print(json.dumps({"setup": _setup, "plain": _plain, "ours": _ours}[task["side"]](task)))
        return
    results: dict[str, Any] = {"machine": machine(), "threads": given.threads, "workers": given.workers, "turns": []}
    folder = Path(tempfile.mkdtemp())
    try:
        made = child(__file__, {"side": "setup", "folder": str(folder), "clips": given.clips}, threads=given.threads)
        results |= {"sound": made["sound"], "clips": made["clips"]}
        for number in range(given.turns):
            wait_for_quiet(given.wait)
            results["turns"].append(_turn(folder, number, given))
        results["same"] = _compare(folder, given.workers)
    finally:
        shutil.rmtree(folder)
    save(given.name, results, _report(results))
    print(_report(results))


def _turn(folder: Path, number: int, given: argparse.Namespace) -> dict[str, Any]:
    experiment = folder / f"experiment-{number}"
    experiment.mkdir()
    runs = {}
    for stage in STAGES:
        task = {"side": "plain", "stage": stage, "experiment": str(experiment), "folder": str(folder)}
        runs[f"plain, {stage}"] = _timed(task, given.threads)
    for workers in given.workers:
        task = {"side": "ours", "workers": workers, "out": str(folder / f"out-{workers}-{number}")}
        runs[_name(workers)] = _timed({**task, "folder": str(folder)}, given.threads)
    return runs


def _name(workers: int) -> str:
    return f"ours, {workers} workers" if workers else "ours, one process"


def _timed(task: dict[str, Any], threads: int) -> dict[str, Any]:
    """Return what a process reports, with its seconds by the clock from start to end, the interpreter's included."""
    begun = time.perf_counter()
    run = child(__file__, task, threads=threads)
    return {**run, "seconds": round(time.perf_counter() - begun, 2), "load_after": round(os.getloadavg()[0], 2)}


def _plain(task: dict[str, Any]) -> dict[str, Any]:
    import gpt_sovits_prepare_naive

    getattr(gpt_sovits_prepare_naive, task["stage"])(Path(task["experiment"]), Path(task["folder"]))
    return _spent()


def _ours(task: dict[str, Any]) -> dict[str, Any]:
    """Prepare as the command does."""
    from tts_train import prepare

    folder = Path(task["folder"])
    options = {
        "version": VERSION,
        "hubert": folder / "hubert",
        "sovits": folder / "s2G.pth",
        "device": "cpu",
        "workers": task["workers"],
        "shard_rows": 8,  # the usual 32 would leave a corpus of a minute to one worker
    }
    prepare(folder / "corpus" / "voice.list", backend="gpt_sovits", out=task["out"], **options)
    return _spent()


def _spent() -> dict[str, Any]:
    """Return the processor's seconds of this process and its children since their start, and their largest size."""
    every = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    peak = max(peak_mib(), round(every[1].ru_maxrss / 1024))
    return {"cpu_seconds": round(sum(each.ru_utime + each.ru_stime for each in every), 2), "peak_mib": peak}


def _setup(task: dict[str, Any]) -> dict[str, Any]:
    """Write the networks, and a corpus of the sample voice's first clips as WAV files with a list."""
    import soundfile

    from tts_train.demo.journey import VOICE

    folder = Path(task["folder"])
    _write_networks(folder)
    (folder / "corpus").mkdir()
    lines, seconds = [], 0.0
    for line in (VOICE / "metadata.csv").read_text(encoding="utf-8").splitlines()[: task["clips"]]:
        name, sentence = line.split("|", 1)
        sound, rate = soundfile.read(VOICE / "wavs" / f"{name}.flac", dtype="float32")
        soundfile.write(folder / "corpus" / f"{name}.wav", sound, rate)
        lines.append(f"{name}.wav|her|en|{sentence}")
        seconds += len(sound) / rate
    (folder / "corpus" / "voice.list").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return {"sound": round(seconds, 1), "clips": len(lines)}


def _write_networks(folder: Path) -> None:
    import torch
    from transformers import HubertConfig, HubertModel

    from tts_train_gpt_sovits.features.hubert import made_up_speech
    from tts_train_gpt_sovits.networks.sovits.build import build_network
    from tts_train_gpt_sovits.released.bases import s2_config
    from tts_train_gpt_sovits.released.sovits_names import to_upstream
    from tts_train_gpt_sovits.released.write import write_s2
    from tts_train_gpt_sovits.starts.sovits_base import with_tiny_semantics

    torch.manual_seed(0)
    network = HubertModel(HubertConfig()).eval()
    with torch.no_grad():
        # Frames of a network of chance are all alike; tokens would say nothing.
        deviation, mean = torch.std_mean(network(made_up_speech()[None]).last_hidden_state[0], dim=0)
        last = network.encoder.layers[-1].final_layer_norm
        last.weight.copy_(1.0 / deviation)
        last.bias.copy_(-mean / deviation)
    network.save_pretrained(folder / "hubert")
    generator = with_tiny_semantics(build_network(VERSION))
    write_s2(folder / "s2G.pth", to_upstream(generator), version=VERSION, config=s2_config(VERSION), info="benchmark")


def _compare(folder: Path, workers_each: list[int]) -> dict[str, float]:
    """Refuse to compare two things: phonemes and audio are the same, and so are nearly all tokens."""
    import numpy as np
    import soundfile

    from tts_train.datasets.store.shards import PreparedSet
    from tts_train_gpt_sovits.text.reading import symbol_table

    symbols = symbol_table(VERSION).symbols
    experiment = folder / "experiment-0"
    spoken = {cells[3]: (cells[0], cells[1]) for cells in _rows(experiment / "2-name2text.txt")}
    codes = dict(_rows(experiment / "6-name2semantic.tsv"))
    equal, total = 0, 0
    for workers in workers_each:
        data = PreparedSet(folder / f"out-{workers}-0", length_of="codes")
        if len(data) != len(spoken):
            raise SystemExit(f"The sides differ: {len(data)} and {len(spoken)} rows.")
        for row in map(data.row, range(len(data))):
            name, phones = spoken[row["norm_text"]]
            wave = soundfile.read(experiment / "5-wav32k" / name, dtype="int16")[0]
            same_text = phones == " ".join(symbols[number] for number in row["phonemes"])
            if not same_text or np.abs(wave.astype(int) - row["wave"]).max() > 1:
                raise SystemExit(f"The sides differ in {name}.")
            theirs = np.array(codes[name].split(), dtype=int)
            equal, total = equal + int((theirs == row["codes"]).sum()), total + len(theirs)
    if equal < 0.98 * total:
        raise SystemExit(f"The sides differ: only {equal} of {total} tokens are the same.")
    return {"tokens": total, "equal": equal}


def _rows(path: Path) -> list[list[str]]:
    return [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]


def _report(results: dict[str, Any]) -> str:
    about, turns = results["machine"], results["turns"]
    totals = {"plain": [_sum(turn, [f"plain, {stage}" for stage in STAGES]) for turn in turns]}
    sides = [_name(workers) for workers in results["workers"]]
    totals |= {name: [_sum(turn, [name]) for turn in turns] for name in sides}
    rows = []
    for name in (*(f"plain, {stage}" for stage in STAGES), *totals):
        each = totals.get(name) or [_sum(turn, [name]) for turn in turns]
        rows.append([name, *(round(median(run[key] for run in each), 1) for key in ("seconds", "cpu_seconds"))])
        rows[-1] += [max(run["peak_mib"] for run in each), " ".join(f"{run['seconds']:.1f}" for run in each)]
    gains = []
    for name in sides:
        pairs = list(zip(totals["plain"], totals[name], strict=True))
        clock, cpu = (median(p[key] / o[key] for p, o in pairs) for key in ("seconds", "cpu_seconds"))
        gains.append(f"* {name}: {clock:.2f} times the plain way's speed by the clock, {cpu:.2f} in CPU time.")
    gains.append(f"* The goal is {GOAL} times. Where other work ran beside it, only CPU time says something.")
    loads = [run[key] for turn in turns for run in turn.values() for key in ("load_before", "load_after")]
    return "\n\n".join(
        [
            "# Preparing recordings for GPT-SoVITS on a CPU",
            f"{about['cpu']}, {about['cores']} cores; Python {about['python']}, torch {about['torch']}, transformers "
            f"{about['transformers']}; {results['threads']} threads; revision {about['revision']}; {about['started']} "
            f"UTC. Command: `{about['command']}`. {results['clips']} English clips, {results['sound']} s, networks of "
            f"the released sizes ({VERSION}) with seeded weights. Whole processes, start and imports included; medians "
            f"of {len(turns)} turns. Load average {min(loads)} to {max(loads)}, of which the benchmark itself makes "
            "up to 2.",
            table(["side", "s", "CPU s", "peak MiB", "s of each turn"], rows),
            "\n".join(gains),
            f"Phonemes are the same, audio to 1 of 32,768, and {results['same']['equal']} of "
            f"{results['same']['tokens']} tokens.",
        ]
    )


def _sum(turn: dict[str, Any], names: list[str]) -> dict[str, float]:
    runs = [turn[name] for name in names]
    sums = {key: sum(run[key] for run in runs) for key in ("seconds", "cpu_seconds")}
    return {**sums, "peak_mib": max(run["peak_mib"] for run in runs)}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", default="gpt-sovits-prepare-latest", help="name of the files in results/")
    parser.add_argument("--clips", type=int, default=26, help="of the sample voice, 2.4 s each; 40 at most")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2], help="of our sides; 0 is one process")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--wait", type=float, default=0.0, help="most minutes to wait for a quiet machine before a turn"
    )
    parser.add_argument("--task", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
