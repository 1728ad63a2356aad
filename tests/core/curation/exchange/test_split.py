"""``corpus split``: shares are met, and nothing of one part is heard or read in another."""

from __future__ import annotations

import json
import random
from collections import Counter, defaultdict

import pytest

from tests.core.corpus.sounds import encoded, voice
from tts_train.cli import main
from tts_train.corpus.read import open_corpus
from tts_train.curation.exchange.near import Groups, share_texts
from tts_train.curation.folder import CorpusFolder
from tts_train.curation.row import ClipRow, Cut

WORDS = [
    "ash",
    "bay",
    "cot",
    "dew",
    "elm",
    "fog",
    "gum",
    "hay",
    "ice",
    "jam",
    "kelp",
    "lime",
    "moss",
    "nut",
    "oak",
    "pine",
    "quay",
    "rye",
    "silt",
    "tar",
    "urn",
    "vine",
    "wax",
    "yew",
]


def make(folder, count=400, *, recordings=80, speakers=3, seed=0, copies=0.1):
    """Rows of several recordings and speakers; some texts are another's but for one word."""
    draw = random.Random(seed)
    rows, texts = [], []
    for number in range(count):
        recording = number * recordings // count
        if texts and draw.random() < copies:
            words = draw.choice(texts).split()
            words[draw.randrange(len(words))] = draw.choice(WORDS)
            text = " ".join(words)
        else:
            text = " ".join(draw.choice(WORDS) for _ in range(draw.randint(5, 14)))
        texts.append(text)
        seconds = round(draw.uniform(1.0, 12.0), 3)
        start = 15.0 * (number % (count // recordings))
        cut = Cut(recording=f"r{recording}.wav", start=start, end=start + seconds)
        speaker = f"s{recording % speakers}" if speakers else None
        rows.append(ClipRow(audio=f"clips/{number:04}.wav", seconds=seconds, text=text, speaker=speaker, cut=cut))
    made = CorpusFolder(folder)
    made.write(rows)
    return made


def split(capsys, folder, *words) -> dict:
    assert main(["corpus", "split", str(folder.path), *map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def refused(capsys, folder, *words) -> str:
    assert main(["corpus", "split", str(folder.path), *map(str, words)]) == 2
    return capsys.readouterr().err


def parts_of(rows, what) -> dict:
    found = defaultdict(set)
    for row in rows:
        found[what(row)].add(row.split)
    return found


def nearly_same(one: str, other: str) -> bool:
    """Whether two texts are the same but for one word, by counting."""
    first, second = one.split(), other.split()
    if len(first) == len(second):
        return sum(a != b for a, b in zip(first, second, strict=True)) <= 1
    short, long = sorted((first, second), key=len)
    return len(long) - len(short) == 1 and any(short == long[:at] + long[at + 1 :] for at in range(len(long)))


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(("by", "copies"), [("recording", 0.0), ("none", 0.1), ("recording", 0.004)])
def test_nothing_leaks_and_shares_are_met(tmp_path, capsys, by, copies, seed):
    folder = make(tmp_path, seed=seed, copies=copies)
    report = split(capsys, folder, "--validation", 0.1, "--test", 0.05, "--by", by, "--seed", seed)
    rows = folder.rows()
    assert report["shares"]["validation"] == pytest.approx(0.1, abs=0.03)
    assert report["shares"]["test"] == pytest.approx(0.05, abs=0.03)
    assert sum(report["parts"].values()) == len(rows) == report["rows_in"]
    assert sum(report["seconds"].values()) == pytest.approx(sum(row.seconds for row in rows), abs=0.01)
    if by == "recording":
        assert all(len(parts) == 1 for parts in parts_of(rows, lambda row: row.cut.recording).values())
    held = [row for row in rows if row.split != "train"]
    for row in held:
        assert not any(nearly_same(row.text, other.text) for other in rows if other.split != row.split)
    # Each speaker is trained on and validated, and each length is held out.
    assert all({"train", "validation"} <= parts for parts in parts_of(rows, lambda row: row.speaker).values())
    assert len({sum(row.seconds > edge for edge in (3, 7)) for row in held}) == 3


def test_speakers_are_kept_in_one_part(tmp_path, capsys):
    folder = make(tmp_path, speakers=20, copies=0.0)
    split(capsys, folder, "--by", "speaker", "--validation", 0.1, "--test", 0.1)
    parts = parts_of(folder.rows(), lambda row: row.speaker)
    assert all(len(found) == 1 for found in parts.values())
    assert Counter(*[[next(iter(found)) for found in parts.values()]])["validation"] == 2


def test_one_long_recording_is_held_out_in_stretches(tmp_path, capsys):
    folder = make(tmp_path, recordings=1, speakers=0, copies=0.0)
    report = split(capsys, folder, "--validation", 0.05)
    assert report["stretches_of"] == 60.0
    assert report["shares"]["validation"] == pytest.approx(0.05, abs=0.02)
    stretches = parts_of(folder.rows(), lambda row: row.cut.start // 60)
    assert all(len(parts) == 1 for parts in stretches.values())


def test_the_same_again_and_another_seed(tmp_path, capsys):
    folder = make(tmp_path)
    split(capsys, folder)
    first = [row.split for row in folder.rows()]
    split(capsys, folder)
    assert [row.split for row in folder.rows()] == first
    split(capsys, folder, "--seed", 1)
    assert [row.split for row in folder.rows()] != first
    report = split(capsys, folder, "--validation", 0)
    assert set(report["parts"]) == {"train"}
    assert not (tmp_path / "validation.jsonl").exists()


def test_parts_that_came_with_the_corpus_stay(tmp_path, capsys):
    folder = make(tmp_path, 60, recordings=20, copies=0.0)
    parts = ["test"] * 9 + ["train"] * 51
    rows = [ClipRow.from_dict({**row.as_dict(), "split": part}) for row, part in zip(folder.rows(), parts, strict=True)]
    folder.write(rows)
    assert "came with parts (train: 51, test: 9)" in refused(capsys, folder, "--validation", 0.1)
    assert folder.rows() == rows
    assert "test" not in split(capsys, folder, "--validation", 0.1, "--replace", "true")["parts"]
    assert "validation" in split(capsys, folder, "--validation", 0.2)["parts"]


def test_held_out_rows_are_read_by_name_and_not_prepared(tmp_path, capsys):
    folder = make(tmp_path, 40, recordings=20, speakers=1, copies=0.0)
    (tmp_path / "clips").mkdir()
    for number, row in enumerate(folder.rows()):
        (tmp_path / row.audio).write_bytes(encoded(voice(0.5, seed=number)))
    report = split(capsys, folder, "--validation", 0.1, "--test", 0.1)
    assert report["next"] == [
        f"tts-train check {tmp_path}",
        f"tts-train check {tmp_path / 'validation.jsonl'}",
        f"tts-train check {tmp_path / 'test.jsonl'}",
    ]
    trained = {row.text for row in open_corpus(tmp_path).rows()}
    for part in ("validation", "test"):
        held = {row.text for row in open_corpus(tmp_path / f"{part}.jsonl").rows()}
        assert len(held) == report["parts"][part]
        assert not held & trained
    assert len(trained) == report["parts"]["train"]


def test_what_cannot_be_split_is_refused(tmp_path, capsys):
    folder = make(tmp_path / "one", 3, recordings=3, speakers=3, copies=0.0)
    before = folder.rows()
    assert "Nothing of" in refused(capsys, folder, "--validation", 0.3)
    assert folder.rows() == before
    assert "leave nothing to train on" in refused(capsys, folder, "--validation", 0.6, "--test", 0.5)
    assert "no share of the rows" in refused(capsys, folder, "--validation", 2)
    unnamed = make(tmp_path / "two", 30, recordings=3, speakers=0)
    assert "tts-train corpus speakers" in refused(capsys, unnamed, "--by", "speaker")


def test_texts_that_hang_together_by_one_word_are_told_apart_where_that_is_asked(tmp_path, capsys):
    folder = make(tmp_path, 60, recordings=60, copies=0.0)
    numbered = [{**row.as_dict(), "text": f"You have {at // 2} new messages."} for at, row in enumerate(folder.rows())]
    folder.write([ClipRow.from_dict(row) for row in numbered])
    assert "--texts same" in refused(capsys, folder, "--validation", 0.2)
    report = split(capsys, folder, "--validation", 0.2, "--texts", "same")
    assert report["groups"] == 30
    assert all(len(parts) == 1 for parts in parts_of(folder.rows(), lambda row: row.text).values())
    assert split(capsys, folder, "--validation", 0.2, "--texts", "any")["groups"] == 60


@pytest.mark.parametrize(
    ("one", "other", "together"),
    [
        ("The quick brown fox.", "the QUICK, brown fox!", True),
        ("The quick brown fox jumps.", "The quick red fox jumps.", True),
        ("The quick brown fox jumps.", "The quick brown fox jumps over.", True),
        ("The quick brown fox jumps.", "A slow brown fox jumps.", False),
        ("Yes.", "Yes.", False),
        ("今日はいい天気ですね", "今日はいい天気です", True),
        ("今日はいい天気ですね", "明日は雨が降るでしょう", False),
    ],
)
def test_texts_that_are_nearly_the_same(one, other, together):
    groups = Groups(2)
    share_texts(groups, [one, other])
    assert (len(groups.found()) == 1) is together
