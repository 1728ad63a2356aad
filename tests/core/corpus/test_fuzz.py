"""Tables of every kind of nonsense: rows are kept or dropped, or the table is refused; nothing else happens."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tts_train.corpus.ledger import Ledger
from tts_train.corpus.read import kept_utterances, open_corpus
from tts_train.errors import DataError

FIELDS = [
    "a.wav", "sub/b.wav", "./a.wav", "C:\\x\\a.wav", "..\\..\\a", "/etc/passwd", "~", "nul\0.wav", "x" * 5000, "a",
    "Hello there.", "你好,世界。", "e\u0301", "\u202e\ufeff", "\ud800/a.wav", "", " ", "\t", '"', '""', '"a', 'b"',
    '"""a""',
    "one | two", "1,000", "a;b", "0", "-1", "nan", "inf", "1e999", "9" * 400, "en", "EN", "ann", "Ada King", "_",
    "text", "audio", "path", "speaker", "train", "test", "\x1b[31m", "\x85", "\u2028", "{", "[", "\\", "'", "=1+1",
]  # fmt: skip
VALUES: list[Any] = [
    *FIELDS,
    None,
    True,
    3,
    -1,
    2.5,
    float("nan"),
    10**30,
    [],
    [1, 2],
    [[1]],
    {},
    {"bytes": "x"},
    {"path": 3},
]
VALUES += [{"array": [0.1] * 9, "sampling_rate": 8000}, {"array": "x"}, {"array": [[]], "sampling_rate": 1}]
KEYS = ["audio", "text", "speaker", "start", "end", "duration", "input_ids", "labels", "split", "x", "", "Audio"]
FORMATS = ["auto", "metadata", "list", "jsonl", "audio|text", "audio|speaker|text", "text;-;audio", "speaker/audio",
           "audio=path,text=text", "pairs", "piper", "|", "a/b", "=", "audio|text|"]  # fmt: skip


def text_table(random_: random.Random) -> bytes:
    """Rows of fields, most of them of one width, some of them cut, quoted or broken."""
    mark, width = random_.choice("|\t;,"), random_.randint(1, 7)
    plausible = [["a.wav", "sub/b.wav", "c"], ["Hello there.", "你好,世界。", "one | two"], ["ann", "Ada King"]]
    pools = [random_.sample(FIELDS, random_.randint(1, 8)) for _ in range(width)]
    if random_.random() < 0.7:
        pools = [random_.choice([pool, good, good]) for pool, good in zip(pools, plausible, strict=False)] + pools[3:]
    lines = [mark.join(random_.choice(pool) for pool in pools) for _ in range(random_.randint(0, 12))]
    if random_.random() < 0.4:
        lines.insert(0, mark.join(random_.choice(["path", "text", "speaker", "start", "split", "x"]) for _ in pools))
    for _ in range(random_.randint(0, 3)):
        lines.insert(random_.randint(0, len(lines)), mark.join(random_.sample(FIELDS, random_.randint(0, 9))))
    data = (
        random_.choice(["\n", "\r\n", "\r"])
        .join(lines)
        .encode("utf-8", "surrogatepass" if random_.random() < 0.1 else "replace")
    )
    return data[: random_.randint(0, len(data))] if random_.random() < 0.1 else data


def json_table(random_: random.Random) -> bytes:
    """Objects with any value under any key, in lines or in a list."""
    rows = [{key: random_.choice(VALUES) for key in random_.sample(KEYS, random_.randint(0, 7))} for _ in range(8)]
    rows += random_.choice([[], ["text"], [{"audio": "a.wav", "text": "Hello."}]])
    whole = json.dumps(rows, indent=random_.choice([None, 1]))
    return ("\n".join(map(json.dumps, rows)) if random_.random() < 0.7 else whole).encode()


def parquet_table(random_: random.Random) -> bytes:
    """Columns of any type under any names, whole or with bytes changed."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds: list[tuple[pa.DataType, list[Any]]] = [
        (pa.string(), ["a.wav", "", None, "Hello."]), (pa.int64(), [1, None, -1]), (pa.float64(), [0.5, float("nan")]),
        (pa.binary(), [b"RIFF", b"", None]), (pa.list_(pa.int64()), [[1, 2], [], None]), (pa.bool_(), [True, None]),
        (pa.struct({"bytes": pa.binary(), "path": pa.string()}), [{"bytes": b"x", "path": "a.wav"}, None]),
        (pa.struct({"array": pa.list_(pa.float32()), "sampling_rate": pa.int32()}),
         [{"array": [0.0], "sampling_rate": 8000}, {"array": [None], "sampling_rate": 8000}, {"array": []}, None]),
        (pa.struct({"array": pa.string(), "sampling_rate": pa.string()}), [{"array": "x", "sampling_rate": "y"}]),
        (pa.timestamp("s"), [0, 1 << 50]), (pa.dictionary(pa.int32(), pa.string()), ["a", None]),
    ]  # fmt: skip
    count, arrays, names = random_.randint(0, 70), [], random_.choices(KEYS, k=random_.randint(0, 5))
    for _ in names:
        kind, values = random_.choice(kinds)
        arrays.append(pa.array([random_.choice(values) for _ in range(count)], kind))
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(arrays, names=names), sink)
    data = bytearray(sink.getvalue().to_pybytes())
    for _ in range(random_.choice([0, 0, 0, 1, 20])):
        data[random_.randrange(len(data))] = random_.randrange(256)
    return bytes(data)


@pytest.mark.parametrize(
    ("make", "names", "count"),
    [
        (text_table, ["metadata.csv", "x.tsv", "x.txt", "x.list", "train.list"], 400),
        (json_table, ["metadata.jsonl", "x.json", "test_manifest.json"], 200),
        (parquet_table, ["x.parquet", "data/test-0.parquet"], 200),
    ],
)
def test_no_table_breaks_the_reader(
    tmp_path: Path, make: Callable[[random.Random], bytes], names: list[str], count: int
):
    (tmp_path / "sub").mkdir()
    for name in ("a.wav", "sub/b.wav", "sub/c.wav"):
        (tmp_path / name).touch()
    (tmp_path / "data").mkdir()
    outcomes = {"refused": 0, "kept": 0, "dropped": 0}
    for seed in range(count):
        random_ = random.Random(seed)
        path = tmp_path / random_.choice(names)
        path.write_bytes(make(random_))
        named = random_.choice([path, tmp_path])
        ledger = Ledger()
        try:
            corpus = open_corpus(named, layout=random_.choice(FORMATS) if random_.random() < 0.4 else "auto")
            for row in kept_utterances(corpus, ledger):
                ledger.keep(row)
        except DataError as error:
            outcomes["refused"] += bool(str(error))
        except Exception as error:
            raise AssertionError(f"seed {seed} of {make.__name__}: {path.read_bytes()[:400]!r}") from error
        else:
            report = ledger.report()
            outcomes["kept"] += report["kept"]
            outcomes["dropped"] += sum(report["dropped"].values())
        path.unlink()
    # Each outcome is common, or the inputs try nothing.
    assert min(outcomes.values()) > count / 50, outcomes
