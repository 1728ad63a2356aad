"""``tts-train corpus slice`` on human speech: are the pauses found, is a word cut, how fast, with how much memory.

    python benchmarks/corpus.py slicing DIR/usr/share/asterisk/sounds/en_US_f_Allison --name 2026-01-31-corpus-slicing

Prompts are joined with pauses of 0.3 to 2 s, and noise is added. The truth is measured on the clean prompts: speech
is what is above -40 dB of the prompt's loudest 15 ms, and a gap of 0.1 s or more is a pause. A boundary is right if the
first or last word of a clip is within 50 ms of the nearest truth. A word is cut if a clip begins or ends inside of such
speech.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr

sys.path.insert(0, str(Path(__file__).parent))
from common import machine, save, table

RATE, RANGE_DB, NEAR = 16_000, 40.0, 0.05
NOISES = (("none", None), ("white", 30), ("white", 20), ("pink", 30), ("pink", 20))
GOALS = {"boundaries": 0.95, "words_cut": 0, "times_real_time": 50, "peak_mib": 600}


def main() -> None:
    """Measure, and write the table."""
    arguments = _arguments()
    results: dict[str, Any] = {"machine": machine(), "goals": GOALS, "accuracy": [], "long": []}
    folder = Path(tempfile.mkdtemp())
    try:
        for voice in arguments.voices:
            for detector in ("silero", "energy"):
                for kind, snr in NOISES:
                    results["accuracy"].append(_accuracy(voice, arguments.prompts, kind, snr, detector, folder))
        for form in arguments.long:
            results["long"].append(_long(arguments.voices[0], form, arguments.hours, folder))
    finally:
        shutil.rmtree(folder)
    text = _report(results)
    print(text)
    if arguments.name:
        save(arguments.name, results, text)


def joined(voice: Path, count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return prompts with pauses (time,), and (n, 2) seconds where there is speech."""
    from tts_train.corpus import Limits, RowRejected, read_audio
    from tts_train.corpus.rows.names import recordings_in

    draw = np.random.default_rng(seed)
    parts, truth, at = [], [], 0
    files = recordings_in(voice)
    for number in draw.permutation(len(files)):
        if len(parts) == 2 * count:
            break
        try:
            sound = read_audio(files[number], sample_rate=RATE, limits=Limits(min_seconds=1, max_seconds=15)).samples
        except RowRejected:
            continue
        pause = np.zeros(int(RATE * draw.uniform(0.3, 2)), np.float32)
        truth += [(at + len(pause) + start, at + len(pause) + end) for start, end in _speech(sound)]
        parts += [pause, sound]
        at += len(pause) + len(sound)
    return np.concatenate(parts), np.array(truth) / RATE


def _speech(sound: np.ndarray) -> list[tuple[int, int]]:
    """Return the stretches of a clean prompt that are speech, in samples."""
    hop = RATE // 200
    power = np.square(sound[: len(sound) // hop * hop].reshape(-1, hop)).mean(axis=1)
    level = 10 * np.log10(np.maximum(np.convolve(power, np.ones(3) / 3, "same"), 1e-12))
    loud = np.flatnonzero(level > level.max() - RANGE_DB)
    breaks = np.flatnonzero(np.diff(loud) > 20)
    starts, ends = np.r_[loud[0], loud[breaks + 1]], np.r_[loud[breaks], loud[-1]] + 1
    return [(start * hop, end * hop) for start, end in zip(starts, ends, strict=True) if end - start >= 3]


def noise(kind: str, snr: float | None, speech: np.ndarray, seed: int = 1) -> np.ndarray:
    """Return noise whose power is ``snr`` dB below that of the speech (pauses not counted)."""
    if snr is None:
        return np.zeros_like(speech)
    white = np.random.default_rng(seed).normal(0, 1, len(speech))
    if kind == "pink":
        spectrum = np.fft.rfft(white)
        # 3 dB less an octave, from 20 Hz on.
        spectrum /= np.sqrt(np.maximum(np.fft.rfftfreq(len(white), 1 / RATE), 20))
        white = np.fft.irfft(spectrum, len(white))
    power = np.mean(np.square(speech[speech != 0]))
    return (white * np.sqrt(power / np.mean(white**2) / 10 ** (snr / 10))).astype(np.float32)


def _accuracy(voice: Path, prompts: int, kind: str, snr: float | None, detector: str, folder: Path) -> dict[str, Any]:
    sound, truth = joined(voice, prompts)
    path, out = folder / "joined.flac", folder / "out"
    soundfile.write(path, sound + noise(kind, snr, sound), RATE)
    _slice(path, out, "--detector", detector)
    rows = [json.loads(line) for line in (out / "corpus.jsonl").read_text(encoding="utf-8").splitlines()]
    seconds = json.loads((out / "ledger.json").read_text(encoding="utf-8"))["seconds"]
    shutil.rmtree(out)
    cuts = np.array([[row["cut"]["start"], row["cut"]["end"]] for row in rows])
    words = cuts + np.array([[row["facts"]["margins"][0], -row["facts"]["margins"][1]] for row in rows])
    away = np.concatenate([_nearest(words[:, side], truth[:, side]) for side in (0, 1)])
    inside = [bool(((truth[:, 0] < cut) & (cut < truth[:, 1])).any()) for cut in cuts.reshape(-1)]
    return {
        "voice": voice.name,
        "noise": kind if snr is None else f"{kind}, {snr} dB",
        "detector": detector,
        "prompts": prompts,
        "rows": len(rows),
        "boundaries": round(float(np.mean(away <= NEAR)), 4),
        "median_ms": round(float(np.median(away)) * 1000, 1),
        "p95_ms": round(float(np.percentile(away, 95)) * 1000, 1),
        "words_cut": sum(inside),
        "seconds": seconds,
    }


def _nearest(found: np.ndarray, truth: np.ndarray) -> np.ndarray:
    return np.abs(found[:, None] - truth[None]).min(axis=1)


def _long(voice: Path, form: str, hours: float, folder: Path) -> dict[str, Any]:
    """Cut one long stereo recording at 44.1 kHz in a process of its own."""
    sound, _ = joined(voice, 60)
    sound = soxr.resample(sound + noise("white", 30, sound), RATE, 44_100).astype(np.float32).clip(-1, 1)
    path = folder / f"long.{form}"
    repeats = int(np.ceil(hours * 3600 * 44_100 / len(sound)))
    held = io.BytesIO()
    soundfile.write(held, np.stack([sound, 0.8 * sound], axis=1), 44_100, format=form.upper())
    if form == "mp3":
        # Its frames over and over, without the first one, which says the length: the hardest way to get an MP3.
        data = held.getvalue()[_first_frame(held.getvalue()) :]
        with path.open("wb") as file:
            for _ in range(repeats):
                file.write(data)
    else:
        with soundfile.SoundFile(path, "w", 44_100, 2) as file:
            for _ in range(repeats):
                file.write(np.stack([sound, 0.8 * sound], axis=1))
    load, begun = os.getloadavg()[0], time.monotonic()
    report, usage = _slice(path, folder / "long")
    wall = time.monotonic() - begun
    length = sum(report["seconds"].values())
    size = path.stat().st_size
    shutil.rmtree(folder / "long")
    path.unlink()
    return {
        "format": form,
        "mib": round(size / 1024**2),
        "hours": round(length / 3600, 2),
        "rows": report["rows"],
        "seconds": round(wall, 1),
        "cpu_seconds": round(usage["cpu"], 1),
        "times_real_time": round(length / wall, 1),
        "times_real_time_cpu": round(length / usage["cpu"], 1),
        "peak_mib": usage["peak_mib"],
        "load_before": round(load, 2),
    }


def _first_frame(data: bytes) -> int:
    from tts_train.corpus.audio.mpeg import _first_frame as find

    found = find(io.BytesIO(data))
    assert found is not None
    return found[0] + found[2].length


# The child tells its own figures: what Linux keeps of a child's memory begins with that of the process that started it.
_CHILD = """
import json, resource, sys
from pathlib import Path
from tts_train.cli import main
code = main(sys.argv[1:])
used = resource.getrusage(resource.RUSAGE_SELF)
peak = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
print(json.dumps({"cpu": used.ru_utime + used.ru_stime, "peak_mib": round(peak / 1024)}))
sys.exit(code)
"""


def _slice(path: Path, out: Path, *words: str) -> tuple[dict[str, Any], dict[str, float]]:
    """Run the command in a process of its own; return its report and what it took."""
    command = [sys.executable, "-c", _CHILD, "corpus", "slice", str(path), "--out", str(out), "--json", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    report, usage = map(json.loads, done.stdout.splitlines()[-2:])
    return report, usage


def _report(results: dict[str, Any]) -> str:
    heads = ["voice", "noise", "detector", "clips", "boundaries within 50 ms", "median ms", "95 % ms", "words cut"]
    rows = [
        [one["voice"], one["noise"], one["detector"], one["rows"], f"{one['boundaries']:.1%}", one["median_ms"],
         one["p95_ms"], one["words_cut"]]
        for one in results["accuracy"]
    ]  # fmt: skip
    long_heads = ["format", "MiB", "hours", "clips", "s", "CPU s", "times real time", "by CPU time", "peak MiB", "load"]
    long_rows = [list(one.values()) for one in results["long"]]
    about = results["machine"]
    return "\n\n".join(
        [
            f"`{about['command']}`",
            f"{about['cpu']}, {about['cores']} cores, {about['started']} UTC, revision {about['revision']}",
            table(heads, rows),
            table(long_heads, long_rows),
            f"Goals: boundaries within 50 ms {GOALS['boundaries']:.0%}, no word cut, {GOALS['times_real_time']} times "
            f"real time on two cores, {GOALS['peak_mib']} MiB.",
        ]
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("voices", nargs="+", type=Path, help="folders of short recordings, one for each voice")
    parser.add_argument("--name", default="", help="of the files in results/; without it they are only printed")
    parser.add_argument("--prompts", type=int, default=150, help="recordings that are joined")
    parser.add_argument("--long", nargs="*", default=["flac", "mp3"], help="formats of the long recording")
    parser.add_argument("--hours", type=float, default=3.0, help="length of the long recording")
    return parser.parse_args()


if __name__ == "__main__":
    main()
