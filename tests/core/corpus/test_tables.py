"""Tables of the shapes that tools write: each column is told apart, and no row is cut or kept by guess."""

from __future__ import annotations

import json
import logging
import shlex
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from tts_train.cli import main
from tts_train.corpus import Rejected, Utterance
from tts_train.corpus.read import open_corpus
from tts_train.errors import DataError

SAID = [
    "The harbour lay quiet in the morning.",
    "Who left this window open?",
    "He counted slowly, then he stopped.",
    "Nobody answered for a while.",
    "Take the second road after the mill.",
    "It rained all night.",
]
NAMES = [f"clip{n}.wav" for n in range(len(SAID))]
WHO = ["Ada King", "Bo Lind"] * 3


def table(folder: Path, name: str, lines: list[str], *, header: str | None = None, end: str = "\n") -> Path:
    """Write a table, and an empty file for each recording: rows are looked at here, not heard."""
    for clip in NAMES:
        (folder / "wavs").mkdir(exist_ok=True)
        (folder / "wavs" / clip).touch()
    path = folder / name
    path.write_bytes(end.join([*([header] if header else []), *lines, ""]).encode())
    return path


def rows(path: Path, layout: str = "auto") -> list[object]:
    """(text, speaker) of each kept row, the reason of each other one."""
    found = open_corpus(path, layout=layout).rows()
    return [row.reason if isinstance(row, Rejected) else (row.text, row.speaker) for row in found]


SPOKEN = list(zip(SAID, WHO, strict=True))
SHORT = [(text, who[:2]) for text, who in SPOKEN]
UNNAMED: list[object] = [(text, None) for text in SAID]
FIELDS = list(zip(NAMES, SAID, WHO, ["0", "1"] * 3, strict=True))
SHOUTED = [text.upper().replace(".", "") for text in SAID]


@pytest.mark.parametrize(
    ("name", "header", "line", "expected"),
    [
        # StyleTTS2, Tacotron 2, Flowtron
        ("train_list.txt", None, "{path}|{text}|{who}", SPOKEN),
        ("train_list.txt", None, "{path}|{text}|{id}", [(t, i) for _, t, _, i in FIELDS]),
        ("metadata.csv", None, "{path} | {who} | {text}", SPOKEN),
        ("metadata.tsv", None, "{path}\t{who}\t{text}", SPOKEN),
        # VITS, with and without the cleaned text; Bert-VITS2 before and after its cleaning
        ("metadata.csv", None, "wavs/{path}|{id}|{text}|_", [(t, i) for _, t, _, i in FIELDS]),
        ("metadata.csv", None, "wavs/{path}|{id}|{text}|{shout}", [(t, i) for _, t, _, i in FIELDS]),
        ("metadata.csv", None, "{path}|{text}|{shout}|{who}", [(s, w) for s, w in zip(SHOUTED, WHO, strict=True)]),
        ("metadata.csv", None, "{path}|{id}|{text}|ˈhɑːbɚ leɪ kwˈaɪət", [(t, i) for _, t, _, i in FIELDS]),
        ("esd.list", None, "wavs/{path}|{who}|EN|{text}", SPOKEN),
        ("esd.txt", None, "wavs/{path}|{who}|EN|{text}", SPOKEN),
        ("train.list", None, "wavs/{path}|{who}|EN|{text}|_ dh ah hh aa b er _|0 0 1 0 2 0|1 2 3 1", SPOKEN),
        ("metadata.csv", None, "{path}|{text}|jin1 tian1 hao3", UNNAMED),
        ("clips.list", None, "{path}|{text}|{who}", SPOKEN),
        # Lists of four fields in another order than GPT-SoVITS writes
        ("clips.list", None, "wavs/{path}|{text}|{short}|EN", SHORT),
        ("clips.list", None, "wavs/{path}|EN|{short}|{text}", SHORT),
        ("clips.list", None, "EN|{short}|wavs/{path}|{text}", SHORT),
        ("clips.list", None, "wavs/{path}|{text}|EN|{short}", SHORT),
        ("clips.list", None, "wavs/{path}|{short}|unknown|{text}", SHORT),
        # Headers
        ("metadata.csv", "file_name,speakerID,text", '{path},{who},"{text}"', SPOKEN),
        ("metadata.csv", "Text;Speaker Name;Wav Path", '"{text}";{who};{path}', SPOKEN),
        ("metadata.csv", "Datei|Sprecher|Text", "{path}|{who}|{text}", SPOKEN),
        ("metadata.csv", "文件|说话人|文本", "{path}|{who}|{text}", SPOKEN),
        ("metadata.csv", "archivo;hablante;transcripción", '{path};{who};"{text}"', SPOKEN),
        ("metadata.csv", "utt_id,txt,speakers", '{path},"{text}",{who}', SPOKEN),
        ("metadata.csv", "fname\ttarget_text\tspeaker_label", "{path}\t{text}\t{who}", SPOKEN),
        ("metadata.csv", "client_id\tpath\tsentence\tup_votes", "{who}\t{path}\t{text}\t2", SPOKEN),
        ("metadata.csv", "path|spk|transcript", "{path}|{who}|{text}", SPOKEN),
        ("metadata.csv", '"path"|"text"|"voice"', '"{path}"|"{text}"|"{who}"', SPOKEN),
        ("metadata.csv", "file_name, text", '{path}, "{text}"', UNNAMED),
        ("metadata.csv", "\ufefffile_name,text", '{path},"{text}"', UNNAMED),
        # Commas in a text without quotation marks
        ("metadata.csv", "file_name,text", "{path},{text}", UNNAMED),
        ("metadata.csv", "file_name,text,speaker", "{path},{text},{who}", SPOKEN),
        ("metadata.csv", "speaker,text,path", "{who},{text},{path}", [*SPOKEN[:2], "bad_row", *SPOKEN[3:]]),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_columns_are_told_apart(tmp_path: Path, name: str, header: str | None, line: str, expected: object, end: str):
    shouted = zip(FIELDS, SHOUTED, strict=True)
    lines = [line.format(path=p, text=t, who=w, short=w[:2], id=i, shout=shout) for (p, t, w, i), shout in shouted]
    path = table(tmp_path, name, lines, header=header, end=end)
    assert rows(path) == expected
    if header is None:
        assert rows(path, layout=_spec(line)) == expected


def _spec(line: str) -> str:
    """The columns of a template in words: what a user would type."""
    words = {
        "{path}": "audio",
        "{who}": "speaker",
        "{short}": "speaker",
        "{id}": "speaker",
        "{text}": "text",
        "EN": "language",
    }
    fields = [field.strip().removeprefix("wavs/") for field in line.replace("\t", "|").split("|")]
    named = [words.get(field, "-") for field in fields]
    if "{shout}" in fields and fields.index("{shout}") == 2:
        named[2] = "normalised"
    return "|".join(named)


def test_separators_inside_a_text(tmp_path: Path):
    said = [*SAID[:3], "one | two", *SAID[4:]]
    header = "audio_file|text|speaker_name"
    lines = [f"{name}|{text}|{who}" for name, text, who in zip(NAMES, said, WHO, strict=True)]
    assert rows(table(tmp_path, "metadata.csv", lines, header=header)) == list(zip(said, WHO, strict=True))
    assert rows(table(tmp_path, "metadata.csv", lines)) == list(zip(said, WHO, strict=True))
    # Who speaks is not certain: a name that stands nowhere else may be a part of the text.
    lines[3] = f"{NAMES[3]}|one | two|three"
    assert rows(table(tmp_path, "metadata.csv", lines, header=header)) == [*SPOKEN[:3], "bad_row", *SPOKEN[4:]]
    assert rows(table(tmp_path, "metadata.csv", [*lines[:3], NAMES[3], *lines[4:]], header=header))[3] == "bad_row"
    # Behind the end of a sentence rather stands something else.
    lines = [f"{name}|{text}" for name, text in zip(NAMES, SAID, strict=True)]
    lines[1] = f"{lines[1]}|Ada"
    assert rows(table(tmp_path, "metadata.csv", lines)) == [UNNAMED[0], "bad_row", *UNNAMED[2:]]
    # Of two texts it cannot be told which one holds the bar.
    lines = [f"{name}|{text}|{text}" for name, text in zip(NAMES, SAID, strict=True)]
    lines[1] = f"{NAMES[1]}|a b|c|a b|c"
    assert rows(table(tmp_path, "metadata.csv", lines)) == [UNNAMED[0], "bad_row", *UNNAMED[2:]]


def test_quotation_marks_of_a_csv_writer_go_and_those_of_a_text_stay(tmp_path: Path):
    for mark in "|\t;,":
        lines = [
            f"{NAMES[0]}{mark}Plain words.{mark}Ada",
            f'{NAMES[1]}{mark}"""Come in,"" she said."{mark}Bo',
            f'{NAMES[2]}{mark}"a {mark} b"{mark}Ada',
            f'{NAMES[3]}{mark}"over',
            f'two lines"{mark}Bo',
        ]
        found = rows(table(tmp_path, "metadata.csv", lines, header=mark.join(["path", "text", "speaker"])))
        kept = [
            ("Plain words.", "Ada"),
            ('"Come in," she said.', "Bo"),
            (f"a {mark.strip()} b".replace("  ", " "), "Ada"),
        ]
        assert found == [*kept, ("over two lines", "Bo")], mark
    spoken = ['"Come in," she said.', '"No." He left.', 'A 5" pipe.']
    lines = [f"{name}|{text}" for name, text in zip(NAMES, spoken, strict=False)]
    assert rows(table(tmp_path, "metadata.csv", lines)) == [(text, None) for text in spoken]
    # Where some rows were quoted and others were not, the rarer kind is not guessed at.
    mixed = [f'{NAMES[3]}|"""Ah,"" she said."', *lines]
    assert rows(table(tmp_path, "metadata.csv", mixed)) == ["bad_row", *[(text, None) for text in spoken]]
    # A mark that is never closed must not take the next row with it.
    lines = [f'{NAMES[0]},"Come in', f'{NAMES[1]},and stay"', f"{NAMES[2]},Plain."]
    assert rows(table(tmp_path, "metadata.csv", lines, header="file_name,text"))[0] == "bad_row"


@pytest.mark.parametrize(
    ("header", "lines", "asks"),
    [
        (None, ["clip0.wav|yes|Ada", "clip1.wav|no|Bo", "clip2.wav|yes|Bo"], r"cannot be told.*'audio\|speaker\|text'"),
        (None, [f"{n}|{t}|{t[::-1]}" for n, t in zip(NAMES, SAID, strict=True)], "cannot be told"),
        (None, [f"{n}|{w}|{t}|{t[::-1]}|{w}" for n, t, w, _ in FIELDS], "too many columns"),
        (None, [f"{n}|0.5|2.5|{t}" for n, t in zip(NAMES, SAID, strict=True)], "several columns look like times"),
        (None, [f"{n}|0 1 2|3 4 5" for n in NAMES], "no column looks like a text"),
        (None, [f"{n}|{n}|{t}" for n, t in zip(NAMES, SAID, strict=True)], "several columns name audio"),
        (None, [f"{w[:2]}|{n[:-4]}|{t}" for n, t, w, _ in FIELDS], "first column holds most values more than once"),
        (None, [f"{n}|{i}|ˈhɑːbɚ leɪ" for n, _, _, i in FIELDS], "no column looks like a text"),
        (None, [f"{n};{t}" for n, t in zip(NAMES, SAID, strict=True)], r"no header.*'audio\|text'"),
        (None, ["a|b", "a|b", "a|b|c", "a|b|c", "a|b|c|d|e", "a"], "differ in their number of fields"),
        ("wav|utterances|who", [f"{n}|{t}|{w}" for n, t, w, _ in FIELDS], r"audio=NAME,text=NAME"),
        ("text,who", [f'"{t}",{w}' for _, t, w, _ in FIELDS], "does not say which column is audio"),
        (None, [f"{n}:{t}" for n, t in zip(NAMES, SAID, strict=True)], r"no \| , ; and no tab"),
        ("path|text|text", [f"{n}|{t}|{w}" for n, t, w, _ in FIELDS], "has text twice"),
        ("path|text", [f"{n}|{t}|{w}" for n, t, w, _ in FIELDS], "Most rows .* have 3 fields, 2 are known"),
    ],
)
def test_what_is_not_certain_is_asked(tmp_path: Path, header: str | None, lines: list[str], asks: str):
    with pytest.raises(DataError, match=asks):
        rows(table(tmp_path, "metadata.csv", lines, header=header))


def test_two_lists_with_the_usual_name_are_asked_about(tmp_path: Path):
    table(
        tmp_path,
        "metadata.csv",
        [f'{name},"{text}"' for name, text in zip(NAMES, SAID, strict=True)],
        header="path,text",
    )
    lines = [json.dumps({"path": name, "text": text.upper()}) for name, text in zip(NAMES, SAID, strict=True)]
    table(tmp_path, "metadata.jsonl", lines)
    with pytest.raises(DataError, match=r"holds metadata\.csv, metadata\.jsonl\. Name the one to read"):
        rows(tmp_path)
    assert rows(tmp_path, "metadata") == rows(tmp_path, "metadata.csv") == UNNAMED


def test_a_split_under_another_name(tmp_path: Path):
    lines = [f"{name}|{text}|{'test' if name == NAMES[2] else 'train'}" for name, text in zip(NAMES, SAID, strict=True)]
    assert rows(table(tmp_path, "metadata.csv", lines, header="path|text|set")) == [*UNNAMED[:2], *UNNAMED[3:]]


def test_the_answers_are_read(tmp_path: Path):
    path = table(tmp_path, "x.csv", [f"{n};{t};{w}" for n, t, w, _ in FIELDS])
    assert rows(path, "audio|text|speaker") == rows(path, "path, text, Speaker-ID") == SPOKEN
    path = table(tmp_path, "x.csv", [f"{n}|{t}|{w}" for n, t, w, _ in FIELDS], header="wav|utterances|who")
    assert rows(path, "audio=wav,text=utterances,speaker=who") == SPOKEN
    assert rows(path, "audio|text|speaker")[1:] == SPOKEN
    (tmp_path / "x.jsonl").write_text(json.dumps({"sound": NAMES[0], "said": SAID[0], "who": 3}) + "\n")
    with pytest.raises(DataError, match=r"'sound', 'said', 'who'.*audio=NAME"):
        rows(tmp_path / "x.jsonl")
    assert rows(tmp_path / "x.jsonl", "audio=sound,text=said,speaker=who") == [(SAID[0], "3")]
    odd = table(tmp_path, "esd.txt.cleaned", [f"{n}|{w}|EN|{t}" for n, t, w, _ in FIELDS])
    assert rows(odd, "list") == rows(odd, "metadata") == rows(odd, "audio|speaker|language|text") == SPOKEN
    for wrong in (
        "audio|speaker",
        "audio|text|mood",
        "audio|text|text",
        "audio=a|text",
        "mood/audio",
        "audio=no,text=who",
    ):
        with pytest.raises(DataError, match=r"--corpus_format|no column"):
            rows(path, wrong)


def test_how_columns_were_read_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO")
    table(tmp_path, "metadata.csv", [f"{n},{w},2,{t}" for n, t, w, _ in FIELDS], header="path,speakerID,votes,text")
    corpus = open_corpus(tmp_path)
    assert len([*corpus.rows(), *corpus.rows()]) == 2 * len(FIELDS)
    assert caplog.messages == [
        "Columns of metadata.csv: audio is 'path', text, speaker is 'speakerID'; not used: 'votes'",
        f"A row, metadata.csv:2: audio 'clip0.wav', text {SAID[0]!r}, speaker 'Ada King'",
    ]


SINGLE = {
    "commas, a header": "'file_name','text'\n'{0}','It''s me, \"Anna\", here.'\n'{1}','Well, hello.'\n",
    "an open header": "file_name;text\n'{0}';'It''s me, \"Anna\", here.'\n'{1}';'Well; hello.'\n",
    "bars": "'{0}'|'It''s me, \"Anna\", here.'\n'{1}'|'Well|hello.'\n",
}


@pytest.mark.parametrize("kind", SINGLE)
def test_single_quotation_marks_of_a_writer_go(tmp_path: Path, kind: str):
    for name in ("a.wav", "b.wav"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "metadata.csv").write_text(SINGLE[kind].format("a.wav", "b.wav"), encoding="utf-8")
    texts = [row.text if isinstance(row, Utterance) else row.detail for row in open_corpus(tmp_path).rows()]
    assert texts[0] == 'It\'s me, "Anna", here.'
    assert texts[1].startswith("Well")
    assert texts[1].endswith("hello.")


def test_apostrophes_and_quoted_speech_stay(tmp_path: Path):
    for name in ("a.wav", "b.wav"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "metadata.csv").write_text("a|'Hello there,' he said.\nb|'Well, hello.'\n", encoding="utf-8")
    texts = [row.text for row in open_corpus(tmp_path).rows() if isinstance(row, Utterance)]
    assert texts == ["'Hello there,' he said.", "'Well, hello.'"]


def test_columns_of_parquet_that_are_not_used_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    columns = {"input_ids": [[1, 2]], "attention_mask": [[1, 1]], "token_type_ids": [[0, 0]]}
    pq.write_table(pa.table(columns), tmp_path / "train.parquet")
    with caplog.at_level(logging.INFO):
        list(open_corpus(tmp_path).rows())
    assert "Columns of train.parquet: input_ids, attention_mask; not used: 'token_type_ids'" in caplog.messages


def test_a_recording_that_lies_there_under_another_suffix_is_named_and_not_used(tmp_path: Path):
    (tmp_path / "wavs" / "deep").mkdir(parents=True)
    (tmp_path / "wavs" / "S1.flac").write_bytes(b"")
    (tmp_path / "wavs" / "deep" / "s2.mp3").write_bytes(b"")
    (tmp_path / "metadata.csv").write_text("s1.wav|One.\nx/s2.wav|Two.\n/data/s1.ogg|Three.\ns4.wav|Four.\n")
    (tmp_path / "rows.jsonl").write_text('{"audio": "s1.wav", "text": "One."}\n')
    rows = list(open_corpus(tmp_path / "metadata.csv").rows()) + list(open_corpus(tmp_path / "rows.jsonl").rows())
    assert [row.reason for row in rows if isinstance(row, Rejected)] == ["missing"] * 5
    hints = [row.detail.partition("; ")[2] for row in rows if isinstance(row, Rejected)]
    flac = "if wavs/S1.flac is meant, write that into the row"
    assert hints == [flac, "if wavs/deep/s2.mp3 is meant, write that into the row", flac, "", flac]


def test_recordings_without_texts_say_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = tmp_path / "my sounds"
    (folder / "more").mkdir(parents=True)
    noise = np.random.default_rng(0).normal(0, 0.1, 48_000)
    for name in ("a.flac", "more/b.wav"):
        soundfile.write(folder / name, noise, 16_000)
    prepare = ["prepare", "--backend", "orpheus", "--out", str(tmp_path / "out"), "--codec", "tiny"]
    commands = (
        ["check", str(folder)],
        [*prepare, "--tokenizer", "tiny", "--corpus", str(folder)],
    )
    for words in commands:
        assert main(words) == 2
        told = capsys.readouterr().err
        assert f"{folder} holds 2 recordings (a.flac, for one), and nothing says what is said in them." in told
    lines = [shlex.split(line) for line in told.splitlines() if line.startswith("  tts-train ")]
    made = str(tmp_path / "my sounds-corpus")
    assert [line[1:] for line in lines] == [
        ["corpus", "slice", str(folder), "--out", made],
        ["corpus", "transcribe", made],
        ["corpus", "review", made],
        ["check", made],
    ]
