"""How well ``check --deep`` finds texts that are not what is said, and clips that are cut: on human speech, by fault.

    PYTHONPATH=. python benchmarks/corpus_text_faults.py --out results.jsonl

Prompts of Debian's Asterisk in five languages (fetched with apt, never committed), in the order of their list. Each
kind of fault is put into one row in twenty, by seed, several times over with other rows each time; it is found where
one of its kinds names the row, and a false alarm is a row that was left alone and is named. Rows at even places are
those that thresholds were chosen on (``tuned``), the others give the figures that are told (``held out``).

The prompts' own list has errors: texts that are not what is said. They count as false alarms here, and are printed.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from corpus_sound_faults import RATE, SHARE, VOICES

from tests.real_voices import fetch_sounds
from tts_train.contract.metric import Take
from tts_train.corpus.audio.read import read_audio
from tts_train.findings.measure import Examined, Measured, NotMeasured
from tts_train.findings.text.acoustics import SoundScores, scores_of
from tts_train.findings.text.agreement import AgreementJudge
from tts_train.findings.text.edges import CutJudge, EdgeLevels
from tts_train.findings.text.fit import TextFit, fit_figures
from tts_train.findings.text.sounding import spoken
from tts_train.findings.text.wording import DuplicateTextJudge, OtherLanguageJudge, SpeakingRateJudge, TextLanguage
from tts_train.sound import Sound

JUDGES = (AgreementJudge(), CutJudge(), SpeakingRateJudge(), OtherLanguageJudge(), DuplicateTextJudge())
LIMITS = {kind.name: kind.threshold for judge in JUDGES for kind in judge.kinds}
CUT_S = 0.3
_TALK_DB = 30.0


@dataclass(frozen=True)
class Prompt:
    """One row: a sound by name, and a text."""

    name: str
    text: str
    cut: str = ""
    """``start`` or ``end`` where a part of the speech is cut off."""


@dataclass
class Voice:
    """One language's prompts; what was measured of a sound is kept, since faults of the text leave it as it is."""

    language: str
    prompts: list[Prompt]
    files: dict[str, Path]
    other: list[str]
    """Texts in other languages."""
    scores: dict[tuple[str, str], SoundScores] = field(default_factory=dict)
    known: dict[Any, dict[str, Any]] = field(default_factory=dict)
    spent: Counter[str] = field(default_factory=Counter)

    def sound(self, prompt: Prompt) -> Sound:
        """Return a prompt's sound, cut 0.3 s into its speech where it says so."""
        samples = read_audio(self.files[prompt.name]).samples
        if prompt.cut:
            start, end = talking(samples)
            span = round(CUT_S * RATE)
            samples = samples[start + span :] if prompt.cut == "start" else samples[: end - span]
        return Sound(samples, RATE)

    def figures(self, prompt: Prompt, near: tuple[str, ...]) -> dict[str, Any]:
        """Return all figures of a row."""
        key = (prompt, near)
        if key not in self.known:
            self.known[key] = {**self._of_sound(prompt), **self._of_text(prompt, near)}
        return self.known[key]

    def _of_sound(self, prompt: Prompt) -> dict[str, Any]:
        key = (prompt.name, prompt.cut)
        if key not in self.known:
            sound = self.sound(prompt)
            start = time.process_time()
            self.scores[key] = scores_of(sound)
            self.known[key] = {**EdgeLevels().measure(_examined(sound, prompt.text, self.language))}
            self.spent["sound"] += time.process_time() - start
            self.spent["seconds"] += sound.seconds
        return self.known[key]

    def _of_text(self, prompt: Prompt, near: tuple[str, ...]) -> dict[str, Any]:
        scores = self.scores[prompt.name, prompt.cut]
        start = time.process_time()
        try:
            found = fit_figures(scores, prompt.text, near, self.language)
        except NotMeasured:
            found = {}
        self.spent["text"] += time.process_time() - start
        self.spent["text of"] += len(scores) / 100
        try:
            written = TextLanguage().measure(_examined(Sound(np.zeros(1, np.float32), RATE), prompt.text, None))
        except NotMeasured:
            written = {}
        return {**found, **written}

    def named(self, prompts: Sequence[Prompt]) -> dict[int, set[str]]:
        """Return which kinds name each row, by its place."""
        around = TextFit.around
        rows = [
            Measured(
                origin=str(place),
                text=prompt.text,
                speaker=None,
                language=self.language,
                seconds=1.0,
                figures=self.figures(
                    prompt,
                    tuple(each.text for each in prompts[max(0, place - around) : place])
                    + tuple(each.text for each in prompts[place + 1 : place + 1 + around]),
                ),
            )
            for place, prompt in enumerate(prompts)
        ]
        found: dict[int, set[str]] = {place: set() for place in range(len(prompts))}
        for judge in JUDGES:
            for each in judge.judge(rows, LIMITS):
                found[int(each.origin)].add(each.kind)
        return found


def _examined(sound: Sound, text: str, language: str | None) -> Examined:
    take = Take(sound=sound, text=text, language=language)
    return Examined(take=take, speaker=None, raw=sound.samples[:, None], raw_rate=sound.sample_rate)


def talking(samples: np.ndarray) -> tuple[int, int]:
    """Return where speech begins and ends, in samples: within 30 dB of its loud parts."""
    size = RATE // 100
    power = np.mean(np.square(samples[: len(samples) // size * size].reshape(-1, size)), axis=1)
    levels = 10 * np.log10(power + 1e-12)
    loud = np.flatnonzero(levels >= np.quantile(levels, 0.95) - _TALK_DB)
    return int(loud[0]) * size, int(loud[-1] + 1) * size


def usual(size: int) -> bool:
    """Tell whether a file of G.722, 8,000 bytes a second, has 0.8 to 20 s of sound."""
    return 6_400 <= size <= 160_000


def read_voices(folder: Path, count: int) -> list[Voice]:
    """Return ``count`` prompts of each language with a text of 20 to 250 letters, in the order of the list."""
    packages = [f"asterisk-core-sounds-{language}{kind}" for language in VOICES for kind in ("", "-g722")]
    share = fetch_sounds(folder, *packages)
    found: list[Voice] = []
    for language, name in VOICES.items():
        list_file = share / "doc" / f"asterisk-core-sounds-{language}" / f"core-sounds-{language}.txt.gz"
        listed = re.findall(
            r"^([\w/-]+): ([^\[\]()\r\n]{20,250}?)\s*$", gzip.decompress(list_file.read_bytes()).decode(), re.MULTILINE
        )
        home = share / "asterisk" / "sounds" / name
        files = {each: home / f"{each}.g722" for each, _ in listed}
        files = {each: file for each, file in files.items() if file.is_file() and usual(file.stat().st_size)}
        texts = {each: text for each, text in listed if each in files and spoken(text, language)}
        prompts = [Prompt(each, text) for each, text in texts.items()]
        found.append(Voice(language, prompts[:count], files, []))
    for voice in found:
        voice.other = [each.text for other in found if other.language != voice.language for each in other.prompts]
    return found


Changed: TypeAlias = "dict[int, Prompt]"
Fault: TypeAlias = "Callable[[Voice, int, random.Random], Changed]"


def beside(voice: Voice, place: int, _: random.Random) -> Changed:
    """Exchange the texts of a row and the next one."""
    return exchanged(voice, place, place + 1)


def anywhere(voice: Voice, place: int, rng: random.Random) -> Changed:
    """Exchange the texts of any two rows."""
    return exchanged(voice, place, rng.randrange(len(voice.prompts)))


def sounds_of(voice: Voice, place: int) -> list[Any]:
    """Return the sounds of a text: two texts that sound the same cannot be exchanged."""
    return [sounds for _, sounds in spoken(voice.prompts[place].text, voice.language)]


def exchanged(voice: Voice, place: int, other: int) -> Changed:
    """Exchange the texts of two rows; nothing where they say the same."""
    if not 0 <= other < len(voice.prompts) or sounds_of(voice, place) == sounds_of(voice, other):
        return {}
    one, two = voice.prompts[place], voice.prompts[other]
    return {place: replace(one, text=two.text), other: replace(two, text=one.text)}


def with_text(voice: Voice, place: int, text: str | None) -> Changed:
    """Give a row another text."""
    return {} if text is None else {place: replace(voice.prompts[place], text=text)}


def without_a_word(voice: Voice, place: int, rng: random.Random) -> Changed:
    """Take a word of four sounds or more out of a text of four words or more."""
    words = voice.prompts[place].text.split()
    long = [n for n, word in enumerate(words) if sum(len(s) for _, s in spoken(word, voice.language)) >= 4]
    if len(words) < 4 or not long:
        return {}
    out = rng.choice(long)
    return with_text(voice, place, " ".join(words[:out] + words[out + 1 :]))


def with_a_word(voice: Voice, place: int, rng: random.Random) -> Changed:
    """Put a word of four sounds or more of another text into one."""
    words = voice.prompts[place].text.split()
    other = [word for word in rng.choice(voice.prompts).text.split() if word.isalpha() and word not in words]
    long = [word for word in other if sum(len(sounds) for _, sounds in spoken(word, voice.language)) >= 4]
    at = rng.randrange(len(words) + 1)
    return with_text(voice, place, " ".join([*words[:at], rng.choice(long), *words[at:]])) if long else {}


def copied(voice: Voice, place: int, rng: random.Random) -> Changed:
    """Give a row the text of an earlier one, in capitals or with other signs."""
    if not place:
        return {}
    source = rng.randrange(place)
    text = voice.prompts[source].text
    copy = rng.choice([text, text.upper(), text.replace(",", "").replace(".", " !")])
    # The source is named, too, so that it stays as it is: without it there is no copy.
    return {source: voice.prompts[source], **with_text(voice, place, copy)}


def foreign(voice: Voice, place: int, rng: random.Random) -> Changed:
    """Give a row a text of another language, of 30 letters or more."""
    return with_text(voice, place, rng.choice([text for text in voice.other if len(text) >= 30]))


def cut(end: str, voice: Voice, place: int, _: random.Random) -> Changed:
    """Cut 0.3 s of the speech of a clip that has a second of it."""
    start, stop = talking(read_audio(voice.files[voice.prompts[place].name]).samples)
    return {place: replace(voice.prompts[place], cut=end)} if stop - start >= RATE else {}


_NOT_SAID = frozenset({"swapped_text", "text_mismatch"})
_ANY_TEXT = _NOT_SAID | {"missing_words", "extra_words"}
FAULTS: dict[str, tuple[frozenset[str], Fault]] = {
    "texts of two rows side by side": (_NOT_SAID, beside),
    "texts of two rows anywhere": (_NOT_SAID, anywhere),
    "0.3 s cut off the start": (frozenset({"cut_start"}), partial(cut, "start")),
    "0.3 s cut off the end": (frozenset({"cut_end"}), partial(cut, "end")),
    "a word missing in the text": (_ANY_TEXT, without_a_word),
    "a word too many in the text": (_ANY_TEXT, with_a_word),
    "text of another language": (frozenset({"other_language"}), foreign),
    "text of an earlier row": (frozenset({"duplicate_text"}), copied),
}
"""What is put in, and the kinds of which one must name it."""


def trial(voice: Voice, fault: Fault, seed: str) -> list[Prompt]:
    """Return the rows with a fault in one of twenty of them, by seed."""
    rng = random.Random(seed)
    prompts = list(voice.prompts)
    changed: Changed = {}
    for place in rng.sample(range(len(prompts)), len(prompts)):
        if len(changed) >= max(2, round(SHARE * len(prompts))):
            break
        new = fault(voice, place, rng)
        if not set(new) & set(changed):
            changed |= new
    for place, prompt in changed.items():
        prompts[place] = prompt
    return prompts


def results(voices: Sequence[Voice], rounds: int) -> Iterator[dict[str, Any]]:
    """Yield a line for each fault, language and half, and for each row of the untouched list that is named."""
    for voice in voices:
        clean = voice.named(voice.prompts)
        for place, kinds in clean.items():
            if kinds:
                yield {
                    "named in the list as it is": sorted(kinds),
                    "language": voice.language,
                    "prompt": voice.prompts[place].name,
                    "text": voice.prompts[place].text,
                }
        for name, (kinds, fault) in FAULTS.items():
            counts = {half: Counter[str]() for half in ("tuned", "held out")}
            for number in range(rounds):
                prompts = trial(voice, fault, f"{voice.language} {name} {number}")
                for place, told in voice.named(prompts).items():
                    count = counts["held out" if place % 2 else "tuned"]
                    faulty = prompts[place] != voice.prompts[place]
                    count["put_in" if faulty else "left"] += 1
                    count["found" if faulty else "false_alarms"] += bool(told & kinds)
            for half, count in counts.items():
                yield {"fault": name, "language": voice.language, "half": half, "rows": len(voice.prompts), **count}
        spent = voice.spent
        yield {
            "language": voice.language,
            "times_real_time": {
                "sound": round(spent["sound"] / spent["seconds"], 4),
                "texts": round(spent["text"] / spent["text of"], 4),
            },
        }


def table(lines: Sequence[dict[str, Any]], half: str) -> Iterator[str]:
    """Return the table of a half: found and false alarms, in percent, by language."""
    yield f"| fault ({half}) | {' | '.join(VOICES)} |"
    yield f"| --- |{' --: |' * len(VOICES)}"
    for name in FAULTS:
        mine = {one["language"]: one for one in lines if (one.get("fault"), one.get("half")) == (name, half)}
        yield f"| {name} | {' | '.join(_cell(mine.get(language, {})) for language in VOICES)} |"


def _cell(line: Mapping[str, Any]) -> str:
    if not line.get("put_in"):
        return "–"
    recall, alarms = line.get("found", 0) / line["put_in"], line.get("false_alarms", 0) / line["left"]
    return f"{100 * recall:.0f} / {100 * alarms:.1f}"


def main() -> None:
    """Run the benchmark and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=120, help="prompts of each language")
    parser.add_argument("--rounds", type=int, default=8, help="times that each fault is put in, into other rows")
    parser.add_argument("--languages", nargs="+", choices=list(VOICES), default=list(VOICES), help="which of them")
    parser.add_argument("--out", type=Path, help="file for the figures, a line of JSON each")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        voices = read_voices(Path(folder), options.clips)
        lines = []
        asked = [voice for voice in voices if voice.language in options.languages]
        for line in results(asked, options.rounds):
            lines.append(line)
            if "fault" not in line:
                print(json.dumps(line, ensure_ascii=False), flush=True)
            if options.out:
                options.out.write_text("".join(json.dumps(one) + "\n" for one in lines), encoding="utf-8")
    for half in ("tuned", "held out"):
        print("\n".join(table(lines, half)) + "\n")


if __name__ == "__main__":
    main()
