"""Parts of a split: what a corpus folder keeps of them, and what readers take."""

from __future__ import annotations

import json
import shutil

import pytest

from tts_train.corpus import Utterance
from tts_train.corpus.read import open_corpus
from tts_train.curation.folder import CLIPS, CorpusFolder
from tts_train.curation.row import ClipRow
from tts_train.demo.journey import VOICE

PARTS = ("train", "validation", "test", "train")


@pytest.fixture
def folder(tmp_path):
    wavs = sorted((VOICE / "wavs").iterdir())[: len(PARTS)]
    (tmp_path / CLIPS).mkdir()
    rows = []
    for wav, part in zip(wavs, PARTS, strict=True):
        shutil.copy(wav, tmp_path / CLIPS / wav.name)
        rows.append(ClipRow(audio=f"{CLIPS}/{wav.name}", seconds=2.0, text=f"This is {wav.stem}.", split=part))
    made = CorpusFolder(tmp_path)
    made.write(rows, removed=[ClipRow(audio=f"{CLIPS}/gone.wav", seconds=1.0)])
    return made


def test_readers_take_the_training_rows_and_the_held_out_ones_by_name(folder):
    assert [row.split for row in open_corpus(folder.path).rows()] == ["train", "train"]
    (held,) = open_corpus(folder.path / "validation.jsonl").rows()
    assert isinstance(held, Utterance)
    assert held.split == "validation"
    assert sorted(str(row.split) for row in open_corpus(folder.path, every_part=True).rows()) == sorted(PARTS)


def test_a_row_that_goes_to_another_part_leaves_its_table(folder):
    rows = [ClipRow.from_dict({**row.as_dict(), "split": "train"}) for row in folder.rows()]
    folder.write(rows)
    assert not (folder.path / "validation.jsonl").exists()
    assert len(list(open_corpus(folder.path).rows())) == len(PARTS)


def test_a_corpus_folder_is_read_beside_its_other_tables(folder):
    (folder.path / "review.csv").write_text("audio,text\n", encoding="utf-8")
    assert open_corpus(folder.path).layout == "jsonl"
    assert json.loads((folder.path / "corpus.jsonl").read_text(encoding="utf-8").splitlines()[0])["split"] == "train"
