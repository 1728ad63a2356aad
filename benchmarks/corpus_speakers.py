"""How well ``corpus speakers`` tells voices apart: clusters of human voices, and a second one among 5 % of the clips.

Voices are folders of recordings, one for each person. Debian's prompts of Asterisk are such (apt-cache search asterisk
names them; asterisk-core-sounds-{en,es,fr,it,ru}-g722, asterisk-prompt-it-menardi-wav and others), unpacked with
``dpkg-deb -x PACKAGE DIR`` and found in DIR/usr/share/asterisk/sounds; .g722 needs ``pip install 'tts-train[av]'``.

    python benchmarks/corpus_speakers.py DIR/usr/share/asterisk/sounds/*_* --out results.json

Each voice's clips are measured once. Then, for each pair of voices and several draws, clips of the first are mixed with
5 % of the second, and the clusters made of them; found is a clip of the second that is not in the cluster that most
clips of the first are in, a false alarm is a clip of the first that is not.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from itertools import permutations
from pathlib import Path

import numpy as np

from tts_train.corpus import RowRejected
from tts_train.corpus.rows.names import recordings_in
from tts_train.curation.row import ClipRow
from tts_train.curation.speakers.grouping import find_voices
from tts_train.curation.speakers.voices import SPEECH, VECTOR, choose_embedding

SHARE, MAIN = 0.05, 100
LEAST = (0.0, 1.0, 1.6, 2.5)
"""Seconds of speech below which clips are left out: prompts are mostly words, a voice's clips are sentences."""


def measured(folder: Path, most: int, embedding, draw) -> tuple[np.ndarray, np.ndarray]:
    """Return vectors and seconds of speech of some clips of a voice."""
    files = [file for file in recordings_in(folder) if "silence" not in str(file.relative_to(folder))]
    vectors, speech = [], []
    measure = embedding.work().measure
    for at in draw.permutation(len(files)):
        if len(vectors) == most:
            break
        try:
            facts = measure(files[at], ClipRow(audio="x", seconds=0.0))
        except RowRejected:
            continue
        vectors.append(facts[VECTOR])
        speech.append(facts[SPEECH])
    found = np.array(vectors, np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True), np.array(speech)


def all_at_once(voices, embedding, least: float) -> dict:
    """Cluster the clips of all voices together."""
    kept = {name: speech >= least for name, (_, speech) in voices.items()}
    vectors = np.concatenate([voices[name][0][kept[name]] for name in voices])
    speech = np.concatenate([voices[name][1][kept[name]] for name in voices])
    whose = np.concatenate([np.full(kept[name].sum(), number) for number, name in enumerate(voices)])
    labels = find_voices(vectors, speech, embedding).labels
    inside = labels >= 0
    pure = sum(max(Counter(whose[labels == label]).values()) for label in set(labels[inside]))
    return {
        "voices": len(voices),
        "clips": len(labels),
        "clusters": len(set(labels[inside])),
        "purity": round(pure / inside.sum(), 4),
        "outliers": round(1 - inside.mean(), 4),
    }


def mixed(one, other, embedding, least: float, draw) -> Counter:
    """Mix 5 % of a second voice in, and count what is found and what is a false alarm."""
    (first, first_speech), (second, second_speech) = one, other
    mine = draw.permutation(np.flatnonzero(first_speech >= least))[:MAIN]
    theirs = draw.permutation(np.flatnonzero(second_speech >= least))[: max(1, round(len(mine) * SHARE))]
    vectors = np.concatenate([first[mine], second[theirs]])
    speech = np.concatenate([first_speech[mine], second_speech[theirs]])
    labels = find_voices(vectors, speech, embedding).labels
    main = Counter(labels[: len(mine)].tolist()).most_common(1)[0][0]
    wrong = labels != main
    return Counter(
        found=int(wrong[len(mine) :].sum()), second=len(theirs), alarms=int(wrong[: len(mine)].sum()), first=len(mine)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("voices", type=Path, nargs="+", help="folders of recordings, one for each voice")
    parser.add_argument("--embeddings", default="resemblyzer")
    parser.add_argument("--clips", type=int, default=200, help="most clips of each voice")
    parser.add_argument("--draws", type=int, default=5, help="draws of each pair")
    parser.add_argument("--alike", action="append", default=[], help="A,B: folders of one person, not mixed as two")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=None)
    given = parser.parse_args()
    embedding, draw = choose_embedding(given.embeddings), np.random.default_rng(given.seed)
    started = time.monotonic()
    voices = {folder.name: measured(folder, given.clips, embedding, draw) for folder in given.voices}
    seconds = time.monotonic() - started
    clips = sum(len(speech) for _, speech in voices.values())
    one_person = {frozenset(pair.split(",")) for pair in given.alike}
    rows = []
    for least in LEAST:
        total: Counter = Counter()
        for one, other in permutations(voices, 2):
            if frozenset((one, other)) in one_person:
                continue
            for _ in range(given.draws):
                total += mixed(voices[one], voices[other], embedding, least, draw)
        row = {
            "least_speech": least,
            "recall": round(total["found"] / max(total["second"], 1), 4),
            "second": total["second"],
            "false_alarms": round(total["alarms"] / max(total["first"], 1), 4),
            "first": total["first"],
            **all_at_once(voices, embedding, least),
        }
        rows.append(row)
        print(json.dumps(row), flush=True)
    result = {"embedding": given.embeddings, "seed": given.seed, "clips": clips, "seconds": round(seconds, 1)}
    result |= {"of": {name: len(speech) for name, (_, speech) in voices.items()}, "rows": rows}
    if given.out:
        given.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
