"""`tts-train prepare` against encoding one clip at a time, as upstream's notebook does: seconds of sound a second.

    python benchmarks/prepare.py --name 2026-01-31-prepare-cpu-2core

The codec has the real SNAC's size and seeded weights; its speed does not hang on their values.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from common import child, machine, peak_mib, save, table, wait_for_quiet

RATE = 22_050
"""Of the recordings, so that there is something to resample."""
SNAC_24KHZ = {"encoder_dim": 48, "decoder_dim": 1024}
GOAL = 1.5


def main() -> None:
    """Run all sides and write the table."""
    arguments = _arguments()
    if arguments.task:
        task = json.loads(arguments.task)
        print(json.dumps({"notebook": _notebook, "ours": _ours, "setup": _setup}[task["side"]](task)))
        return
    results: dict[str, Any] = {"machine": machine(), "runs": {}}
    folder = Path(tempfile.mkdtemp())
    script = str(Path(__file__))
    try:
        made = child(script, {"side": "setup", "folder": str(folder), "copies": arguments.copies}, threads=2)
        for name, task in _sides().items():
            wait_for_quiet(arguments.wait)
            begun = time.monotonic()
            run = child(script, {**task, "folder": str(folder)}, threads=2)
            results["runs"][name] = {**run, "process_seconds": round(time.monotonic() - begun, 2)}
        results["seconds_of_sound"] = made
    finally:
        shutil.rmtree(folder)
    save(arguments.name, results, _report(results))
    print(_report(results))


def _sides() -> dict[str, dict[str, Any]]:
    return {
        "notebook, one clip at a time, 2 threads": {"side": "notebook", "corpus": "all"},
        "ours, in one process, 2 threads": {"side": "ours", "corpus": "all", "workers": 0, "out": "zero"},
        "ours, 2 workers, a part": {"side": "ours", "corpus": "part", "workers": 2, "out": "part"},
        "ours, 2 workers": {"side": "ours", "corpus": "all", "workers": 2, "out": "two"},
        "ours, 2 workers, second run": {"side": "ours", "corpus": "all", "workers": 2, "out": "two"},
    }


def _report(results: dict[str, Any]) -> str:
    about, runs = results["machine"], results["runs"]
    rows = [
        [
            name,
            run["audio_seconds"],
            run["seconds"],
            round(run["audio_seconds"] / run["seconds"], 2),
            run["cpu_seconds"],
            round(run["audio_seconds"] / run["cpu_seconds"], 2),
            run["peak_mib"],
            run["load_before"],
        ]
        for name, run in runs.items()
    ]
    heads = ["side", "sound s", "s", "sound s / s", "CPU s", "sound s / CPU s", "peak MiB", "load before"]
    base, one, _, two, again = runs.values()
    speed = base["seconds"] / base["audio_seconds"]
    gains = {
        "in one process": speed * one["audio_seconds"] / one["seconds"],
        "with 2 workers, their start included": speed * two["audio_seconds"] / two["seconds"],
    }
    lines = [f"* {name}: {gain:.2f} times the notebook's speed." for name, gain in gains.items()]
    reached = max(gains.values()) >= GOAL
    lines.append(f"* {'Reaches' if reached else 'Does not reach'} the goal of {GOAL} times.")
    lines.append(f"* The second run of the same command takes {again['seconds']} s and encodes nothing.")
    return "\n\n".join(
        [
            "# Preparing recordings on a CPU",
            f"{about['cpu']}, {about['cores']} cores; Python {about['python']}, torch {about['torch']}; revision "
            f"{about['revision']}; {about['started']} UTC. Command: `{about['command']}`. Speech at {RATE} Hz; "
            "SNAC of the real size with seeded weights. Loading the codec in the notebook's process is not counted.",
            table(heads, rows),
            "\n".join(lines),
        ]
    )


def _setup(task: dict[str, Any]) -> dict[str, float]:
    """Write the codec and two corpora: the sample voice, and ``copies`` of it at other loudness."""
    import soundfile
    import soxr
    from safetensors.torch import save_file

    import tts_train.demo
    from tts_train_orpheus.codec.snac_files import build_snac, tiny_config

    folder = Path(task["folder"])
    config = {**tiny_config(), **SNAC_24KHZ}
    (folder / "codec").mkdir()
    save_file(build_snac(config, None, "benchmark").state_dict(), folder / "codec" / "model.safetensors")
    (folder / "codec" / "config.json").write_text(json.dumps(config), encoding="utf-8")
    voice = Path(next(iter(tts_train.demo.__path__))) / "voice"
    lines = (voice / "metadata.csv").read_text(encoding="utf-8").splitlines()
    totals = {}
    for corpus, copies in (("part", 1), ("all", task["copies"])):
        (folder / corpus / "wavs").mkdir(parents=True)
        rows, total = [], 0.0
        for copy in range(copies):
            for line in lines:
                name, text = line.split("|", 1)
                sound, rate = soundfile.read(voice / "wavs" / f"{name}.flac", dtype="float32")
                low = soxr.resample(sound * (1 - 0.1 * copy), rate, RATE)
                soundfile.write(folder / corpus / "wavs" / f"{name}-{copy}.wav", low, RATE)
                rows.append(f"{name}-{copy}|{text}")
                total += len(low) / RATE
        (folder / corpus / "metadata.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
        totals[corpus] = round(total, 1)
    return totals


def _notebook(task: dict[str, Any]) -> dict[str, Any]:
    """Decode, resample and encode each clip for itself, and interleave its codes."""
    import soundfile
    import torch
    import torchaudio

    from tts_train_orpheus.codec.snac_files import build_snac, read_snac
    from tts_train_orpheus.layout import codes_to_tokens

    folder = Path(task["folder"])
    network = build_snac(*read_snac(str(folder / "codec")), "benchmark").eval()
    seconds, begun, cpu = 0.0, time.perf_counter(), time.process_time()
    for path in sorted((folder / task["corpus"] / "wavs").iterdir()):
        sound, rate = soundfile.read(path, dtype="float32")
        wave = torchaudio.transforms.Resample(rate, 24_000)(torch.from_numpy(sound)[None])
        with torch.inference_mode():
            codes = network.encode(wave[None])
        codes_to_tokens([level[0].numpy() for level in codes])
        seconds += len(sound) / rate
    return _figures(seconds, begun, cpu)


def _ours(task: dict[str, Any]) -> dict[str, Any]:
    """Run the prepare job as the command does, its workers' start included."""
    import logging

    from tts_train_orpheus.jobs import OrpheusPrepare

    logging.disable(logging.WARNING)
    folder = Path(task["folder"])
    job = OrpheusPrepare(
        corpus=folder / task["corpus"],
        out=folder / f"out-{task['out']}",
        codec=str(folder / "codec"),
        tokenizer="tiny",
        workers=task["workers"],
        shard_rows=16,  # the usual 256 would leave a corpus of minutes to one worker
        min_seconds=0.1,
    )
    import tts_train.families.token_lm.data.encode  # noqa: F401 - torch is loaded before the clock starts, as in the notebook

    begun, cpu = time.perf_counter(), time.process_time()
    report = dict(job.run())
    figures = _figures(report["hours"] * 3600, begun, cpu)
    return {**figures, **{name: report[name] for name in ("kept", "rows", "shards_written", "shards_reused", "hash")}}


def _figures(audio: float, begun: float, cpu: float) -> dict[str, Any]:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = time.process_time() - cpu + children.ru_utime + children.ru_stime
    return {
        "audio_seconds": round(audio, 1),
        "seconds": round(time.perf_counter() - begun, 2),
        "cpu_seconds": round(spent, 2),
        "peak_mib": max(peak_mib(), round(children.ru_maxrss / 1024)),
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", default="prepare-latest", help="name of the files in results/")
    parser.add_argument("--copies", type=int, default=3, help="times the 95 s of sample voice, each at its loudness")
    parser.add_argument("--wait", type=float, default=0.0, help="minutes to wait for a quiet machine before each run")
    parser.add_argument("--task", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
