"""References and codes on their way from a corpus to a backend's encoder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.core.corpus.sounds import TEXT, encoded, voice, write_clips
from tts_train.contract import RowEncoder, ShardedPrepare
from tts_train.corpus import RowRejected
from tts_train.corpus.probing import survey
from tts_train.errors import DataError

FRAMES = [[frame, frame + 1] for frame in range(40)]
FRAME_SECONDS = 0.05


@dataclass(frozen=True, kw_only=True)
class PlainEncoder(RowEncoder):
    """One that knows nothing of references and codes."""

    kind = "mine/speech"
    schema = pa.schema([("id", pa.string()), ("text", pa.string()), ("said", pa.string()), ("count", pa.int32()),
                        ("seconds", pa.float64())])  # fmt: skip
    length_column = "count"
    sample_rate = 16_000

    def fingerprint(self):
        return {"code_version": 1}

    def encode(self, clips, device):
        for clip in clips:
            read = "none" if clip.reference is None else f"{clip.reference.sample_rate}, {clip.reference.seconds:g} s"
            said = f"{clip.row.instruct}; {read}"
            yield {"said": said, "count": len(clip.row.codes) if clip.audio is None else len(clip.audio.samples)}


@dataclass(frozen=True, kw_only=True)
class CodesEncoder(PlainEncoder):
    takes_reference = True
    books: ClassVar[int] = 2

    def seconds_of_codes(self, row):
        if row.codes.shape[1] != self.books:
            raise RowRejected("bad_codes", f"{row.codes.shape[1]} codebooks, not {self.books}")
        return len(row.codes) * FRAME_SECONDS


@dataclass(kw_only=True)
class BesidesPrepare(ShardedPrepare):
    """Prepare with an encoder that is given."""

    given: RowEncoder

    def reading(self):
        return self.given

    def encoder(self, census, device):
        return self.given


@pytest.fixture
def corpus(tmp_path):
    folder = tmp_path / "corpus"
    write_clips(folder, ["a.wav", "b.wav", "ref.wav"])
    rows = [
        {"audio": "a.wav", "text": f"{TEXT} One.", "ref_audio": "ref.wav", "instruct": "Calm."},
        {"audio": "gone.wav", "text": f"{TEXT} Two.", "ref_audio": "ref.wav", "audio_codes": FRAMES},
        {"audio": "b.wav", "text": f"{TEXT} Three."},
        {"audio": "gone2.wav", "text": f"{TEXT} Four.", "audio_codes": [[1, 2, 3]] * 40},
        {"audio": "gone3.wav", "text": f"{TEXT} Five.", "audio_codes": FRAMES[:2]},
    ]
    (folder / "train_raw.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder / "train_raw.jsonl"


def prepared(corpus, out, encoder):
    report = BesidesPrepare(corpus=corpus, out=out, given=encoder, max_dropped=1.0).run()
    table = pa.concat_tables([pq.read_table(file) for file in sorted(out.glob("data/*.parquet"))]).to_pylist()
    return report, {row["text"].rpartition(" ")[2]: row for row in table}


def test_an_encoder_gets_the_reference_and_may_take_codes(corpus, tmp_path):
    report, rows = prepared(corpus, tmp_path / "out", CodesEncoder())
    assert {text: row["said"] for text, row in rows.items()} == {
        "One.": "Calm.; 16000, 1.5 s",
        "Two.": "None; 16000, 1.5 s",
        "Three.": "None; none",
    }
    assert (rows["Two."]["count"], rows["Two."]["seconds"]) == (40, 2.0)
    assert rows["One."]["seconds"] == 1.5
    assert report.dropped == {"bad_codes": 1, "too_short": 1}
    assert report.warnings == {"recording_missing": 1}
    assert report.hours == pytest.approx(5.0 / 3600, abs=1e-6)


def test_an_encoder_that_takes_none_reads_recordings_alone(corpus, tmp_path):
    report, rows = prepared(corpus, tmp_path / "out", PlainEncoder())
    assert {text: row["said"] for text, row in rows.items()} == {"One.": "Calm.; none", "Three.": "None; none"}
    assert report.dropped == {"missing": 3}


def test_a_reference_that_cannot_be_read_costs_the_row_where_it_is_needed(corpus, tmp_path):
    text = corpus.read_text().splitlines()
    rows = [text[0].replace("ref.wav", name) for name in ("none.wav", "silent.wav", "../out.wav")]
    sounds = [row.replace('"a.wav"', f'"{name}.wav"') for row, name in zip(rows, "abc", strict=True)]
    (corpus.parent / "c.wav").write_bytes(encoded(voice(seed=5)))
    (corpus.parent / "silent.wav").write_bytes(encoded(voice(level=0.0) * 0))
    (corpus.parent.parent / "out.wav").write_bytes(encoded())
    corpus.write_text("\n".join([*sounds, text[2].replace("b.wav", "ref.wav")]) + "\n", encoding="utf-8")
    report, _ = prepared(corpus, tmp_path / "out", CodesEncoder())
    assert report.dropped == {"missing": 1, "outside_root": 1, "silent": 1}
    told = [json.loads(line)["detail"] for line in (tmp_path / "out/dropped.jsonl").read_text().splitlines()]
    assert all(detail.startswith("its reference: ") for detail in told)
    report, _ = prepared(corpus, tmp_path / "plain", PlainEncoder())
    assert report.dropped == {}
    assert report.warnings["reference_missing"] == 2


def test_another_reference_makes_rows_again_and_nothing_else_does(corpus, tmp_path):
    out = tmp_path / "out"
    prepared(corpus, out, CodesEncoder())
    again, _ = prepared(corpus, out, CodesEncoder())
    assert (again.shards_written, again.shards_reused) == (0, 1)
    (corpus.parent / "ref.wav").write_bytes(encoded(voice(2.0, seed=6)))
    changed, rows = prepared(corpus, out, CodesEncoder())
    assert changed.shards_written == 1
    assert rows["One."]["said"] == "Calm.; 16000, 2 s"


def test_check_drops_what_prepare_drops(corpus, tmp_path):
    job = BesidesPrepare(corpus=corpus, out=tmp_path / "out", given=CodesEncoder(), max_dropped=1.0)
    report = survey(corpus, reader=job.reader)
    assert (report["kept"], report["dropped"]) == (3, {"bad_codes": 1, "too_short": 1})


def test_a_corpus_of_codes_alone_is_prepared(corpus, tmp_path):
    line = corpus.read_text().splitlines()[1]
    corpus.write_text(line + "\n", encoding="utf-8")
    report, rows = prepared(corpus, tmp_path / "out", CodesEncoder())
    assert (report.kept, list(rows)) == (1, ["Two."])
    with pytest.raises(DataError, match="missing: 1"):
        prepared(corpus, tmp_path / "plain", PlainEncoder())
