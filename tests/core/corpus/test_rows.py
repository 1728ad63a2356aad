"""The rules of rows: encodings, stray marks, repeated and contradictory rows, paths from elsewhere, speed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.core.corpus.sounds import TEXT, encoded, write_clips
from tts_train.corpus import Rejected, Utterance
from tts_train.corpus.ledger import Ledger
from tts_train.corpus.read import kept_utterances, open_corpus
from tts_train.errors import DataError


def outcomes(path: Path, **options: object) -> list[str]:
    """``kept`` or the reason, of each row in order."""
    return [row.reason if isinstance(row, Rejected) else "kept" for row in open_corpus(path, **options).rows()]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_clips(tmp_path, ["a.wav", "b.wav", "c.wav"])
    return tmp_path


def write_list(folder: Path, data: str | bytes) -> Path:
    path = folder / "x.list"
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_line_ends_and_byte_order_marks(folder: Path, end: str, mark: str):
    path = write_list(folder, mark + end.join(f"{name}.wav|s|en|{TEXT} {name}" for name in "abc"))
    assert outcomes(path) == ["kept"] * 3


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("gbk", "今天天气很好,我们一起去公园散步吧。明天也许会下雨,记得带伞。"),
        ("shift_jis", "今日はとても良い天気ですね。一緒に公園へ散歩に行きましょう。"),
        ("cp1252", "Über die Brücke führt ein schöner Weg – für müde Füße."),
        ("utf-16", "plain English"),
        ("utf-16-le", "plain English"),
        ("utf-16-be", "plain English"),
    ],
)
def test_other_encodings_are_asked_about(folder: Path, encoding: str, text: str):
    path = write_list(folder, f"a.wav|s|en|{text}\n".encode(encoding))
    with pytest.raises(DataError, match=r"not UTF-8 \(line 1\).*iconv -f \S+ -t UTF-8"):
        open_corpus(path)
    if encoding in {"gbk", "utf-16", "utf-16-le"}:
        with pytest.raises(DataError, match=r"(?i)looks like (gb|big5|cp949|utf-16)"):
            open_corpus(path)


def test_the_line_that_is_not_utf8_is_named(folder: Path):
    rows = [f"a.wav|s|en|{TEXT}".encode()] * 30_000
    rows[20_000] = "a.wav|s|de|schöne Füße".encode("latin-1")
    with pytest.raises(DataError, match=r"\(line 20001\)"):
        open_corpus(write_list(folder, b"\n".join(rows)))


def test_utf8_cut_inside_a_character(folder: Path):
    with pytest.raises(DataError, match="middle of a character"):
        open_corpus(write_list(folder, "a.wav|s|zh|你好".encode()[:-1]))


def test_quotes_and_bars_live(folder: Path):
    path = write_list(folder, 'a.wav|s|en|"Hello\nb.wav|s|en|it is 5" wide | or so\nc.wav|s|en|one')
    assert [row.text for row in open_corpus(path).rows()] == ['"Hello', 'it is 5" wide | or so', "one"]
    (folder / "metadata.csv").write_text('a|"Hello\nb|a|b"\nc|one\n')
    assert [row.text for row in open_corpus(folder / "metadata.csv").rows()] == ['"Hello', 'a|b"', "one"]


def test_a_stray_quote_costs_one_row_of_a_comma_table(folder: Path):
    lines = ["file_name,text", 'a.wav,"Hello', 'b.wav,"He said ""hi""', 'and left"', "c.wav,two"]
    (folder / "metadata.csv").write_text("\n".join(lines))
    assert outcomes(folder) == ["bad_row", "kept", "kept"]


@pytest.mark.parametrize("mark", ["\0", "\u200b", "\u200f", "\u202e", "\ufeff", "\x07", "\u00ad", "\u2066"])
def test_invisible_characters_are_taken_out(folder: Path, mark: str):
    path = write_list(folder, f"a.wav|s|en|Hel{mark}lo the{mark}re")
    (row,) = open_corpus(path).rows()
    assert (row.text, row.warnings) == ("Hello there", ("text_cleaned",))


def test_separators_become_blanks_and_text_is_composed(folder: Path):
    path = write_list(folder, "a.wav|s|en|one\u2028two\u00a0 three\nb.wav|s|fr|cafe\u0301\nc.wav|s|fa|می\u200cخواهم")
    first, second, third = open_corpus(path).rows()
    assert (first.text, first.warnings) == ("one two three", ("text_cleaned",))
    assert (second.text, second.warnings) == ("café", ("text_nfc",))
    assert (third.text, third.warnings) == ("می\u200cخواهم", ())


def test_lone_surrogates_never_reach_a_file(folder: Path):
    (folder / "x.jsonl").write_text('{"audio": "a.wav", "text": "Hi \\ud800 there", "speaker": "a\\udfffb"}\n')
    (row,) = open_corpus(folder).rows()
    assert (row.text, row.speaker) == ("Hi there", "ab")


def test_texts_without_words(folder: Path):
    rows = [
        "a.wav|s|en|",
        "a.wav|s|en|  \u200b ",
        "b.wav|s|en|... ?!",
        "c.wav|s|zh|……。",
        f"a.wav|s|en|{'x' * 200_000}",
    ]
    expected = ["empty_text", "empty_text", "punctuation_only", "punctuation_only", "text_too_long"]
    assert outcomes(write_list(folder, "\n".join(rows))) == expected


def test_missing_speakers_and_languages_are_counted(folder: Path):
    path = write_list(folder, f"a.wav||en|{TEXT}\nb.wav|s||{TEXT}\nc.wav|s|Klingonese|{TEXT}")
    found = [row.warnings for row in open_corpus(path).rows()]
    assert found == [("speaker_missing",), ("language_missing",), ("language_unknown",)]


def test_rows_of_the_wrong_shape(folder: Path):
    assert outcomes(write_list(folder, f"a.wav|s|{TEXT}\n|s|en|{TEXT}\n\n\nb.wav|s|en|{TEXT}")) == [
        "bad_row",
        "missing",
        "kept",
    ]
    lines = ["{", "[1]", "[" * 100_000, '{"audio": 5, "text": "x"}',
             '{"audio": "a.wav", "text": 5}', '{"audio": "a.wav"}',
             '{"audio": "a.wav", "text": "x", "start": "soon"}',
             '{"audio": "a.wav", "text": "x", "start": 3, "end": 2}',
             '{"audio": "a.wav", "text": "x", "start": NaN}', '{"audio": "a.wav", "text": "x", "end": true}',
             '{"audio": "a\\u0000.wav", "text": "x"}', '{"audio": "a.wav", "text": "x", "start": -1}']  # fmt: skip
    (folder / "x.jsonl").write_text("\n".join(lines))
    expected = ["bad_row"] * 5 + ["empty_text"] + ["bad_segment"] * 4 + ["missing", "bad_segment"]
    assert outcomes(folder / "x.jsonl") == expected


def test_repeated_rows(folder: Path):
    rows = [
        ("a.wav", "one"),
        ("a.wav", " one\u200b "),
        ("a", "one"),
        ("b.wav", "two"),
        ("b.wav", "three"),
        ("c.wav", ""),
    ]
    path = write_list(folder, "\n".join(f"{name}|s|en|{text}" for name, text in [*rows, ("c.wav", "four")]))
    expected = ["kept", "duplicate", "duplicate", "conflict", "conflict", "empty_text", "kept"]
    assert outcomes(path) == expected
    lines = [{"audio": "a.wav", "text": TEXT, "start": s, "end": s + 0.5} for s in (0, 0.5, 0.5)]
    (folder / "y.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert outcomes(folder / "y.jsonl") == ["kept", "kept", "duplicate"]


def test_same_names_in_two_folders_both_live(folder: Path):
    write_clips(folder, ["s1/0001.wav", "s2/0001.wav", "s2/0001.WAV"])
    path = write_list(
        folder, "\n".join(f"{name}|s|en|{TEXT}" for name in ("s1/0001.wav", "s2/0001.wav", "s2/0001.WAV"))
    )
    rows = list(open_corpus(path).rows())
    assert len({row.id for row in rows if isinstance(row, Utterance)}) == 3


def test_paths_of_other_machines(folder: Path):
    write_clips(folder, ["wavs/d.wav", "e\u0301.wav", "Ünder.wav"])
    names = [
        "D:\\voices\\set\\a.wav",
        "/nowhere/else/b.wav",
        "E:/x/wavs/d.wav",
        "\\\\server\\share\\c.wav",
        "é",
        "ünder.WAV",
    ]
    path = write_list(folder, "\n".join(f"{name}|s|en|{TEXT}" for name in names))
    rows = list(open_corpus(path).rows())
    assert [row.warnings for row in rows] == [("path_relocated",)] * 4 + [(), ("case_mismatch",)]
    assert [row.audio.name for row in rows] == ["a.wav", "b.wav", "d.wav", "c.wav", "e\u0301.wav", "Ünder.wav"]


def test_paths_that_leave_the_corpus(tmp_path: Path):
    folder = tmp_path / "corpus"
    write_clips(tmp_path, ["secret.wav", "other/x.wav", "corpus/a.wav", "corpus/sub/b.wav"])
    (folder / "link.wav").symlink_to(tmp_path / "secret.wav")
    (folder / "way").symlink_to(tmp_path / "other")
    (folder / "inner.wav").symlink_to(folder / "sub" / "b.wav")
    os.mkfifo(folder / "pipe.wav")
    (folder / "dir.wav").mkdir()
    (folder / "gone.wav").symlink_to(folder / "nothing")
    names = {
        "link.wav": "outside_root", "way/x.wav": "outside_root", "../secret.wav": "outside_root",
        "sub/../../secret.wav": "outside_root",
        str(tmp_path / "secret.wav"): "outside_root", "/etc/passwd": "outside_root",
        "pipe.wav": "not_regular", "dir.wav": "not_regular", "gone.wav": "missing", "nothing.wav": "missing",
        "../nothing.wav": "outside_root", "sub/../a.wav": "kept", "inner.wav": "kept",
    }  # fmt: skip
    path = write_list(folder, "\n".join(f"{name}|s|en|{TEXT}" for name in names))
    assert dict(zip(names, outcomes(path), strict=True)) == names
    allowed = open_corpus(path, allow_outside=True)
    kept = {row.origin for row in allowed.rows() if isinstance(row, Utterance)}
    assert allowed.root is None
    assert kept == {f"x.list:{number}" for number in (1, 2, 3, 6, 12, 13)}


def test_the_root_may_be_a_link_and_is_not_its_neighbour(tmp_path: Path):
    write_clips(tmp_path, ["corpus/a.wav", "corpus2/a.wav"])
    (tmp_path / "alias").symlink_to(tmp_path / "corpus")
    write_list(tmp_path / "corpus", f"a.wav|s|en|{TEXT}\n{tmp_path}/corpus2/a.wav|s|en|{TEXT}")
    assert outcomes(tmp_path / "alias") == ["kept", "outside_root"]


def test_unlisted_audio_is_counted(folder: Path):
    ledger = Ledger()
    path = write_list(folder, f"a.wav|s|en|{TEXT}\nmissing.wav|s|en|{TEXT}")
    for row in kept_utterances(open_corpus(path), ledger):
        ledger.keep(row, seconds=1.5)
    report = ledger.report()
    assert report["warnings"] == {"unlisted_audio": 2}
    assert (report["rows"], report["kept"], report["dropped"]) == (2, 1, {"missing": 1})


def test_ids_do_not_depend_on_where_the_corpus_lies(tmp_path: Path):
    ids = []
    for place in ("here", "there/deeper"):
        write_clips(tmp_path / place, ["wavs/a.wav"])
        (tmp_path / place / "metadata.csv").write_text(f"a|{TEXT}\n")
        ids += [row.id for row in open_corpus(tmp_path / place).rows()]
    assert ids[0] == ids[1]


def test_pairs_in_another_encoding_lose_that_row_only(folder: Path):
    for name, data in {
        "a": TEXT.encode(),
        "b": "schöne Füße über".encode("latin-1"),
        "c": b"\xef\xbb\xbfplain",
    }.items():
        (folder / f"{name}.txt").write_bytes(data)
    assert outcomes(folder) == ["kept", "text_encoding", "kept"]


def test_many_rows_are_all_accounted_for(tmp_path: Path):
    (tmp_path / "wavs").mkdir()
    content, count, files = encoded(), 20_000, 2_000
    first = tmp_path / "wavs" / "0.wav"
    first.write_bytes(content)
    for number in range(1, files):
        os.link(first, tmp_path / "wavs" / f"{number}.wav")
    with (tmp_path / "x.jsonl").open("w") as file:
        for number in range(count):
            row = {"audio": f"wavs/{number % files}.wav", "text": f"{TEXT} {number}", "start": number // files / 10}
            file.write(json.dumps(row) + "\n")
    ledger = Ledger()
    kept = sum(1 for row in kept_utterances(open_corpus(tmp_path), ledger) if not ledger.keep(row))
    assert kept == ledger.report()["rows"] == count
