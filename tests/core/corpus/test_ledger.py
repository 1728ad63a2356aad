"""Every row ends exactly once, and the counts say so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tts_train.corpus import Rejected, Utterance, declare_reasons
from tts_train.corpus.ledger import Ledger
from tts_train.corpus.reasons import REASONS, WARNINGS
from tts_train.errors import DataError, TTSTrainError


def utterance(number: int, **options: object) -> Utterance:
    return Utterance(f"{number:016x}", Path("a.wav"), "text", origin=f"x.list:{number}", **options)


def filled(first: int, kept: int, dropped: int) -> Ledger:
    ledger = Ledger()
    for number in range(first, first + kept):
        ledger.keep(
            utterance(number, speaker="ann", language="en", warnings=("text_nfc",)), seconds=3.6, warnings=("dc",)
        )
    for number in range(first + kept, first + kept + dropped):
        ledger.drop(utterance(number), "silent", "peak 0")
    return ledger


def test_report_adds_up():
    assert filled(0, 3, 2).report() == {
        "rows": 5,
        "kept": 3,
        "dropped": {"silent": 2},
        "hours": 0.003,
        "speakers": {"ann": 3},
        "languages": {"en": 3},
        "warnings": {"dc": 3, "text_nfc": 3},
    }


def test_a_row_cannot_end_twice_or_never():
    ledger = Ledger()
    ledger.begin(utterance(1))
    with pytest.raises(RuntimeError, match="1 rows, but 0 kept"):
        ledger.report()
    ledger.keep(utterance(1))
    for again in (ledger.keep, lambda row: ledger.drop(row, "silent"), ledger.begin):
        with pytest.raises(RuntimeError, match="twice"):
            again(utterance(1))
    with pytest.raises(TTSTrainError, match=r"Backend\(reasons="):
        ledger.drop(utterance(2), "bad mood")
    with pytest.raises(TTSTrainError, match=r"Backend\(reasons="):
        ledger.warn("bad mood")
    assert ledger.report()["rows"] == 1


def test_a_backend_declares_its_own_reasons():
    own = {"toy_hums": "Somebody hums; record the words."}
    declare_reasons(own, warnings={"toy_sings": "Somebody sings and was kept."})
    declare_reasons(own)  # a module may be imported twice
    ledger = Ledger()
    ledger.drop(utterance(1), "toy_hums", "la la")
    ledger.keep(utterance(2), warnings=("toy_sings",))
    again = Ledger.from_state(json.loads(json.dumps(ledger.state())))
    assert (again.report()["dropped"], again.report()["warnings"]) == ({"toy_hums": 1}, {"toy_sings": 1})
    with pytest.raises(DataError, match=r"toy_hums: 1\. Somebody hums; record the words\. First"):
        again.enforce(0.0)
    for name, sentence in {"silent": "Another meaning.", "two words": "A sentence.", "toy_other": "No end"}.items():
        with pytest.raises(ValueError, match=r"means already|identifier"):
            declare_reasons({name: sentence})


def test_workers_ledgers_settle_the_rows_that_are_open_here():
    main = Ledger()
    for number in range(6):
        main.begin(utterance(number))
    main.begin(Rejected("x.list:6", "missing"))
    assert main.unsettled == 6
    main.merge(Ledger.from_state(json.loads(json.dumps(filled(0, 2, 1).state()))))
    main.merge(filled(3, 3, 0))
    assert main.report()["rows"] == 7
    assert main.report()["dropped"] == {"missing": 1, "silent": 1}
    with pytest.raises(RuntimeError, match="same row"):
        main.merge(filled(0, 1, 0))


def test_state_comes_back_whole():
    ledger = filled(0, 2, 2)
    ledger.begin(utterance(9))
    again = Ledger.from_state(json.loads(json.dumps(ledger.state())))
    assert again.state() == ledger.state()
    assert again.rows == 5


def test_too_many_dropped_rows_stop():
    filled(0, 19, 1).enforce(0.05)
    with pytest.raises(DataError) as caught:
        filled(0, 18, 2).enforce(0.05)
    message = str(caught.value)
    for part in ("2 of 20", "10.0%", "silent: 2", REASONS["silent"], "x.list:18 (peak 0)", "--max_dropped 0.11"):
        assert part in message
    filled(0, 18, 2).enforce(0.11)
    with pytest.raises(DataError, match="none is left"):
        filled(0, 0, 2).enforce(1.0)
    with pytest.raises(DataError, match="no rows"):
        Ledger().enforce(1.0)
    with pytest.raises(DataError, match="0 to 1"):
        filled(0, 1, 0).enforce(5)


def test_messages_carry_no_control_characters():
    ledger = Ledger()
    ledger.drop("evil\x1b[2J\nname.wav", "silent")
    ledger.drop("b\udcff.wav", "silent")
    with pytest.raises(DataError) as caught:
        ledger.enforce(0.0)
    assert "\x1b" not in str(caught.value)
    str(caught.value).encode()


def test_dropped_rows_are_written(tmp_path: Path):
    ledger = filled(0, 1, 2)
    ledger.drop("b\udcff.wav", "missing", "no file 'b\udcff.wav'")
    ledger.write_dropped(tmp_path / "dropped.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "dropped.jsonl").read_text().splitlines()]
    assert rows[0] == {"origin": "x.list:1", "reason": "silent", "detail": "peak 0"}
    assert rows[2]["origin"] == "b\udcff.wav"
    assert [path.name for path in tmp_path.iterdir()] == ["dropped.jsonl"]


def test_every_word_is_a_sentence():
    for name, sentence in {**REASONS, **WARNINGS}.items():
        assert name.isidentifier()
        assert sentence.endswith(".")
        assert len(sentence) > 20
