"""How well ``check --deep`` finds faults of the sound: recall and false alarms on human speech, fault by fault.

    python benchmarks/corpus.py sound_faults --name 2026-01-31-corpus-sound-faults

Prompts of Debian's Asterisk in five languages (fetched with apt, never committed). Each kind of fault is put into one
clip in twenty, by seed, several times over with other clips each time; a fault is found where its kind names the row,
and a false alarm is a row without any fault that the kind names. Half of the clips are for looking at while thresholds
are chosen (``tuned``), the other half for the figures that are told (``held out``).
"""

from __future__ import annotations

import argparse
import io
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import soundfile
import soxr
from common import machine, save
from numpy.typing import NDArray

from tests.real_voices import fetch_sounds
from tts_train.contract.metric import Take
from tts_train.corpus.audio.containers import Limits
from tts_train.corpus.audio.read import read_audio
from tts_train.corpus.rows.utterance import RowRejected
from tts_train.findings.catalogue import Catalogue
from tts_train.findings.measure import Examined, Measure, Measured, NotMeasured
from tts_train.findings.sound import frames
from tts_train.sound import Sound

RATE = 16_000
VOICES = {
    "en": "en_US_f_Allison",
    "es": "es_MX_f_Allison",
    "fr": "fr_CA_f_June",
    "it": "it_IT_m_Carlo",
    "ru": "ru_RU_f_IvrvoiceRU",
}
SAME_PERSON = ({"en", "es"},)
SHARE = 0.05
Clip: TypeAlias = "NDArray[np.float32]"
Fault: TypeAlias = "Callable[[Clip, Material, np.random.Generator], tuple[Clip, int]]"


class Material:
    """The clips of one voice, what is mixed into them, and other people's clips."""

    def __init__(self, clips: dict[str, Clip], others: Sequence[Clip], music: Sequence[Clip]) -> None:
        self.clips, self.others, self.music = clips, others, music


def read_voices(folder: Path, count: int) -> dict[str, dict[str, Clip]]:
    """Return ``count`` prompts of each language by name, 1.5 to 15 s long."""
    share = fetch_sounds(folder, *(f"asterisk-core-sounds-{language}-g722" for language in VOICES))
    found: dict[str, dict[str, Clip]] = {}
    for language, voice in VOICES.items():
        home = share / "asterisk" / "sounds" / voice
        # 8,000 bytes a second: at least 1.5 s and at most 15 s.
        files = sorted(file for file in home.rglob("*.g722") if 12_000 <= file.stat().st_size <= 120_000)
        files = [file for file in files if "silence" not in file.parts]
        np.random.default_rng(0).shuffle(files)  # type: ignore[arg-type]
        found[language] = {f"{language}/{file.stem}": read_audio(file).samples for file in files[:count]}
    return found


def read_music(folder: Path) -> list[Clip]:
    """Return stretches of five seconds of five pieces of music."""
    share = fetch_sounds(folder, "asterisk-moh-opsound-g722")
    pieces = [read_audio(file, limits=Limits(max_seconds=1e4)).samples for file in sorted(share.rglob("*.g722"))]
    span = 5 * RATE
    return [piece[at : at + span] for piece in pieces for at in range(span, len(piece) - span, 4 * span)]


def mixed(clip: Clip, noise: Clip, decibels: float) -> Clip:
    """Return the clip with a noise so many dB below its voice."""
    levels = frames.decibels(clip, RATE)
    power = np.mean(10 ** (levels[frames.voiced(levels)] / 10))
    scaled = noise / np.sqrt(np.mean(np.square(noise))) * np.sqrt(power) * 10 ** (-decibels / 20)
    return (clip + scaled).astype(np.float32)


def noise_of(kind: str, clip: Clip, material: Material, rng: np.random.Generator) -> Clip:
    """Return white or pink noise, or the babble of six people."""
    white = rng.standard_normal(len(clip))
    if kind == "white":
        return white.astype(np.float32)
    if kind == "pink":
        hertz = np.fft.rfftfreq(len(clip), 1 / RATE)
        return np.fft.irfft(np.fft.rfft(white) / np.sqrt(np.maximum(hertz, 20)), len(clip)).astype(np.float32)
    people = rng.choice(len(material.others), 6)
    return np.sum([np.roll(np.resize(material.others[one], len(clip)), rng.integers(len(clip))) for one in people], 0)


def in_a_hall(clip: Clip, seconds: float, rng: np.random.Generator) -> Clip:
    """Return the clip with an echo of exponentially falling noise, as strong as the direct sound."""
    count = int(seconds * RATE)
    echo = rng.standard_normal(count) * 10 ** (-3 * np.arange(count) / count)
    echo /= np.sqrt(np.sum(np.square(echo)))
    echo[0] += 1
    size = len(clip) + count
    heard = np.fft.irfft(np.fft.rfft(clip, size) * np.fft.rfft(echo, size), size)[: len(clip) + RATE // 5]
    return (heard / np.abs(heard).max() * np.abs(clip).max()).astype(np.float32)


def at_rate(clip: Clip, *rates: int) -> Clip:
    """Return the clip after resampling through rates, the first being its own."""
    for given, wanted in pairwise(rates):
        clip = soxr.resample(clip, given, wanted)
    return clip.astype(np.float32)


def coded(clip: Clip, strength: float) -> Clip:
    """Return the clip after MP3: of 0 to 1, 0.9 is about 32 kbit/s."""
    file = io.BytesIO()
    soundfile.write(file, clip, RATE, format="MP3", bitrate_mode="CONSTANT", compression_level=strength)
    file.seek(0)
    return soundfile.read(file, dtype="float32")[0]


def copy_of(clip: Clip, rng: np.random.Generator) -> Clip:
    """Return the clip again: as it is, quieter and cut, by way of MP3, or at another rate and back."""
    return (
        lambda: clip.copy(),
        lambda: clip[int(rng.uniform(0.05, 0.2) * RATE) : -800] * np.float32(0.4),
        lambda: coded(clip[int(rng.uniform(0, 0.1) * RATE) :], 0.9),
        lambda: at_rate(clip, RATE, 11_025, RATE),
    )[int(rng.integers(4))]()


def with_pause(clip: Clip, seconds: float, where: float) -> Clip:
    """Return the clip with room sound put in at the quietest place near a share of its length."""
    levels = frames.decibels(clip, RATE)
    near = np.arange(int(len(levels) * max(0, where - 0.15)), max(1, int(len(levels) * min(1, where + 0.15))))
    at = int(near[np.argmin(levels[near])] * frames.HOP_S * RATE)
    room = np.resize(clip[max(0, at - 400) : at + 400], int(seconds * RATE)) * np.float32(0.5)
    return np.concatenate([clip[:at], room, clip[at:]])


def of_two(clip: Clip, other: Clip) -> Clip:
    """Return (time, 2): the clip in one channel, another one in the other."""
    return np.stack([clip, np.resize(other, len(clip))], axis=1)


def faults() -> dict[str, tuple[str, Fault]]:
    """Return what is put in, by name: the kind that should name it, and how it is made."""
    made: dict[str, tuple[str, Fault]] = {
        "duplicate_sound": ("duplicate_sound", lambda clip, _, rng: (copy_of(clip, rng), RATE)),
        "other_speaker": ("other_speaker", lambda _, material, rng: (one_of(material.others, rng), RATE)),
        "music": ("music", lambda _, material, rng: (one_of(material.music, rng), RATE)),
        "music_5_db_below": ("music", lambda clip, material, rng: (over_music(clip, material, rng), RATE)),
        "reverberant_0.8_to_1.5_s": (
            "reverberant",
            lambda clip, _, rng: (in_a_hall(clip, rng.uniform(0.8, 1.5), rng), RATE),
        ),
        "clipping": ("clipping", lambda clip, _, rng: (overdriven(clip, rng.uniform(0.3, 0.7)), RATE)),
        "dc_offset_2_to_10_%": ("dc_offset", lambda clip, _, rng: (off_centre(clip, rng.uniform(0.02, 0.1)), RATE)),
        "band_limited_8_khz_in_16": ("band_limited", lambda clip, *_: (at_rate(clip, RATE, 8_000, RATE), RATE)),
        "band_limited_8_khz_in_24": ("band_limited", lambda clip, *_: (at_rate(clip, RATE, 8_000, 24_000), 24_000)),
        "level_12_db": ("level", lambda clip, *_: (clip * np.float32(10 ** (-12 / 20)), RATE)),
        "silence_inside_1.5_s": ("silence_inside", lambda clip, *_: (with_pause(clip, 1.5, 0.5), RATE)),
        "silence_around_1.5_s": ("silence_around", lambda clip, *_: (late(clip, 1.5), RATE)),
        "channels_differ": (
            "channels_differ",
            lambda clip, material, rng: (of_two(clip, one_of(material.others, rng)), RATE),
        ),
    }
    for kind in ("white", "pink", "babble"):
        for decibels in (5, 10):
            made[f"noisy_{kind}_{decibels}_db"] = ("noisy", _noisy(kind, decibels))
    made["noisy_white_5_db_by_dnsmos"] = ("poor_quality", _noisy("white", 5))
    return made


def one_of(clips: Sequence[Clip], rng: np.random.Generator) -> Clip:
    """Return one of the clips."""
    return clips[int(rng.integers(len(clips)))]


def over_music(clip: Clip, material: Material, rng: np.random.Generator) -> Clip:
    """Return the clip with music 5 dB below its voice."""
    return mixed(clip, np.resize(one_of(material.music, rng), len(clip)), 5)


def off_centre(clip: Clip, offset: float) -> Clip:
    """Return the clip with an offset, as a share of full scale."""
    return clip * np.float32(0.8) + np.float32(offset)


def late(clip: Clip, seconds: float) -> Clip:
    """Return the clip behind a silence."""
    return np.concatenate([np.zeros(int(seconds * RATE), np.float32), clip])


def _noisy(kind: str, decibels: float) -> Fault:
    return lambda clip, m, rng: (mixed(clip, noise_of(kind, clip, m, rng), decibels), RATE)


def overdriven(clip: Clip, share: float) -> Clip:
    """Return the clip with everything beyond a share of its peak cut off, at full scale."""
    peak = share * float(np.abs(clip).max())
    return (np.clip(clip, -peak, peak) / peak).astype(np.float32)


def measured(origin: str, samples: Clip, rate: int, measures: Sequence[Measure], seconds: dict[str, float]) -> Measured:
    """Measure samples as the command does, by way of 16-bit WAV."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV", subtype="PCM_16")
    audio = read_audio(file.getvalue(), keep_raw=True)
    take = Take(sound=Sound(audio.samples, audio.source_rate), text="")
    examined = Examined(take=take, speaker=None, raw=audio.raw, raw_rate=audio.source_rate, warnings=audio.warnings)  # type: ignore[arg-type]
    figures: dict[str, Any] = {}
    for measure in measures:
        start = time.process_time()
        with suppress(NotMeasured):
            figures |= measure.measure(examined)
        seconds[measure.name] = seconds.get(measure.name, 0.0) + time.process_time() - start
    seconds["sound"] = seconds.get("sound", 0.0) + audio.seconds
    return Measured(origin=origin, text="", speaker=None, language=None, seconds=audio.seconds, figures=figures)


def held_out(name: str) -> bool:
    """Tell whether a clip belongs to the half that no threshold was chosen on."""
    return zlib.crc32(name.encode()) % 2 == 1


class Bench:
    """Figures of one voice's clean clips, and what the judges say when faults are among them."""

    def __init__(self, catalogue: Catalogue, material: Material, seconds: dict[str, float]) -> None:
        self.catalogue, self.material, self.seconds = catalogue, material, seconds
        self.measures = list(catalogue.measures.values())
        self.thresholds = {name: kind.threshold for name, kind in catalogue.kinds.items()}
        self.clean = {name: measured(name, clip, RATE, self.measures, seconds) for name, clip in material.clips.items()}

    def _needed(self, kind: str) -> list[Measure]:
        """Return the measures that a kind needs: the others would only take time."""
        judge = next(judge for judge in self.catalogue.judges if any(each.name == kind for each in judge.kinds))
        return [self.catalogue.measures[each.name] for each in judge.measures]

    def named(self, rows: Sequence[Measured], kind: str) -> set[str]:
        """Return the rows that a kind names."""
        judges = [judge for judge in self.catalogue.judges if any(each.name == kind for each in judge.kinds)]
        return {each.origin for judge in judges for each in judge.judge(rows, self.thresholds) if each.kind == kind}

    def trial(self, kind: str, fault: Fault, names: Sequence[str], seed: int) -> tuple[set[str], set[str], set[str]]:
        """Put a fault into one in twenty of the named clips; return those, the clean ones, and the rows named."""
        rng = np.random.default_rng(seed)
        hit = {str(name) for name in rng.choice(names, max(1, round(SHARE * len(names))), replace=False)}
        rows = {name: self.clean[name] for name in names}
        for name in sorted(hit):
            faulty, rate = fault(self.material.clips[name], self.material, rng)
            try:
                row = measured(name, faulty, rate, self._needed(kind), {})
            except RowRejected as rejected:
                reasons = self.catalogue.kinds[kind].reasons
                # The command drops such a row by name, and tells it under this kind.
                rows.pop(name)
                hit -= set() if rejected.reason in reasons else {name}
                continue
            if kind == "duplicate_sound":
                # The copy is a row of its own, beside the clip.
                rows[f"{name} again"] = Measured(**{**vars(row), "origin": f"{name} again"})
            else:
                rows[name] = row
        gone = {name for name in hit if name not in rows}
        return hit, set(names) - hit, self.named(list(rows.values()), kind) | gone


def results(voices: dict[str, dict[str, Clip]], music: list[Clip], draws: int) -> Iterator[dict[str, Any]]:
    """Yield a line for each fault, voice and half."""
    catalogue = Catalogue(tuple(judge for judge in Catalogue.load().working() if "sound" in type(judge).__module__))
    seconds: dict[str, float] = {}
    for language, clips in voices.items():
        same = next((people for people in SAME_PERSON if language in people), {language})
        others = [clip for other, theirs in voices.items() if other not in same for clip in theirs.values()]
        bench = Bench(catalogue, Material(clips, others, music), seconds)
        for name, (kind, fault) in faults().items():
            for half, mine in (("tuned", False), ("held out", True)):
                names = [each for each in clips if held_out(each) is mine]
                trials = [
                    bench.trial(kind, fault, names, zlib.crc32(f"{name}{draw}".encode())) for draw in range(draws)
                ]
                clean = bench.named([bench.clean[each] for each in names], kind)
                yield {
                    "fault": name,
                    "kind": kind,
                    "language": language,
                    "half": half,
                    "put_in": sum(len(hit) for hit, _, _ in trials),
                    "found": sum(len(hit & told) for hit, _, told in trials),
                    "clean": len(names),
                    "false_alarms": len(clean),
                }
    for name, spent in seconds.items():
        if name != "sound":
            yield {"measure": name, "times_real_time": round(spent / seconds["sound"], 4)}


def table(lines: Sequence[dict[str, Any]], half: str) -> Iterator[str]:
    """Return the table of a half, over all voices."""
    yield f"| fault ({half}) | told as | put in | found | false alarms |"
    yield "| --- | --- | --: | --: | --: |"
    for name in dict.fromkeys(line["fault"] for line in lines if "fault" in line):
        mine = [line for line in lines if line.get("fault") == name and line["half"] == half]
        total = {key: sum(line[key] for line in mine) for key in ("put_in", "found", "clean", "false_alarms")}
        recall, alarms = total["found"] / total["put_in"], total["false_alarms"] / total["clean"]
        yield f"| {name} | {mine[0]['kind']} | {total['put_in']} | {recall:.1%} | {alarms:.1%} |"


def main() -> None:
    """Run the benchmark and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=40, help="clips of each language")
    parser.add_argument("--draws", type=int, default=8, help="times that each fault is put in, into other clips")
    parser.add_argument("--name", help="write results/NAME.json and .md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name in ("voices", "music"):
            (Path(folder) / name).mkdir()
        voices, music = read_voices(Path(folder) / "voices", options.clips), read_music(Path(folder) / "music")
    lines = list(results(voices, music, options.draws))
    text = told(lines)
    if options.name:
        save(options.name, {**machine(), "clips": options.clips, "draws": options.draws, "rows": lines}, text)
    print(text)


def told(lines: Sequence[dict[str, Any]]) -> str:
    """Return both tables and the time that measures take, as Markdown."""
    tables = ["\n".join(table(lines, half)) for half in ("held out", "tuned")]
    times = [f"| {line['measure']} | {line['times_real_time']} |" for line in lines if "measure" in line]
    return "\n\n".join([*tables, "\n".join(["| measure | times real time, one core |", "| --- | --: |", *times])])


if __name__ == "__main__":
    main()
