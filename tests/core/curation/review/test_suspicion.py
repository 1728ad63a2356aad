"""What is told of which row, and what is not: each kind by one row that stands out of forty ordinary ones."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from tests.core.curation.review.folders import SENTENCES, make_folder, report_of
from tts_train.curation.review.suspicion import KINDS, is_reviewed, judge, second_hypothesis
from tts_train.curation.review.usual import Usual
from tts_train.curation.review.wording import find_loop, made_up, script_of, spoken_words, two_readings
from tts_train.curation.row import ClipRow


def ordinary(count: int = 40) -> list[ClipRow]:
    """Rows as a recogniser leaves them of one person who reads, 14 letters a second, a fifth faster or slower."""
    random = Random(5)
    rows = []
    for place in range(count):
        text = f"{SENTENCES[place % len(SENTENCES)][1]} {'abcdefgh'[place % 8] * 3}{'klmnop'[place // 8]} went on"
        seconds = round(len(text) / 14 * random.uniform(0.85, 1.2) + 0.4, 2)
        rows.append(
            ClipRow(
                audio=f"clips/{place}.flac",
                seconds=seconds,
                text=text,
                language="en",
                speaker="Anna",
                text_by="recogniser small",
                confidence=0.95,
                facts={"speaker_cluster": 1, "speaker_likeness": round(random.uniform(0.8, 0.9), 3)},
            )
        )
    return rows


ODD = {
    "no_text": {"text": " … ", "confidence": None},
    "not_heard": {"text": "", "facts": {"not_heard": "decode_error: broken"}},
    "unsure": {"confidence": 0.5},
    "disagreement": {"facts": {"hypotheses": [{"by": "a", "text": "x"}, {"by": "b", "text": "quite another thing"}]}},
    "loop": {"text": "thank you thank you thank you thank you thank you"},
    "made_up": {"text": "Thanks for watching!"},
    "fast": {"seconds": 1.0},
    "slow": {"seconds": 30.0},
    "short": {"text": "A.", "seconds": 0.6},
    "long": {"text": " ".join(f"word{chr(97 + place % 26)}{place}" for place in range(90)), "seconds": 40.0},
    "language": {"text": "Heute scheint die Sonne den ganzen Tag über der Stadt", "seconds": 4.0},
    "speaker": {"facts": {"speaker_cluster": 1, "speaker_likeness": 0.3}},
    "two_readings": {"text": "Dr. Miller paid 12 euros for the book that he had read to them", "seconds": 4.5},
    "finding": {"facts": {"findings": ["cut_at_end"]}},
}


@pytest.mark.parametrize("kind", ODD)
def test_a_row_that_stands_out_is_told_and_why(kind):
    rows = ordinary()
    odd = replace(rows[7], **ODD[kind])
    usual = Usual.of([*rows[:7], odd, *rows[8:]])
    verdict = judge(odd, usual)
    assert kind in {reason.kind for reason in verdict.reasons}
    assert verdict.suspicion >= max(reason.weight for reason in verdict.reasons) - 0.001
    assert not [reason.said for reason in verdict.reasons if reason.said.endswith(".")]


def test_ordinary_rows_are_not_suspicious():
    rows = ordinary()
    usual = Usual.of(rows)
    assert [judge(row, usual).reasons for row in rows] == [()] * len(rows)


def test_every_kind_has_a_name_and_a_row_that_shows_it():
    assert KINDS.keys() - ODD.keys() == {"no_clip", "repeated"}


def test_a_text_that_a_recogniser_writes_again_and_again_is_told():
    rows = ordinary()
    rows = [*rows[:-3], *(replace(row, text="So, yes.") for row in rows[-3:])]
    kinds = {reason.kind for reason in judge(rows[-1], Usual.of(rows)).reasons}
    assert "repeated" in kinds
    # What came with the recordings was said, however often.
    rows = [replace(row, text_by="corpus") for row in rows]
    assert "repeated" not in {reason.kind for reason in judge(rows[-1], Usual.of(rows)).reasons}


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"speaker_like_other": "Bob", "speaker_cluster": 2}, "Is called Anna and sounds like Bob"),
        ({"speaker_cluster": 0}, "The voice is like no other of the corpus"),
        ({"speaker_cluster": 2}, "The voice is another than in most clips of this speaker"),
    ],
)
def test_what_corpus_speakers_found_is_told_once(facts, said):
    rows = ordinary()
    odd = replace(rows[0], facts={**facts, "speaker_likeness": 0.2})
    assert [reason.said for reason in judge(odd, Usual.of([odd, *rows[1:]])).reasons] == [said]


def test_reasons_add_up_and_never_beyond_one():
    rows = ordinary()
    odd = replace(rows[0], confidence=0.2, facts={"findings": ["noise", "music", "cut_at_end"]})
    verdict = judge(odd, Usual.of(rows), has_clip=False)
    assert verdict.suspicion == 1.0
    assert [reason.weight for reason in verdict.reasons] == sorted(
        (reason.weight for reason in verdict.reasons), reverse=True
    )
    one = judge(replace(rows[0], facts={"findings": ["noise"]}), Usual.of(rows)).suspicion
    two = judge(replace(rows[0], facts={"findings": ["noise", "music"]}), Usual.of(rows)).suspicion
    assert (one, two) == (0.5, 0.75)


def test_what_a_person_has_seen_is_not_suspicious():
    rows = ordinary()
    for seen in (
        replace(rows[0], facts={"reviewed": True}, seconds=30),
        replace(rows[0], text_by="person", seconds=30),
    ):
        assert is_reviewed(seen)
        verdict = judge(seen, Usual.of(rows))
        assert verdict.suspicion == 0.0
        assert verdict.reasons


def test_a_small_corpus_has_no_usual_rate():
    rows = ordinary(8)
    odd = replace(rows[0], seconds=60.0)
    assert not {"fast", "slow"} & {reason.kind for reason in judge(odd, Usual.of([odd, *rows[1:]])).reasons}


def test_two_languages_on_purpose_are_no_reason():
    rows = ordinary()
    half = [replace(row, language="de", text="Die Sonne scheint heute über der ganzen Stadt") for row in rows[:20]]
    usual = Usual.of([*half, *rows[20:]])
    assert "language" not in {reason.kind for row in half for reason in judge(row, usual).reasons}


@pytest.mark.parametrize(
    ("text", "loop"),
    [
        ("thank you thank you thank you", ("thank you", 3)),
        ("I said no no no no to that", ("no", 4)),
        ("and then and then he left", ("and then", 2)),
        ("谢谢观看谢谢观看谢谢观看", ("谢谢观看", 3)),
        ("ハハハ、おはよう", None),
        ("no, no", None),
        ("five five five one two", ("five", 3)),
        ("5 5 5 1 2", None),
        ("very, very good", None),
        ("What will be, will be.", ("will be", 2)),
        ("the cat sat on the mat", None),
        ("", None),
    ],
)
def test_loops(text, loop):
    assert find_loop(text) == loop


def test_a_loop_of_a_book_s_length_is_found_at_once():
    assert find_loop("word " * 200_000) == ("word", 1000)


def test_a_text_that_repeats_itself_loosely_is_a_loop():
    text = "you know what I mean, so you know what I mean, and you know what I mean, but you know what I mean. " * 2
    assert find_loop(text)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Dr. Miller paid $12.50 at 10:30.", ["Dr", "$12.50", "10:30"]),
        ("NASA and the UN met & left", ["NASA", "UN", "&"]),
        ("ALL OF THIS IS LOUD", []),
        ("No. That is all.", []),
        ("z. B. um 50 %", ["z. B", "50 %"]),
        ("I am here.", []),
    ],
)
def test_expressions_with_two_readings(text, found):
    assert two_readings(text) == found


def test_made_up_phrases_are_known_whatever_their_marks():
    assert made_up("  Thanks for watching! ")
    assert made_up("Sous-titrage Société Radio-Canada")
    assert made_up("Продолжение следует...")
    assert not made_up("Thanks for watching the cat while we were away")


def test_words_of_scripts_without_blanks_are_characters():
    assert spoken_words("Good Morning, isn’t it?") == ["good", "morning", "isn’t", "it"]
    assert spoken_words("おはよう。") == list("おはよう")
    assert (script_of("Привет!"), script_of("12"), script_of("abc д")) == ("CYRILLIC", "", "LATIN")


def test_a_second_hypothesis_is_one_that_says_other_words():
    row = ClipRow(audio="a.flac", seconds=1.0, text="Good morning.", facts={"hypotheses": [{"text": "good morning"}]})
    assert second_hypothesis(row) is None
    assert second_hypothesis(replace(row, text="Good mourning.")) == "good morning"


def test_the_most_suspicious_come_first_and_the_limit_keeps_them(tmp_path, capsys):
    folder = make_folder(tmp_path / "voice")
    rows = folder.rows()
    folder.write([*rows[:4], replace(rows[4], text=""), replace(rows[5], confidence=0.5)])
    (folder.path / rows[2].audio).unlink()
    told = report_of(capsys, "corpus", "review", folder.path, "--limit", "3")
    assert (told["rows"], told["shown"], told["suspicious"]) == (6, 3, 3)
    assert told["why"] == {"no_clip": 1, "no_text": 1, "unsure": 1}
    lines = (folder.path / "review" / "review.csv").read_text(encoding="utf-8-sig").splitlines()
    assert [line.split(",")[0] for line in lines[1:]] == [rows[2].audio, rows[4].audio, rows[5].audio]
