"""The data module: packed and padded batches, what is too long, the split, sets made elsewhere, text among speech."""

from __future__ import annotations

import json
import logging
from itertools import chain, pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from tests.orpheus.family import inspect_rows, pack_documents, pad_documents
from tts_train.datasets.store.shard_store import ShardStore
from tts_train.errors import ConfigError, DataError
from tts_train.families.token_lm.data.batch import Document
from tts_train.families.token_lm.data.encode import SCHEMA
from tts_train.families.token_lm.data.text_mix import TextMix
from tts_train_orpheus import layout
from tts_train_orpheus.model import ORPHEUS
from tts_train_orpheus.prompt import encode_text, speech_row
from tts_train_orpheus.stage import OrpheusData
from tts_train_orpheus.tokenizer import load_tokenizer

FRAMES = np.random.default_rng(0).integers(3, 40, 120).tolist()


def utterance(number, frames):
    codes = [(np.arange(frames * rate) * 7 + number) % 4096 for rate in layout.LEVEL_RATES]
    text = [layout.BEGIN_OF_TEXT, *(65 + (number + i) % 26 for i in range(3 + number % 9))]
    return speech_row(text, layout.codes_to_tokens(codes))


def write_set(folder, frames, speakers=("a",)):
    rows = []
    for number, count in enumerate(frames):
        made = utterance(number, count)
        rows.append(
            {
                "id": f"u{number:04d}",
                "input_ids": made.input_ids.astype(np.int32),
                "prompt_tokens": made.prompt,
                "num_tokens": len(made.input_ids),
                "frames": count,
                "text": "x",
                "speaker": speakers[number % len(speakers)],
                "language": None,
                "seconds": count * 0.1,
                "origin": f"list:{number}",
            }
        )
    store = ShardStore(folder, SCHEMA, kind=ORPHEUS.kind, length_column="num_tokens")
    report = {"rows": len(rows), "kept": len(rows), "dropped": {}, "hours": 0.0, "speakers": {}, "languages": {}}
    shard = store.write("a" * 32, rows, account={})
    store.finish([shard], settings={"tokenizer": "tiny"}, report=report)
    return str(folder)


def open_data(path, **options):
    data = OrpheusData(path, **options)
    data.setup("fit")
    return data


def batches(data, epoch=0):
    return [data.collate([data.train_set[row] for row in batch]) for batch in data.train_batches(epoch)]


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    return write_set(tmp_path_factory.mktemp("speech"), FRAMES, ("a", "b"))


def test_packed_batches_hold_documents_and_nothing_else(speech):
    data = open_data(speech, max_tokens=512)
    seen = []
    for batch in batches(data):
        ids, edges = batch["input_ids"], batch["cu_seqlens"].tolist()
        assert batch["input_ids"].shape == batch["targets"].shape == batch["position_ids"].shape == (1, edges[-1])
        assert edges[-1] <= 512
        assert layout.PAD not in ids
        assert batch["cu_seqlens"].dtype == torch.int32
        assert batch["max_seqlen"] == max(np.diff(edges))
        for name, start, end in zip(batch["ids"], edges[:-1], edges[1:], strict=True):
            original = utterance(int(name[1:]), FRAMES[int(name[1:])])
            document = ids[0, start:end]
            assert document.tolist() == original.input_ids.tolist()
            assert batch["position_ids"][0, start:end].tolist() == list(range(end - start))
            assert batch["targets"][0, start : end - 1].tolist() == document[1:].tolist()
            assert batch["targets"][0, end - 1] == -100
        seen += batch["ids"]
    assert len(seen) == len(set(seen)) == data.describe()["train_rows"]


def test_padded_and_packed_ask_for_the_same_targets():
    documents = [Document(f"d{n}", utterance(n, n + 2).input_ids, seconds=1.0) for n in range(4)]
    packed, padded = pack_documents(documents), pad_documents(documents)
    assert padded["cu_seqlens"] is None
    assert padded["input_ids"].shape == (4, max(map(len, documents)))
    real = padded["targets"] != -100
    assert padded["targets"][real].tolist() == packed["targets"][packed["targets"] != -100].tolist()
    for row, document in zip(padded["input_ids"], documents, strict=True):
        assert row[len(document) :].eq(layout.PAD).all()
    assert int((padded["input_ids"] != layout.PAD).sum()) == packed["input_ids"].numel()
    assert packed["audio_seconds"] == padded["audio_seconds"] == 4.0
    assert packed["ids"] == ["d0", "d1", "d2", "d3"]
    assert packed["lengths"] == padded["lengths"] == [len(document) for document in documents]


def test_batches_know_where_their_targets_are():
    documents = [Document(f"d{n}", utterance(n, n + 2).input_ids, learn_from=n) for n in range(4)]
    for batch in (pack_documents(documents), pad_documents(documents)):
        targets = batch["targets"].flatten()
        assert batch["kept"].tolist() == (targets != -100).nonzero().flatten().tolist()
        assert sum(batch["place_sizes"]) == len(batch["kept"]) == len(batch["by_place"])
        for place, tokens in enumerate(torch.split(batch["by_place"], batch["place_sizes"])):
            assert tokens.tolist() == sorted(tokens.tolist())
            assert {layout.place_of(int(target)) for target in targets[batch["kept"][tokens]]} <= {place}
        assert batch["place_sizes"][0] == sum(
            layout.slot_of(t) == 0 or t == layout.END_OF_SPEECH for t in targets.tolist()
        )


def test_padded_batches_stay_within_size_and_budget(speech):
    data = open_data(speech, max_tokens=1024, batching="padded", batch_size=4)
    made = batches(data)
    assert max(batch["input_ids"].numel() for batch in made) <= 1024
    assert max(len(batch["ids"]) for batch in made) == 4
    assert len({name for batch in made for name in batch["ids"]}) == len(data.train_set)


def test_loss_on_speech_begins_at_the_first_audio_token(speech):
    data = open_data(speech, max_tokens=512, loss_on="speech")
    for batch in batches(data)[:5]:
        edges = batch["cu_seqlens"].tolist()
        for start, end in pairwise(edges):
            wanted = batch["targets"][0, start:end]
            wanted = wanted[wanted != -100].tolist()
            assert layout.slot_of(wanted[0]) == 0
            assert wanted[-2:] == [layout.END_OF_SPEECH, layout.END_OF_AI]
            assert all(layout.slot_of(token) >= 0 for token in wanted[:-2])


def test_epochs_are_complete_differ_and_are_equally_long(speech):
    data = open_data(speech, max_tokens=512)
    plans = [data.train_batches(epoch) for epoch in range(5)]
    assert len({len(plan) for plan in plans}) == 1
    assert all(sorted(chain.from_iterable(plan)) == list(range(len(data.train_set))) for plan in plans)
    assert plans[0] != plans[1]
    assert open_data(speech, max_tokens=512).train_batches(3) == plans[3]
    assert open_data(speech, max_tokens=512, seed=1).train_batches(0) != plans[0]


def test_too_long_is_dropped_by_name_before_training(tmp_path, caplog):
    path = write_set(tmp_path / "set", [5, 6, 100, 7, 120])
    with caplog.at_level(logging.WARNING):
        data = open_data(path, max_tokens=200, val_share=0.0)
    assert "u0002 (71" in caplog.text
    assert "were dropped" in caplog.text
    longest = len(utterance(4, 120).input_ids)
    assert f"--data.max_tokens {longest} takes all" in caplog.text
    assert data.describe()["left_out"] == {"too_long": 2}
    assert data.max_length == len(utterance(3, 7).input_ids)
    assert len(data.train_set) == 3


def test_too_long_is_cut_at_a_frame_and_teaches_no_stop(tmp_path, caplog):
    path = write_set(tmp_path / "set", [5, 100])
    with caplog.at_level(logging.WARNING):
        data = open_data(path, max_tokens=200, on_too_long="cut", val_share=0.0)
    assert "learns no stop" in caplog.text
    whole, document = utterance(1, 100), data.train_set[1]
    frames = (200 - whole.prompt) // 7
    assert len(document) == whole.prompt + 7 * frames
    assert document.input_ids.tolist() == whole.input_ids[: len(document)].tolist()
    assert layout.END_OF_SPEECH not in document.targets
    assert document.targets[-1] == -100
    assert document.seconds == pytest.approx(10.0 * 7 * frames / (7 * 100 + 2))


def test_a_row_whose_ends_alone_are_too_much_keeps_its_frames(tmp_path):
    path = write_set(tmp_path / "set", [5, 20])
    whole = utterance(1, 20)
    data = open_data(path, max_tokens=len(whole.input_ids) - 1, on_too_long="cut", val_share=0.0)
    assert data.train_set[1].input_ids.tolist() == whole.input_ids[:-2].tolist()


def test_nothing_left_says_what_to_type(tmp_path, speech):
    path = write_set(tmp_path / "set", [50, 60])
    longest = len(utterance(1, 60).input_ids)
    with pytest.raises(DataError, match=f"Raise it to {longest}"):
        open_data(path, max_tokens=100)
    with pytest.raises(DataError, match=r"nothing at .*tts-train prepare"):
        open_data(str(tmp_path / "absent"))
    with pytest.raises(DataError, match="tts-train prepare"):
        open_data(str(tmp_path))
    with pytest.raises(ConfigError, match=r"--data.max_tokens"):
        OrpheusData(speech, max_tokens=0)


def test_validation_rows_are_never_trained_on(speech, tmp_path):
    data = open_data(speech, max_tokens=512, val_share=0.1)
    held = {data.val_set[row].id for batch in data.val_batches() for row in batch}
    trained = {name for batch in batches(data) for name in batch["ids"]}
    assert held
    assert not held & trained
    assert len(held | trained) == 120
    other = write_set(tmp_path / "other", [4, 5, 6])
    own = open_data(speech, max_tokens=512, val_path=other)
    assert (len(own.train_set), len(own.val_set)) == (120, 3)


def foreign(folder, rows):
    folder.mkdir()
    ids = pa.array([list(map(int, row)) for row in rows], pa.list_(pa.int64()))
    pq.write_table(pa.table({"input_ids": ids, "labels": ids}), folder / "train.parquet")
    return str(folder)


def test_a_tokenised_set_without_index_is_used_as_it_is(tmp_path):
    path = foreign(tmp_path / "set", [utterance(number, 4 + number).input_ids for number in range(6)])
    data = open_data(path, max_tokens=300, loss_on="speech", val_share=0.0)
    document = data.train_set[2]
    assert document.input_ids.tolist() == utterance(2, 6).input_ids.tolist()
    assert document.learn_from == utterance(2, 6).prompt
    assert document.seconds == pytest.approx(6 * 2048 / 24_000)


def test_a_foreign_set_with_bad_rows(tmp_path, caplog):
    good = [utterance(number, 5).input_ids for number in range(30)]
    with caplog.at_level(logging.WARNING):
        data = open_data(foreign(tmp_path / "few", [*good, good[0][:-4]]), val_share=0.0)
    assert "1 of 31 rows are left out: bad_tokens (it has no end of speech" in caplog.text
    assert len(data.train_set) == 30
    with pytest.raises(DataError, match=r"10 of 40 rows .*\n  10 rows: .*\n.*tts-train prepare"):
        open_data(foreign(tmp_path / "many", [*good, *(row[:-4] for row in good[:10])]))


def test_every_fault_of_a_row_has_its_name():
    row = utterance(1, 3).input_ids
    start = int(np.flatnonzero(row == layout.START_OF_SPEECH)[0])
    swapped = row.copy()
    swapped[[start + 1, start + 2]] = swapped[[start + 2, start + 1]]
    cases = {
        "": row,
        "no ids": row[:0],
        "outside": np.append(row, layout.VOCAB_SIZE),
        "no start": np.delete(row, start),
        "several starts": np.concatenate([row, row]),
        "no audio": np.concatenate([row[: start + 1], row[-2:]]),
        "no end": row[:-2],
        "between": np.insert(row, start + 1, 65),
        "wrong slot": swapped,
        "not whole": np.delete(row, len(row) - 3),
    }
    found = inspect_rows(np.concatenate(list(cases.values())), [len(case) for case in cases.values()])
    for fault, wanted in zip(found.faults, cases, strict=True):
        assert (wanted in fault) if wanted else fault == ""
    assert found.prompts[0] == start + 1
    assert found.frames[0] == 3


def write_text(path, count=40):
    lines = [json.dumps({"question": f"What is {n}?", "answer": f"It is {n}." * (1 + n % 3)}) for n in range(count)]
    path.write_text("\n".join([*lines, json.dumps({"question": "Q", "answer": "A", "system": "S"})]) + "\n")
    return str(path)


def test_text_comes_in_its_ratio(speech, tmp_path):
    mix = TextMix(path=write_text(tmp_path / "qa.jsonl"), ratio=2.0, ratio_end=0.5, epochs=2)
    data = open_data(speech, max_tokens=512, text_mix=mix)
    speech_rows = data.describe()["train_rows"]
    plans = [data.train_batches(epoch) for epoch in range(4)]
    assert len({len(plan) for plan in plans}) == 1
    shares = []
    for plan in plans:
        kinds = [{row >= speech_rows for row in batch} for batch in plan]
        assert all(len(kind) == 1 for kind in kinds), "a batch is text or speech"
        assert {row for batch in plan for row in batch if row < speech_rows} == set(range(speech_rows))
        shares.append(sum(kind == {True} for kind in kinds) / sum(kind == {False} for kind in kinds))
    assert shares[0] == pytest.approx(1.6, abs=0.15)
    assert shares[1] == pytest.approx(0.9, abs=0.15)
    assert shares[3] == pytest.approx(0.5, abs=0.1)
    assert open_data(speech, max_tokens=512, text_mix=mix).train_batches(2) == plans[2]


def test_text_rows_are_questions_and_answers(speech, tmp_path):
    mix = TextMix(path=write_text(tmp_path / "qa.jsonl"))
    data = open_data(speech, max_tokens=512, text_mix=mix, loss_on="speech")
    first = data.train_set[data.describe()["train_rows"]]
    tokenizer = load_tokenizer("tiny")
    answer = encode_text(tokenizer, "It is 0.")
    wanted = first.targets[first.targets != -100].tolist()
    assert wanted == [*answer, layout.END_OF_TURN, layout.END_OF_AI]
    assert first.seconds == 0.0
    last = data.train_set[len(data.train_set) - 1]
    assert last.input_ids[0] == layout.START_OF_SYSTEM


def test_text_may_be_tokenised_already(speech, tmp_path):
    rows = [[layout.START_OF_HUMAN, layout.BEGIN_OF_TEXT, 65, layout.START_OF_AI, 66, 67] for _ in range(5)]
    data = open_data(speech, max_tokens=512, text_mix=TextMix(path=foreign(tmp_path / "text", rows), ratio=0.25))
    assert data.train_set[len(data.train_set) - 1].input_ids.tolist() == rows[0]
    assert any(batch["audio_seconds"] == 0 for batch in batches(data))


def test_text_that_cannot_be_used_says_where(speech, tmp_path):
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"question": "Q", "answer": "A"}\n{"question": "Q"}\n')
    with pytest.raises(DataError, match=r"bad.jsonl:2 must be an object"):
        open_data(speech, text_mix=TextMix(path=str(bad)))
    with pytest.raises(DataError, match="nothing at"):
        open_data(speech, text_mix=TextMix(path=str(tmp_path / "absent.jsonl")))
    with pytest.raises(ConfigError, match="ratio"):
        TextMix(ratio=-1.0)
    long = tmp_path / "long.jsonl"
    long.write_text(json.dumps({"question": "Q" * 600, "answer": "A"}))
    with pytest.raises(DataError, match=r"Row 1 of .* has 6"):
        open_data(speech, max_tokens=512, text_mix=TextMix(path=str(long)))


def test_batches_come_through_loaders_and_workers(speech):
    from torch.utils.data import DataLoader

    data = open_data(speech, max_tokens=512, num_workers=2)
    plan = data.train_batches(0)[:4]
    loader = DataLoader(data.train_set, batch_sampler=plan, collate_fn=data.collate, num_workers=2)
    for loaded, batch in zip(loader, plan, strict=True):
        own = data.collate([data.train_set[row] for row in batch])
        assert loaded["ids"] == own["ids"]
        assert torch.equal(loaded["input_ids"], own["input_ids"])
    assert list(data.val_dataloader())


def test_the_trainer_moves_and_takes_the_batch(speech):
    from lightning.pytorch.utilities import move_data_to_device

    batch = batches(open_data(speech, max_tokens=512))[0]
    moved = move_data_to_device(batch, torch.device("cpu"))
    assert set(moved) == set(batch)
    assert moved["ids"] == batch["ids"]
