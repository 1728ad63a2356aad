"""Texts to speak: every row is one, or counted by reason."""

from __future__ import annotations

import json

import pytest

from tests.core.scoring.sounds import write_corpus
from tts_train.errors import DataError
from tts_train.sampling.drawing import TakePlan, folders_of, seed_of
from tts_train.sampling.texts import read_texts


def written(folder, name, text):
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def test_a_sentence_a_line(tmp_path):
    texts = read_texts(written(tmp_path, "a.txt", "One, two.\n\n  Three.  \r\n...\nOne, two.\n"), language="en")
    assert [row.text for row in texts.rows] == ["One, two.", "Three."]
    assert {row.language for row in texts.rows} == {"en"}
    assert texts.left_out == {"empty_text": 1, "duplicate": 1}
    more = read_texts(written(tmp_path, "b.txt", "Zero.\nOne, two.\n"), language="en")
    assert more.rows[1].id == texts.rows[0].id, "lines before it move no id"


def test_a_table_with_ids_speakers_and_languages(tmp_path):
    texts = read_texts(
        written(tmp_path, "a.csv", 'id,text,speaker,lang\nx,"One, two.",Anna,en\ny,Drei.,Bo,German\nbad\n')
    )
    assert [(row.id, row.text, row.speaker, row.language) for row in texts.rows] == [
        ("x", "One, two.", "Anna", "en"),
        ("y", "Drei.", "Bo", "de"),
    ]
    assert texts.left_out == {"bad_row": 1}
    bars = read_texts(written(tmp_path, "b.csv", 'text|speaker\n"Oh," he said.|Anna\n'))
    assert bars.rows[0].text == '"Oh," he said.'


def test_json_lines(tmp_path):
    lines = [json.dumps({"text": "One.", "id": 7}), "no json", json.dumps({"sentence": "Two.", "speaker": "bo"}), "[]"]
    texts = read_texts(written(tmp_path, "a.jsonl", "\n".join(lines)))
    assert [(row.text, row.speaker) for row in texts.rows] == [("One.", None), ("Two.", "bo")]
    assert texts.rows[0].id == "7"
    assert texts.left_out == {"bad_row": 2}


def test_recordings_are_references_and_voices(tmp_path):
    corpus = write_corpus(tmp_path / "corpus", 4)
    texts = read_texts(corpus, language="en")
    sentence = texts.sentence(texts.rows[0])
    assert sentence.recording is not None
    assert len(sentence.voice) == 3, "the other recordings"
    spoken = read_texts(written(tmp_path, "a.txt", "Something else.\n"), recordings=corpus)
    sentence = spoken.sentence(spoken.rows[0])
    assert sentence.recording is None
    assert len(sentence.voice) == 4
    rows = [{"audio": f"corpus/wavs/{row.utterance.audio.name}", "text": row.text} for row in texts.rows]
    listed = written(tmp_path, "rows.jsonl", "\n".join(map(json.dumps, rows)))
    assert read_texts(listed).rows[0].utterance is not None
    assert len(read_texts(corpus, count=2).rows) == 2


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("a.txt", "\n\n", r"has no text to speak \(it is empty\)"),
        ("a.txt", "...\n", r"1 empty_text"),
        ("a.txt", "wavs/a.wav|What is said.\n", r"list of recordings and no text.*--corpus_format 'audio\|text'"),
        ("a.csv", "id,text\nx,One.\nx,Two.\n", "1 ids stand for two texts, such as x"),
    ],
)
def test_what_holds_no_texts_is_told(tmp_path, name, text, why):
    with pytest.raises(DataError, match=why):
        read_texts(written(tmp_path, name, text))


def test_wrong_bytes_are_told(tmp_path):
    (tmp_path / "a.txt").write_bytes("Grüße.".encode("latin-1"))
    with pytest.raises(DataError, match="is not UTF-8"):
        read_texts(tmp_path / "a.txt")


def test_seeds_are_counted_by_text_and_take(tmp_path):
    seeds = {seed_of(text, take, seed=seed) for text in ("a", "b") for take in range(50) for seed in (0, 1)}
    assert len(seeds) == 200
    assert all(0 <= seed < 2**32 for seed in seeds)
    assert seed_of("a", 3, seed=0) == 1199615123
    texts = read_texts(written(tmp_path, "a.txt", "".join(f"Line {number}.\n" for number in range(20))))
    parts = TakePlan(texts=texts, n=8, seed=0, sounds=False).parts
    assert [len(part) for part in parts] == [8, 8, 4]
    assert len(TakePlan(texts=texts, n=100, seed=0, sounds=False).parts) == 20


def test_names_of_folders_stay_apart_and_stay_inside():
    ids = ["plain-1", "a/b", "../up", "Anna", "anna", "con.", "ü", "ö", ""]
    names = folders_of(ids)
    assert names["plain-1"] == "plain-1"
    assert len({name.casefold() for name in names.values()}) == len(ids)
    assert all(name and "/" not in name and "." not in name for name in names.values())


@pytest.mark.parametrize("name", ["texts.md", "texts", "texts.csv", "gone.txt"])
def test_what_fits_no_form_is_told_the_forms_of_texts(tmp_path, name):
    if name != "gone.txt":
        (tmp_path / name).write_text("Hello there.\nOne, two.\n")
    with pytest.raises(DataError, match=r"give a \.txt file with a sentence a line"):
        read_texts(tmp_path / name)
