"""Takes: drawn alike whatever is beside them, learnt from as they were drawn, by the commands that users type."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from tests.core.datasets.takes import take, write_takes
from tests.gpt_sovits.gpt_sets import write_set
from tts_train.cli import main
from tts_train.contract import ConfigError, DataError, Line
from tts_train.datasets import TakeSet
from tts_train.demo.journey import VOICE
from tts_train.recipes import find_recipe
from tts_train.testing import check_backend
from tts_train_gpt_sovits.networks.gpt.generate import GptLine, SamplingOptions, generate_lines
from tts_train_gpt_sovits.networks.gpt.packing import GptUtterance, pack
from tts_train_gpt_sovits.stages.gpt.batches import RehearsalOptions
from tts_train_gpt_sovits.stages.gpt.data import GptData
from tts_train_gpt_sovits.starts.gpt import load_initial
from tts_train_gpt_sovits.voice import takes as takes_module
from tts_train_gpt_sovits.voice.synth import GptSovitsSynth

CLIPS, TAKES, MOST = 6, 3, 60
TEXTS = {
    "morning": "Good morning.",
    "weather": "It is cold today, and it may rain later.",
    "train": "The train leaves at noon.",
    "house": "They live in a small house.",
    "bread": "We bought bread and milk.",
}
NONE = Path("none.wav")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("takes")


@pytest.fixture(scope="module")
def gpt(folder):
    """A run of the stage gpt, of a few steps on a few clips."""
    corpus = folder / "corpus"
    (corpus / "wavs").mkdir(parents=True)
    lines = (VOICE / "metadata.csv").read_text(encoding="utf-8").splitlines()[:CLIPS]
    (corpus / "metadata.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for line in lines:
        shutil.copy(VOICE / "wavs" / f"{line.split('|')[0]}.flac", corpus / "wavs")
    words = ["--corpus", corpus, "--out", folder / "prepared", "--models", "tiny", "--language", "en"]
    assert main(["prepare", "--backend", "gpt_sovits", *map(str, words)]) == 0
    return fitted("gpt", folder / "prepared", folder / "voice-gpt", "--trainer.max_steps", 12, "--listen.sentences", 0)


def fitted(stage, data, run, *words):
    recipe = ["-c", find_recipe("gpt_sovits", f"{stage}-tiny"), "--data.path", data, "--run_dir", run]
    assert main(["fit", *map(str, [*recipe, "--checkpoint.every_n_steps", 2, *words])]) == 0
    return run


def job_for(gpt, **options):
    return GptSovitsSynth(source=gpt, text="-", out=NONE, max_new_tokens=MOST, device="cpu", **options)


def line(text, **given):
    return Line(text=text, out=NONE, **given)


def lines_of(texts=TEXTS, count=TAKES):
    return [(name, line(text, seed=seed)) for name, text in texts.items() for seed in range(count)]


@pytest.fixture(scope="module")
def drawn(gpt):
    """Takes of every text."""
    lines = lines_of()
    return [(*of, take) for of, take in zip(lines, job_for(gpt).draw([each for _, each in lines]), strict=True)]


@pytest.fixture(scope="module")
def takes(gpt, drawn, folder):
    """A set of them: of each text the first is best, the second was cut off, the third could not be judged."""
    rewards = (1.5, -0.5, None)
    taken = [(name, of, replace(take, ended=of.seed != 1), rewards[of.seed]) for name, of, take in drawn]
    return sampled(folder / "sampled", gpt, taken)


def sampled(folder, gpt, taken, **about):
    """Write takes, each with its text's id, its line and its reward, as ``tts-train sample`` does."""
    rows, job = [], job_for(gpt)
    for name, of, drawn, reward in taken:
        more = {"text": of.text, "language": of.language, "ended": drawn.ended, "seed": of.seed, **drawn.columns}
        rows.append(take(name, of.seed, reward, **more))
    about = {"backend": "gpt_sovits", "data": job.known(), **about}
    return write_takes(folder, rows, columns=job.drawn_columns(), **about)


def same(one, other):
    assert one.frames == other.frames
    assert (one.ended, one.error) == (other.ended, other.error)
    assert one.columns.keys() == other.columns.keys()
    for name in one.columns:
        np.testing.assert_array_equal(one.columns[name], other.columns[name])
    np.testing.assert_array_equal(one.sound.samples, other.sound.samples)


def test_a_take_is_the_same_whatever_is_drawn_beside_it(gpt, drawn, monkeypatch):
    job, lines = job_for(gpt), [of for _, of, _ in drawn]
    some = [4, 0, 11]
    for place, alone in zip(some, job.draw([lines[place] for place in some]), strict=True):
        same(alone, drawn[place][2])
    monkeypatch.setattr(takes_module, "_MOST_ON_CPU", 2)
    for whole, paged in zip(drawn, job.draw(lines[:5]), strict=False):
        same(paged, whole[2])
    for name in TEXTS:
        assert len({tuple(take.frames) for of, _, take in drawn if of == name}) == TAKES, "each seed draws another"


def test_a_take_is_what_synth_says_with_its_seed(gpt, drawn, folder):
    _, said, take = drawn[4]
    words = ["--text", said.text, "--seed", said.seed, "--max_new_tokens", MOST, "--out", folder / "said.wav"]
    assert main(["synth", str(gpt), *map(str, words)]) == 0
    sound, rate = soundfile.read(folder / "said.wav", dtype="float32")
    assert rate == take.sound.sample_rate
    assert take.frames == list(take.columns["codes"])
    np.testing.assert_allclose(sound, np.clip(take.sound.samples, -1, 1), atol=1e-4)


def test_what_cannot_be_said_is_told_with_its_line(gpt):
    lines = [line("Hello."), line("!?"), line("really " * 300), line("Hello.", language="fr")]
    first, empty, long, french = job_for(gpt).draw(lines)
    assert first.error is None
    assert first.sound is not None
    assert "empty_text" in empty.error
    assert "phonemes are more than the 540" in long.error
    assert "zh, en, ja, ko, yue" in french.error
    assert (empty.sound, empty.frames, empty.columns) == (None, (), {})


def test_chinese_takes_keep_the_features_that_they_were_drawn_with(gpt):
    job = job_for(gpt)
    (english,) = job.draw([line("Hello.")])
    assert english.columns["bert"] is None
    (chinese,) = job.draw([line("今天天气很好。", language="zh")])
    columns = chinese.columns
    bert = columns["bert"].reshape(len(columns["phonemes"]), -1)
    assert bert.dtype == np.float16
    assert not bert[: columns["prompt_phonemes"]].any(), "the reference is English"
    assert bert[columns["prompt_phonemes"] :].any()


def test_takes_are_drawn_of_a_gpt_and_not_of_a_sovits(gpt):
    job = GptSovitsSynth(source=Path("tiny-sovits"), text="-", out=NONE, gpt=str(gpt))
    with pytest.raises(ConfigError, match=f"sample {gpt} --sovits tiny-sovits"):
        list(job.draw([line("Hello.")]))


def opened(path, **options):
    data = GptData(str(path), pairs="made", **{"max_tokens": 1024, "val_share": 0.2, **options})
    data.setup("fit")
    return data


def test_training_scores_a_pair_as_it_was_drawn(gpt, drawn, takes):
    """The log-probabilities in the objective are those of the draw, the prompt's codes left out of both."""
    network = load_initial(str(gpt)).eval()
    data, job = opened(takes, val_share=0.0), job_for(gpt)
    source = data.train_set.parts[0]
    pairs = [source.read(place, 0) for place in range(len(source))]
    with torch.no_grad():
        output = network(data.collate(pairs))
        padded = network(pack([replace(pair, rejected=None, cut_off=False) for pair in pairs]))
    torch.testing.assert_close(output.chosen_logps, padded.chosen_logps)
    for place, pair in enumerate(pairs):
        for seed, codes, ended, found in (
            (0, pair.codes, True, output.chosen_logps[place]),
            (1, pair.rejected, False, output.rejected_logps[place]),
        ):
            scores = []
            chance = torch.Generator().manual_seed(seed)
            own = int(torch.randint(2**62, (), generator=chance))
            again = GptLine(phonemes=pair.phonemes, prompt=pair.prompt, bert=pair.bert, seed=own)
            (speech,) = generate_lines(network, [again], options=SamplingOptions(max_codes=MOST), scores=scores)
            assert speech.codes.tolist() == codes.tolist()
            wanted = sum(scores[step][0, code] for step, code in enumerate(codes.tolist()))
            if ended:
                # What was cut off has no end whose probability the draw knows.
                wanted = wanted + end_after(network, pair, codes)
            assert found.item() == pytest.approx(wanted.item(), abs=1e-3)
    assert job.drawn_columns().keys() == drawn[0][2].columns.keys()


def end_after(network, pair, codes):
    scores = []
    after = GptLine(phonemes=pair.phonemes, prompt=torch.cat([pair.prompt, codes]), bert=pair.bert)
    generate_lines(network, [after], options=SamplingOptions(max_codes=1), scores=scores)
    return scores[0][0, -1]


def test_a_user_samples_a_voice_and_trains_on_what_is_better(gpt, folder, capsys):
    texts = folder / "texts.txt"
    texts.write_text("\n".join([*TEXTS.values(), "really " * 300]) + "\n", encoding="utf-8")
    sampling = ["--top_k", 0, "--max_new_tokens", 120, "--device", "cpu", "--language", "en"]
    measured = ["--n", 5, "--metrics", "clipping", "--reward", "stop:1", "--keep", "all"]
    words = ["sample", gpt, "--texts", texts, "--out", folder / "drawn", *sampling, *measured, "--json"]
    capsys.readouterr()
    assert main([*map(str, words)]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (told["takes"], told["not_drawn"]) == (30, 5)
    assert told["ended"] > 0
    assert told["cut_off"] > 0
    found = TakeSet(folder / "drawn", backend="gpt_sovits")
    row = next(found.row(place) for place in range(len(found)) if found.row(place)["ended"])
    assert len(row["codes"]) == round(25 * row["seconds"])
    words = ["synth", gpt, "--text", row["text"], "--seed", row["seed"], "--out", folder / "again.wav", *sampling]
    assert main([*map(str, words)]) == 0
    kept, again = (soundfile.read(file)[0] for file in (folder / "drawn" / row["sound"], folder / "again.wav"))
    np.testing.assert_allclose(kept, again, atol=1e-4)

    words = ["--model.init_from", gpt, "--model.reference", "start", "--trainer.max_steps", 2, "--listen.sentences", 0]
    capsys.readouterr()
    fitted("dpo", folder / "drawn", folder / "better", *words, "--json")
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert figures["train/pair_accuracy"] == 1.0


@pytest.mark.parametrize("kernel", ["spans", "grid"])
def test_a_prompt_is_seen_and_carries_no_loss(kernel):
    """As an utterance of which the beginning is left out of the sums, and an end only where there was one."""
    network = load_initial("tiny").eval()
    network.kernel = kernel
    phonemes, prompt, codes = torch.arange(9), torch.tensor([5, 6, 7]), torch.tensor([1, 2, 3, 4])
    sizes = {"same start": [1, 2, 9, 9, 9], "its beginning": [1, 2], "more of it": [1, 2, 3, 4, 8], "other": [8, 8]}
    for rejected in map(torch.tensor, sizes.values()):
        pair = GptUtterance(phonemes=phonemes, prompt=prompt, codes=codes, rejected=rejected)
        longer = GptUtterance(phonemes=torch.arange(4), prompt=torch.arange(30), codes=rejected, rejected=codes)
        with torch.no_grad():
            got = network(pack([pair, longer]))
            cut = network(pack([replace(pair, cut_off=True), longer]))
            whole = [
                network(pack([GptUtterance(phonemes=phonemes, codes=torch.cat([prompt, each]))])).losses[len(prompt) :]
                for each in (codes, rejected)
            ]
        torch.testing.assert_close(got.chosen_logps[0], -whole[0].sum())
        torch.testing.assert_close(got.rejected_logps[0], -whole[1].sum())
        torch.testing.assert_close(cut.rejected_logps[0], -whole[1][:-1].sum())
        torch.testing.assert_close(cut.chosen_logps, got.chosen_logps)


def test_pairs_are_counted_divided_by_text_and_remembered(gpt, drawn, folder, takes):
    data = opened(takes)
    about = data.describe()
    assert (about["rows"], about["train_rows"] + about["val_rows"]) == (len(TEXTS) * TAKES, len(TEXTS))
    assert about["val_rows"] == 1
    assert about["hash"] == TakeSet(takes).hash
    assert (data.version, data.val_languages) == ("v2", ())
    assert data.remember()["voice"] == str(folder / "prepared")
    assert data.remember()["settings"]["models"] == "tiny"
    assert data.held_out().data.path == folder / "prepared", "takes have no recordings to be heard beside"
    batch = data.collate([data.train_set[row] for row in data.train_batches(0)[0]])
    assert batch["codes"].numel() + batch["phonemes"].numel() <= data.train_set.parts[0].lengths.sum()

    with pytest.raises(
        DataError, match=r"15 takes and no pair.*not better than the worst by the margin.*--data\.margin"
    ):
        opened(takes, margin=3.0)
    rewards = (2.0, 1.0, 0.0)
    taken = [(name, of, replace(take, ended=of.seed != 2), rewards[of.seed]) for name, of, take in drawn]
    longer = drawn[0][2]
    columns = {**longer.columns, "codes": np.tile(longer.columns["codes"], 30)}
    taken[0] = (*taken[0][:2], replace(longer, ended=True, columns=columns), 2.0)
    path = sampled(folder / "ranked", gpt, taken)
    ranked = opened(path, max_tokens=480)
    assert sum(ranked.describe()["left_out"].values()) == 1, "its chosen take has no room in a batch"
    places = [place for part in (ranked.train_set, ranked.val_set) for place in part.parts[0].rows.tolist()]
    assert sorted(places) == [3, 6, 9, 12]


def test_a_rejected_take_without_room_is_cut(takes):
    whole = opened(takes, val_share=0.0).train_set.parts[0]
    most = int(whole.lengths.max()) - 40
    cut = opened(takes, val_share=0.0, max_tokens=most).train_set.parts[0]
    assert (cut.lengths <= most).all()
    assert len(cut) == len(whole)
    pair = cut.read(int(whole.lengths.argmax()), 0)
    assert (len(pair.rejected), pair.cut_off) == (MOST - 40, True)


def test_dpo_learns_from_takes_and_speaks_in_the_voice(gpt, takes, folder, capsys):
    words = ["--model.init_from", gpt, "--model.reference", "start", "--trainer.max_steps", 3]
    capsys.readouterr()
    run = fitted("dpo", takes, folder / "voice-dpo", *words, "--trainer.val_check_interval", 1, "--json")
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {"train/margin", "val/pair_accuracy", "listen/repetition"} <= set(told)
    assert told["train/margin"] > 0, "it began at 0"
    words = ["--text", "Hello there.", "--max_new_tokens", MOST, "--out", folder / "dpo.wav"]
    assert main(["synth", str(run), *map(str, words), "--json"]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert str(folder / "prepared") in told["reference"]
    (again,) = job_for(run).draw([line("Hello.")])
    assert again.error is None
    assert job_for(run).known()["voice"] == str(folder / "prepared")


def test_takes_are_learnt_from_where_the_voices_recordings_are_gone(gpt, drawn, tmp_path, caplog):
    taken = [(name, of, take, 1.0 - of.seed) for name, of, take in drawn]
    known = {**job_for(gpt).known(), "voice": str(tmp_path / "gone")}
    taken = [(name, of, replace(take, ended=True), reward) for name, of, take, reward in taken]
    path = sampled(tmp_path / "takes", gpt, taken, data=known)
    words = ["--model.init_from", gpt, "--trainer.max_steps", 1, "--trainer.val_check_interval", 1]
    fitted("dpo", path, tmp_path / "run", *words)
    assert "are not here any more" in caplog.text


def test_the_stage_keeps_its_promises_on_takes(gpt, takes, folder):
    settings = {"data.path": str(takes), "model.init_from": str(gpt), "listen.sentences": 0}
    check_backend("gpt_sovits", folder=folder / "promises", settings=settings, stages=["dpo"])


def test_a_plan_is_of_pairs_of_takes(takes):
    data = GptData(str(takes), pairs="made")
    batch = data.sample_batch(2048)
    assert batch["codes"].numel() + batch["phonemes"].numel() == 2048
    assert batch["shared"] == [0] * 4
    assert sum(batch["counts"]) == 512 + 4


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--stage", "gpt"], "give --stage dpo"),
        (["--data.per_text", "0"], "--data.per_text 1 or more"),
        (["--model.tiny.phonemes", "30"], "has the phoneme"),
        (["--model.tiny.phonemes", "512"], "The data were prepared for v2"),
        (["--model.padding", "upstream"], "Leave --model.padding out"),
        (["--data.val_path", "{set}"], "both hold takes"),
        (["--data.path", "{set}", "--data.val_path", "{takes}"], "both hold takes"),
        (["--data.rehearsal.path", "{takes}"], "--data.rehearsal.path takes a prepared set"),
        (["--data.path", "{other}"], "'orpheus'"),
    ],
)
def test_what_cannot_be_learnt_from_takes_is_refused(words, said, gpt, takes, drawn, tmp_path, capsys):
    places = {"set": write_set(tmp_path / "set.parquet"), "takes": str(takes), "other": str(tmp_path / "other")}
    sampled(tmp_path / "other", gpt, [(*drawn[0], 1.0)], backend="orpheus")
    recipe = ["--backend", "gpt_sovits", "--stage", "dpo", "--trainer.accelerator", "cpu", "--trainer.max_steps", "1"]
    given = [*recipe, "--data.path", str(takes), "--run_dir", str(tmp_path / "run")]
    assert main(["fit", *given, *(word.format(**places) for word in words)]) == 2
    assert said in capsys.readouterr().err


def test_rehearsal_goes_beside_takes(takes, folder):
    data = opened(takes, rehearsal=RehearsalOptions(path=str(folder / "prepared"), share=0.5, val_share=0.2))
    batches = [data.collate([data.train_set[row] for row in batch]) for batch in data.train_batches(0)]
    assert {batch["rehearsed"] for batch in batches} == {True, False}
