"""``tts-train sample`` from the command line, on a run that has learnt two sentences by heart."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
import torch

from tests.core.scoring.sounds import write_corpus
from tests.orpheus.learned_runs import TEXTS, write_learned_run
from tests.orpheus.trained_runs import write_run
from tts_train import sample
from tts_train.cli import main
from tts_train.contract.jobs import Line
from tts_train.datasets.takes import TakeSet
from tts_train.sampling.identity import options_of
from tts_train_orpheus import layout
from tts_train_orpheus.jobs import OrpheusSynth
from tts_train_orpheus.prompt import encode_text, inference_prompt
from tts_train_orpheus.tokenizer import load_tokenizer

torch.set_num_threads(1)

N = 4
VOICE = ["--codec", "tiny", "--max_new_tokens", 70, "--device", "cpu", "--temperature", 0.8, "--constrain", "slots"]
LIGHT = ["--metrics", "clipping,silence", "--language", "en"]
OTHERS = ("Good morning to you.", "It is cold.")
REWARD = "stop:1, duration:0.5, clipped:1"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "learned"
    write_learned_run(folder)
    return folder


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    file = tmp_path_factory.mktemp("texts") / "texts.txt"
    file.write_text("\n".join([*TEXTS, *OTHERS, TEXTS[0], "..."]) + "\n", encoding="utf-8")
    return file


def words(run, texts, out, *more):
    reward = () if "--reward" in more else ("--reward", REWARD)
    return [*map(str, ["sample", run, "--texts", texts, "--out", out, "--n", N, *VOICE, *LIGHT, *reward, *more])]


@pytest.fixture(scope="module")
def takes(run, texts, tmp_path_factory):
    out = tmp_path_factory.mktemp("takes") / "takes"
    assert main(words(run, texts, out, "--keep", "all")) == 0
    return out


@pytest.fixture
def copied(takes, tmp_path):
    shutil.copytree(takes, tmp_path / "takes")
    return tmp_path / "takes"


def rows_of(out):
    return pq.read_table(out / "takes.parquet").to_pylist()


def said(out):
    return json.loads((out / "takes.json").read_text(encoding="utf-8"))


def refused(capsys, *given):
    capsys.readouterr()
    assert main([*map(str, given)]) == 2
    return capsys.readouterr().err


def test_every_take_of_every_text_is_there(takes, run):
    about, rows = said(takes), rows_of(takes)
    assert [row["text"] for row in rows[::N]] == [*TEXTS, *OTHERS]
    assert [row["take"] for row in rows] == [*range(N)] * 4
    assert (about["takes"], about["texts"], about["left_out"]) == (16, 4, {"duplicate": 1, "empty_text": 1})
    assert about["ended"] + about["cut_off"] + about["silent"] + about["not_drawn"] == 16
    assert len({row["seed"] for row in rows}) == 16
    tokenizer = load_tokenizer("tiny")
    for row in rows:
        assert row["prompt_ids"] == inference_prompt(encode_text(tokenizer, row["text"])).tolist()
        assert row["ended"] == (row["drawn_ids"][-1] == layout.END_OF_SPEECH)
        assert row["ended"] or len(row["drawn_ids"]) == 70
        if row["error"]:
            assert row["seconds"] is row["stop"] is row["sound"] is None
            continue
        info = soundfile.info(takes / row["sound"])
        assert info.frames / info.samplerate == pytest.approx(row["seconds"])
        assert row["stop"] == 100 * row["ended"]
        assert row["clipped"] is not None
    assert about["not_judged"] == {}
    assert about["data"]["settings"]["codec"] == "tiny"
    assert not (takes / "parts").exists()
    page = (takes / "takes.html").read_text(encoding="utf-8")
    assert "Better" in page
    assert f"tts-train fit --backend orpheus --stage dpo --model.init_from {run}" in page


def test_takes_are_read_as_pairs(takes):
    found = TakeSet(takes, backend="orpheus")
    pairs, _ = found.pairs(margin=0.0)
    assert pairs
    for pair in pairs:
        better, worse = found.row(pair.chosen), found.row(pair.rejected)
        assert better["reward"] - worse["reward"] == pytest.approx(pair.margin)
        assert better["ended"]
    # Small groups: a row is read without its neighbours of another text.
    file = pq.ParquetFile(takes / "takes.parquet")
    assert max(file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)) <= 32
    with pytest.raises(Exception, match="those of 'csm' are needed"):
        TakeSet(takes, backend="csm")


def voice(run, out, **options):
    given = {
        "codec": "tiny",
        "max_new_tokens": 70,
        "device": "cpu",
        "temperature": 0.8,
        "constrain": "slots",
        **options,
    }
    return OrpheusSynth(source=run, text="-", out=out, **given)


def test_a_take_is_the_same_whatever_is_beside_it(run, takes):
    rows, job = rows_of(takes), voice(run, takes)
    for row in (rows[0], rows[7], rows[14]):
        (alone,) = job.draw([Line(text=row["text"], out=takes, seed=row["seed"])])
        assert alone.columns["drawn_ids"].tolist() == row["drawn_ids"]
        assert alone.ended == row["ended"]


def test_a_take_is_what_synth_says_with_its_seed(run, takes, tmp_path):
    row = next(row for row in rows_of(takes) if row["sound"])
    given = ["synth", run, "--text", row["text"], "--seed", row["seed"], "--out", tmp_path / "a.wav", *VOICE]
    assert main([*map(str, given)]) == 0
    assert (tmp_path / "a.wav").read_bytes() == (takes / row["sound"]).read_bytes()


def test_lines_that_are_no_utterance_are_told_and_do_not_end_the_others(run, tmp_path):
    job = OrpheusSynth(
        source=run, text="-", out=tmp_path, codec="tiny", max_new_tokens=14, device="cpu", temperature=0.8
    )
    long, tags = "word " * 40, "Say <custom_token_7> now."
    drawn = list(job.draw([Line(text=text, out=tmp_path) for text in (long, tags, TEXTS[0])]))
    assert "199 letters, and a take is one utterance of at most 180" in drawn[0].error
    assert "control tokens" in drawn[1].error
    assert not drawn[0].columns
    assert drawn[2].columns["drawn_ids"].size
    (alone,) = voice(run, tmp_path, max_new_tokens=10**6).draw([Line(text=TEXTS[0], out=tmp_path)])
    assert "and the model has room for" in alone.error


def test_another_reward_ranks_the_same_takes_anew(run, texts, takes, copied, monkeypatch, capsys):
    def never(*_):
        raise AssertionError("nothing is drawn, no weights are loaded")

    monkeypatch.setattr(OrpheusSynth, "_open", never)
    assert main(words(run, texts, copied, "--reward", "clipped:1:0.5, words:0", "--keep", "all")) == 2
    assert main(words(run, texts, copied, "--keep", "all")) == 0
    assert (copied / "takes.parquet").read_bytes() == (takes / "takes.parquet").read_bytes()
    assert (copied / "takes.json").read_text() == (takes / "takes.json").read_text()
    assert main(words(run, texts, copied, "--reward", "speech_seconds:1")) == 2
    assert "better neither high nor low" in capsys.readouterr().err
    assert main(words(run, texts, copied, "--reward", "pace_ratio:1:0.2")) == 0
    before, after = rows_of(takes), rows_of(copied)
    assert [row["drawn_ids"] for row in after] == [row["drawn_ids"] for row in before]
    assert [row["reward"] for row in after] != [row["reward"] for row in before]
    off = [row["missed"] == ["pace_ratio"] for row in after]
    assert off == [row["pace_ratio"] is not None and abs(row["pace_ratio"] - 1) > 0.2 for row in after]
    about = said(copied)
    assert about["missed"] == ({"pace_ratio": sum(off)} if any(off) else {})
    assert about["reward"] == {"pace_ratio": {"weight": 1.0, "floor": 0.2}}
    assert about["hash"] != said(takes)["hash"]
    kept = {row["sound"] for row in after if row["sound"]}
    assert kept == {path.relative_to(copied).as_posix() for path in copied.rglob("*.wav")}
    assert len(kept) <= 2 * 4, "the best and the worst of each text"
    assert main(words(run, texts, copied, "--keep", "all")) == 2
    assert "were not kept" in capsys.readouterr().err
    assert main(words(run, texts, copied, "--keep", "none")) == 0
    assert not list(copied.rglob("*.wav"))


def test_what_was_drawn_otherwise_is_not_mixed(run, texts, copied, tmp_path, capsys):
    more = tmp_path / "more.txt"
    more.write_text(texts.read_text() + "One more.\n")
    for given, told in (
        (words(run, texts, copied, "--temperature", 0.9), "--temperature was 0.8 and is 0.9"),
        (words(run, texts, copied, "--seed", 1), "--seed was 0 and is 1"),
        (words(run, texts, copied, "--n", 5), "--n was 4 and is 5"),
        (words(run, texts, copied, "--metrics", "clipping"), "--metrics was silence,clipping and is clipping"),
        (words(run, more, copied), "the hash of the texts"),
    ):
        assert told in refused(capsys, *given)
    other = tmp_path / "other"
    write_run(other)
    # A second network's run is another one once it was trained on, whatever its name.
    before = options_of(voice(run, copied, codec=str(other)))
    shutil.rmtree(other)
    write_run(other, change=lambda network: torch.nn.init.zeros_(network.lm.model.norm.weight))
    after = options_of(voice(run, copied, codec=str(other)))
    assert [name for name in before if before[name] != after[name]] == ["codec"]
    assert before["codec"].startswith(f"{other} (weights ")
    assert "the hash of the model" in refused(capsys, *words(other, texts, copied))
    assert main(words(run, texts, copied, "--batch_size", 3, "--keep", "all")) == 0, "the takes are the same"


def test_places_that_are_read_or_hold_other_things_are_refused(run, texts, tmp_path, capsys):
    assert "holds --texts" in refused(capsys, *words(run, texts, texts.parent))
    assert "is the source" in refused(capsys, *words(run, texts, run))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("Dear all")
    assert "holds files that are no takes" in refused(capsys, *words(run, texts, tmp_path / "mine"))
    assert "is a file" in refused(capsys, *words(run, texts, tmp_path / "mine" / "letter.txt"))
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["letter.txt"]


def test_takes_stand_in_no_checkpoint(run, texts, capsys):
    checkpoint = next((run / "checkpoints").glob("step-*"))
    assert "lies in the source" in refused(capsys, *words(run, texts, checkpoint / "takes"))
    assert not (checkpoint / "takes").exists()


def test_damaged_takes_are_told_and_kept_as_they_are(run, texts, copied, capsys):
    file, about = copied / "takes.parquet", (copied / "takes.json").read_bytes()
    whole = file.read_bytes()
    table = pq.read_table(file)
    flipped = bytearray(whole)
    flipped[600:700] = bytes(100)

    def write(changed):
        pq.write_table(changed, file)

    for damage, told in (
        (lambda: file.write_bytes(whole[:-40]), "cannot be read"),
        (lambda: file.write_bytes(flipped), "cannot be read"),
        (file.unlink, "cannot be read"),
        (lambda: write(table.drop_columns(["drawn_ids"])), "its column drawn_ids is missing"),
        (lambda: write(table.set_column(10, "reward", pa.array(["a"] * len(table)))), "reward is string"),
        (lambda: write(table.set_column(0, "text_id", pa.nulls(len(table), pa.string()))), "has no text_id"),
    ):
        damage()
        said = refused(capsys, *words(run, texts, copied, "--reward", "stop:1"))
        assert told in said
        assert "tts-train sample RUN" in said
        assert (copied / "takes.json").read_bytes() == about
    file.write_bytes(whole)
    assert main(words(run, texts, copied, "--reward", "stop:1")) == 0


def test_wrong_words_say_what_to_type(run, texts, tmp_path, capsys):
    out = tmp_path / "out"
    for more, told in (
        (["--n", 1], "--n is 2 or more"),
        (["--sentences", -1], "--sentences is 1 or more"),
        (["--reward", "loveliness:1"], "'loveliness' is not measured. Figures that are: stop (higher)"),
        (["--reward", "words:1"], "'words' is not measured"),
        (["--reward", "stop"], "NAME:WEIGHT:FLOOR"),
        (["--reward", "duration:1:-1"], "its floor is the largest distance from 1"),
        (["--metrics", "loveliness"], "there is no such metric"),
        (["--keeep", "all"], "Did you mean --keep"),
        (["--checkpoint", 77], "has no checkpoint '77'"),
        (["--split", "learned"], "has no sentence that a source is known to be trained on"),
    ):
        assert told in refused(capsys, *words(run, texts, out, *more))
    assert not out.exists()


def test_a_model_that_says_nothing_is_told_at_once(run, texts, tmp_path, capsys):
    told = refused(capsys, *words(run, texts, tmp_path / "out", "--max_new_tokens", 3))
    assert "None of the first 16 takes" in told
    assert not list((tmp_path / "out").rglob("*.parquet"))


def test_a_killed_command_goes_on_where_it_was(run, texts, takes, tmp_path, monkeypatch):
    """SIGKILL after the first part; the rest is drawn by the same command, and all is as if nothing had happened."""
    monkeypatch.setattr("tts_train.sampling.drawing.TAKES_OF_A_PART", N)
    out = tmp_path / "takes"
    given = words(run, texts, out, "--keep", "all")
    script = "import sys, tts_train.sampling.drawing as d; d.TAKES_OF_A_PART = 4; from tts_train.cli import main; "
    started = subprocess.Popen([sys.executable, "-c", f"{script}sys.exit(main(sys.argv[1:]))", *given])
    first, limit = out / "parts" / "part-000000.parquet", time.monotonic() + 120
    while not first.exists() and time.monotonic() < limit:
        time.sleep(0.005)
    os.kill(started.pid, signal.SIGKILL)
    assert started.wait() == -signal.SIGKILL
    assert first.exists()
    assert not (out / "takes.json").exists()
    with pytest.raises(Exception, match="holds no finished takes"):
        TakeSet(out)
    written = first.stat().st_mtime_ns
    damaged = out / "parts" / "part-000001.parquet"
    damaged.write_bytes(first.read_bytes()[:-30])
    drawn = []
    draw = OrpheusSynth.draw

    def counted(self, lines):
        drawn.extend(lines)
        return draw(self, lines)

    monkeypatch.setattr(OrpheusSynth, "draw", counted)
    removed = []
    monkeypatch.setattr("tts_train.sampling.parts.Parts.remove", lambda self: removed.append(self))
    assert main(given) == 0
    assert len(drawn) == 12
    assert first.stat().st_mtime_ns == written
    assert rows_of(out) == rows_of(takes)
    assert {key: value for key, value in said(out).items() if key != "hash"} == {
        key: value for key, value in said(takes).items() if key != "hash"
    }
    assert {path.relative_to(out): path.read_bytes() for path in out.rglob("*.wav")} == {
        path.relative_to(takes): path.read_bytes() for path in takes.rglob("*.wav")
    }
    # Killed before the parts were removed: the set is whole, and the next command removes them.
    monkeypatch.undo()
    assert (out / "parts").is_dir()
    assert main(given) == 0
    assert not (out / "parts").exists()
    assert rows_of(out) == rows_of(takes)


def test_a_kill_at_any_change_of_the_disk_while_ranking(run, texts, takes, tmp_path):
    from tests.core.disk.killing import killed_at

    given = words(run, texts, tmp_path / "takes", "--reward", "pace_ratio:1", "--keep", "pairs")
    shutil.copytree(takes, tmp_path / "whole")
    assert main([*given[:5], str(tmp_path / "whole"), *given[6:]]) == 0
    for number in range(100):
        shutil.rmtree(tmp_path / "takes", ignore_errors=True)
        shutil.copytree(takes, tmp_path / "takes")
        if not killed_at(number, lambda: main(given)):
            break
        assert main(given) == 0
        for name in ("takes.parquet", "takes.json"):
            assert (tmp_path / "takes" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), number
    assert 3 < number < 99


def test_a_call_does_the_same(run, texts, takes, copied):
    options = [*VOICE, *LIGHT]
    given = {name.removeprefix("--"): value for name, value in zip(options[::2], options[1::2], strict=True)}
    found = sample(run, texts=texts, out=copied, n=N, reward=REWARD, keep="all", **given)
    assert found["figures"] == said(takes)["figures"]
    assert found["pairs"] == len(TakeSet(takes).pairs(margin=0.0)[0])
    assert (copied / "takes.parquet").read_bytes() == (takes / "takes.parquet").read_bytes()


def test_recordings_are_what_takes_are_held_against(run, tmp_path):
    corpus = write_corpus(tmp_path / "corpus", 3)
    out, other = tmp_path / "takes", tmp_path / "other"
    given = [
        "sample",
        run,
        *VOICE,
        "--n",
        2,
        "--sentences",
        1,
        "--language",
        "en",
        "--metrics",
        "duration,speaker,silence",
    ]
    reward = ["--reward", "duration:1, speaker:1"]
    assert main([*map(str, [*given, "--texts", corpus, "--out", out, *reward])]) == 0
    rows, about = rows_of(out), said(out)
    assert list(about["reward"]) == ["duration_ratio", "speaker_similarity"]
    assert all(row["duration_ratio"] > 0 and row["speaker_similarity"] is not None for row in rows)
    assert len({row["text_id"] for row in rows}) == 1
    (tmp_path / "texts.txt").write_text(TEXTS[0] + "\n")
    words = [*given, "--texts", tmp_path / "texts.txt", "--recordings", corpus, "--out", other, *reward]
    assert main([*map(str, words)]) == 0
    about = said(other)
    assert list(about["reward"]) == ["pace_ratio", "speaker_similarity"], "no recording tells how long it is"
    assert about["not_judged"] == {"duration": {"there is no recording of this sentence": 2}}
    assert about["figures"]["speaker_similarity"]["n"] == 2


def test_a_voice_that_keeps_nothing_of_its_takes_is_refused(tmp_path, capsys):
    (tmp_path / "texts.txt").write_text("One.\n")
    words = ["--backend", "toy", tmp_path / "none", "--texts", tmp_path / "texts.txt", "--out", tmp_path / "out"]
    told = refused(capsys, "sample", *words)
    assert "cannot be kept: its stage has nothing that learns from them" in told
    assert not (tmp_path / "out").exists()


def test_a_take_of_broken_frames_is_never_preferred(run, texts, tmp_path, capsys):
    out, free = tmp_path / "takes", ["--constrain", "none", "--temperature", 0.6, "--max_new_tokens", 400]
    assert main(words(run, texts, out, *free)) == 0
    rows, about = rows_of(out), said(out)
    broken = [row for row in rows if row["sound"] and row["error"]]
    assert about["faulty"] == len([row for row in rows if row["seconds"] and row["error"]]) > 0
    assert "--constrain slots" in broken[0]["error"]
    assert "which are never the better one of a pair" in capsys.readouterr().err
    for pair in TakeSet(out).pairs(margin=0.0)[0]:
        assert not rows[pair.chosen]["error"]


def test_texts_that_cannot_be_drawn_do_not_end_those_behind_them(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("tts_train.sampling.drawing.TAKES_OF_A_PART", N)
    long = tmp_path / "long.txt"
    long.write_text("word " * 40 + "\n" + TEXTS[0] + "\n")
    assert main(words(run, long, tmp_path / "takes")) == 0
    assert said(tmp_path / "takes")["not_drawn"] == N
    assert "One that is not drawn" in (told := capsys.readouterr().err)
    assert "199 letters" in told
    long.write_text("word " * 40 + "\n")
    assert f"None of the first {N} takes" in refused(capsys, *words(run, long, tmp_path / "none"))
