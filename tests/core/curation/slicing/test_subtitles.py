"""Subtitles beside a recording give cuts and texts, whatever their writers did."""

from __future__ import annotations

import shutil

import pytest

from tests.core.curation.slicing.joined import RATE, Said, cut, joined, refused, require_whole, write
from tts_train.curation.folder import CorpusFolder


@pytest.fixture(scope="module")
def talk():
    return joined(5)


def clock(seconds: float, point: str = ",") -> str:
    whole = round(max(0.0, seconds) * 1000)
    return f"{whole // 3600000:02d}:{whole // 60000 % 60:02d}:{whole // 1000 % 60:02d}{point}{whole % 1000:03d}"


def srt(*cues: tuple[float, float, str]) -> str:
    lines = [f"{n}\n{clock(start)} --> {clock(end)}\n{text}\n" for n, (start, end, text) in enumerate(cues, 1)]
    return "\n".join(lines)


def rough(said: Said, off: float = 0.3) -> tuple[float, float, str]:
    """Return a cue as somebody sets it by hand: a third of a second early and late."""
    return said.start - off, said.end + off, said.text


def rows_of(tmp_path, capsys, talk, name: str, text: str | bytes, *words: str):
    path = write(tmp_path / "talk.wav", talk[0])
    data = text if isinstance(text, bytes) else text.encode()
    (tmp_path / name).write_bytes(data)
    report = cut(capsys, path, tmp_path / "out", *words)
    require_whole(tmp_path / "out", [len(talk[0])])
    return CorpusFolder.open(tmp_path / "out").rows(), report


def text_grid(cues) -> str:
    end = max(end for _, end, _ in cues)
    tiers = {"words": [(s, s + (e - s) / 2, t.split()[0]) for s, e, t in cues], "said": cues}
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0", f"xmax = {end}"]
    lines += ["tiers? <exists>", f"size = {len(tiers)}", "item []:"]
    for number, (name, found) in enumerate(tiers.items(), 1):
        lines += [f"    item [{number}]:", '        class = "IntervalTier"', f'        name = "{name}"']
        lines += ["        xmin = 0", f"        xmax = {end}", f"        intervals: size = {len(found)}"]
        for at, (start, stop, text) in enumerate(found, 1):
            lines += [f"        intervals [{at}]:", f"            xmin = {start}", f"            xmax = {stop}"]
            lines += [f'            text = "{text}"']
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("name", ["talk.srt", "talk.vtt", "talk.txt", "talk.TextGrid", "talk.wav.srt"])
def test_each_format_gives_texts_and_edges_at_the_pauses(tmp_path, capsys, talk, name):
    cues = [rough(said) for said in talk[1]]
    text = {
        "srt": srt(*cues),
        "vtt": "WEBVTT\n\n" + "\n".join(f"{clock(s, '.')} --> {clock(e, '.')} line:0\n{t}\n" for s, e, t in cues),
        "txt": "".join(f"{s:.6f}\t{e:.6f}\t{t}\n" for s, e, t in cues),
        "TextGrid": text_grid(cues),
    }[name.rpartition(".")[2]]
    rows, report = rows_of(tmp_path, capsys, talk, name, text)
    assert [row.text for row in rows] == [said.text for said in talk[1]]
    assert {row.text_by for row in rows} == {"subtitles"}
    for row, said in zip(rows, talk[1], strict=True):
        assert row.cut.start + row.facts["margins"][0] == pytest.approx(said.start, abs=0.05)
        assert row.cut.end - row.facts["margins"][1] == pytest.approx(said.end, abs=0.05)
    assert report["with_text"] == 5
    assert report["next"][0].startswith("tts-train corpus review")


def test_cues_in_any_order_are_sorted_and_told(tmp_path, capsys, talk):
    cues = [rough(said) for said in talk[1]]
    rows, report = rows_of(tmp_path, capsys, talk, "talk.srt", srt(*cues[3:], *cues[:3]))
    assert [row.text for row in rows] == [said.text for said in talk[1]]
    assert report["subtitles"] == {"out_of_order": 1}
    assert "talk.srt: out_of_order: cues 3" in report["told"]


def test_cues_without_words_length_speech_or_place_are_named(tmp_path, capsys, talk):
    said, whole = talk[1], len(talk[0]) / RATE
    odd = [
        (said[0].start, said[0].end, said[0].text),
        (said[1].start, said[1].end, "[music]"),
        (said[2].end, said[2].start, said[2].text),
        (said[2].end + 0.3, said[2].end + 0.7, "Nobody says this."),
        (said[4].start, whole + 5, said[4].text),
        (whole + 9, whole + 11, "Much later."),
    ]
    rows, report = rows_of(tmp_path, capsys, talk, "talk.srt", srt(*odd))
    assert [row.text for row in rows] == [said[0].text, said[4].text]
    assert report["subtitles"] == {
        "no_words": 1, "no_length": 1, "no_speech": 1, "shortened": 1, "past_end": 1,
    }  # fmt: skip
    # What no cue says is speech all the same, and has a fate.
    unsaid = sum(one.end - one.start for one in said[1:4])
    assert report["seconds"]["no_subtitle"] == pytest.approx(unsaid, abs=0.3)
    account = CorpusFolder.open(tmp_path / "out").recordings()[0]
    assert "no_length: cues 3" in account.detail


def test_overlaps_are_halved_joined_or_left_out(tmp_path, capsys, talk):
    said = talk[1]
    rows, report = rows_of(
        tmp_path,
        capsys,
        talk,
        "talk.srt",
        srt(
            (said[0].start, said[1].start + 0.2, said[0].text),
            (said[1].start - 0.2, said[1].end, said[1].text),
            (said[2].start, said[2].end, "Could you pass me"),
            (said[2].start, said[2].end, "the juice?"),
            (said[3].start, said[3].end, "ANNA: Yes."),
            (said[3].start, said[3].end, "BEN: No."),
        ),
    )
    assert [row.text for row in rows] == [said[0].text, said[1].text, "Could you pass me the juice?", "Yes."]
    assert [row.speaker for row in rows] == [None, None, None, "ANNA"]
    assert report["subtitles"] == {"overlap": 1, "same_time": 1, "two_at_once": 1}


def test_styles_speakers_and_sounds_are_taken_out_of_the_text(tmp_path, capsys, talk):
    said = [f"{clock(one.start, '.')} --> {clock(one.end, '.')} position:10%,line-left align:start" for one in talk[1]]
    text = (
        "WEBVTT - made by a machine\nKind: captions\n\nNOTE nothing\n\nSTYLE\n::cue { color: red }\n\n"
        f"{said[0]}\n<v.loud Anna>Good <i>morning</i>, <00:00:01.500><c>Ben &amp; Co</c>.</v>\n\n"
        f"{said[1]}\n[sighs] A quick *otter*\nslid down. (laughs)\n\n"
        f"{said[2]}\n♪ la la la ♪\n\n"
        f'{said[3]}\nDR. MÜLLER: Note: the <font color="#fff">door</font> is {{\\an8}}blue.\n\n'
        f"{said[4]}\n- Внимание: поезд.\n- No.\n"
    )
    rows, report = rows_of(tmp_path, capsys, talk, "talk.en-US.vtt", text)
    assert [(row.speaker, row.text) for row in rows] == [
        ("Anna", "Good morning, Ben & Co."),
        (None, "A quick slid down."),
        ("DR. MÜLLER", "Note: the door is blue."),
        (None, "Внимание: поезд. No."),
    ]
    assert {row.language for row in rows} == {"en-us"}
    assert report["subtitles"] == {"no_words": 1}


def test_captions_that_roll_up_say_each_word_once(tmp_path, capsys, talk):
    said = talk[1]
    text = srt(
        (said[0].start, said[0].end, "Good morning."),
        (said[0].end, said[1].start, "Good morning."),
        (said[1].start, said[1].end, "Good morning.\nA quick otter."),
        (said[1].end, said[1].end + 0.01, "Good morning.\nA quick otter."),
        (said[2].start, said[2].end, "Pass me the juice."),
        (said[2].end, said[3].end, "Pass me the juice.\nThe door is blue."),
        (said[3].end, said[4].end, "The door is blue.\nFresh bread smells."),
    )
    rows, report = rows_of(tmp_path, capsys, talk, "talk.srt", text)
    assert [row.text for row in rows] == [
        *("Good morning.", "A quick otter.", "Pass me the juice.", "The door is blue.", "Fresh bread smells."),
    ]
    assert report["subtitles"]["repeated"] == 5


def test_cues_of_one_sentence_and_short_ones_are_joined_within_the_limits(tmp_path, capsys):
    sound, said = joined(4, pause=0.5)
    cues = [
        (one.start, one.end, text)
        for one, text in zip(said, ("Good morning", "and welcome.", "Yes.", "Now."), strict=True)
    ]
    rows, report = rows_of(tmp_path, capsys, (sound, said), "talk.srt", srt(*cues))
    assert [row.text for row in rows] == ["Good morning and welcome.", "Yes.", "Now."]
    assert report["subtitles"] == {"joined": 1}
    rows, report = rows_of(tmp_path, capsys, (sound, said), "talk.srt", srt(*cues), "--max_seconds", "4")
    assert [row.text for row in rows] == ["Good morning", "and welcome.", "Yes.", "Now."]
    rows, report = rows_of(tmp_path, capsys, (sound, said), "talk.srt", srt(*cues), "--max_seconds", "2.1")
    assert report["subtitles"]["too_long"] + len(rows) == 4
    assert report["seconds"]["too_long"] > 2


def test_old_codings_are_read_and_damaged_files_named(tmp_path, capsys, talk):
    cues = srt(*((one.start, one.end, "Schöne Grüße aus Köln, das weiß jeder.") for one in talk[1]))
    for coding in ("cp1252", "utf-16", "utf-8-sig"):
        rows, _ = rows_of(tmp_path, capsys, talk, "talk.srt", cues.encode(coding))
        assert {row.text for row in rows} == {"Schöne Grüße aus Köln, das weiß jeder."}
    (tmp_path / "talk.srt").write_bytes(b"this is no subtitle")
    told = refused(capsys, tmp_path / "talk.wav", tmp_path / "other")
    assert "bad_subtitles" in told
    assert "--subtitles false" in told
    report = cut(capsys, tmp_path / "talk.wav", tmp_path / "other", "--subtitles", "false")
    assert report["with_text"] == 0
    # The text of a recording is no file of labels.
    (tmp_path / "talk.srt").unlink()
    (tmp_path / "talk.txt").write_text("Good morning, and welcome to the workshop.\n")
    assert cut(capsys, tmp_path / "talk.wav", tmp_path / "third")["with_text"] == 0


def test_several_languages_need_a_choice(tmp_path, capsys, talk):
    path = write(tmp_path / "talk.wav", talk[0])
    for name, text in (("en", "Hello there."), ("fr", "Bonjour.")):
        (tmp_path / f"talk.{name}.srt").write_text(srt(*((one.start, one.end, text) for one in talk[1])))
    told = refused(capsys, path, tmp_path / "out")
    assert "en, fr" in told
    assert "--language" in told
    cut(capsys, path, tmp_path / "out", "--language", "fr")
    assert {row.text for row in CorpusFolder.open(tmp_path / "out").rows()} == {"Bonjour."}
    # As macOS stores names: a letter and its accent.
    write(tmp_path / "caf\u00e9.wav", talk[0])
    shutil.copy(tmp_path / "talk.en.srt", tmp_path / "cafe\u0301.srt")
    assert cut(capsys, tmp_path / "caf\u00e9.wav", tmp_path / "accent")["with_text"]
    # As films have it: the long code of a language.
    (tmp_path / "talk.en.srt").rename(tmp_path / "talk.eng.srt")
    cut(capsys, path, tmp_path / "out", "--language", "en")
    assert {(row.text, row.language) for row in CorpusFolder.open(tmp_path / "out").rows()} == {("Hello there.", "en")}
    # The same words under another name are in another language.
    (tmp_path / "talk.eng.srt").rename(tmp_path / "talk.en-GB.srt")
    cut(capsys, path, tmp_path / "out", "--language", "en")
    assert {row.language for row in CorpusFolder.open(tmp_path / "out").rows()} == {"en-gb"}
    (tmp_path / "talk.en-GB.srt").rename(tmp_path / "talk.en.srt")
    # Those of another recording are none of this one's.
    for name in ("en", "fr"):
        (tmp_path / f"talk.{name}.srt").rename(tmp_path / f"talk.{name}.kept")
    (tmp_path / "talk.mp3.srt").write_text(srt((0, 2, "Nothing.")))
    assert cut(capsys, path, tmp_path / "alone")["with_text"] == 0
    for name in ("en", "fr"):
        (tmp_path / f"talk.{name}.kept").rename(tmp_path / f"talk.{name}.srt")
    # Texts in another language than the one that is spoken are no use.
    report = cut(capsys, path, tmp_path / "out", "--language", "it")
    assert report["with_text"] == 0
    assert "subtitles in en, fr are not used" in report["told"]


def test_remarks_styles_and_names_of_cues_are_no_words(tmp_path, capsys, talk):
    (start, end, text), (start2, end2, text2) = map(rough, talk[1][:2])
    file = (
        f"WEBVTT Kind: captions\r\n\r\nSTYLE\n::cue {{}}\n\nintro - first\n{clock(start, '.')} --> {clock(end, '.')}\n"
        f"{text}\n\nNOTE of the editor\nin two lines\n\npart 2\n{clock(start2, '.')} --> {clock(end2, '.')} line:0\n"
        f"{text2}\n\nNOTE the end\n"
    )
    rows, _ = rows_of(tmp_path, capsys, talk, "talk.vtt", file)
    assert [row.text for row in rows] == [text, text2]
