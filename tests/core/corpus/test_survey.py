"""A whole corpus is surveyed, here or by workers, with the same account."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.core.corpus.malformed import cases
from tests.core.corpus.sounds import RATE, TEXT, encoded, voice, write_clips
from tts_train.corpus.probing import probe, survey
from tts_train.errors import DataError


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty good rows, every malformed file, and rows that are no rows."""
    folder = tmp_path_factory.mktemp("mixed")
    write_clips(folder / "wavs", [f"good_{n}.wav" for n in range(40)])
    rows = [f"good_{n}.wav|{'ann' if n % 2 else 'bob'}|en|{TEXT} {n}" for n in range(40)]
    for name, data, _ in cases():
        (folder / "wavs" / name).write_bytes(data)
        rows.append(f"wavs/{name}|eve|en|{TEXT}")
    (folder / "x.list").write_text("\n".join([*rows, "nonsense", "gone.wav|a|en|x", f"good_1.wav|ann|en|{TEXT} 1"]))
    return folder


def test_every_row_is_accounted_for(mixed: Path, tmp_path: Path):
    calls: list[tuple[int, int]] = []
    dropped = tmp_path / "dropped.jsonl"
    report = survey(mixed, dropped_path=dropped, progress=lambda done, total: calls.append((done, total)))
    assert report["rows"] == report["kept"] + sum(report["dropped"].values()) == len(list(cases())) + 43
    assert report["layout"] == "list"
    assert report["speakers"]["ann"] == report["speakers"]["bob"] == 20
    assert {"truncated", "not_audio", "implausible", "silent", "bad_row", "missing", "duplicate"} <= set(
        report["dropped"]
    )
    assert len(dropped.read_text().splitlines()) == sum(report["dropped"].values())
    assert calls[-1] == (report["rows"], report["rows"])
    assert json.loads(json.dumps(report)) == report
    assert sum(report["seconds"]["histogram"].values()) == report["kept"]
    assert report["hours"] == pytest.approx(report["kept"] * report["seconds"]["mean"] / 3600, rel=0.01)


def test_workers_give_the_same_account(mixed: Path):
    assert survey(mixed, workers=2) == survey(mixed)


def test_levels_and_lengths(tmp_path: Path):
    for number, level in enumerate((0.1, 0.1, 0.1)):
        (tmp_path / f"{number}.wav").write_bytes(encoded(voice(2.5, seed=number, level=level)))
        (tmp_path / f"{number}.txt").write_text(TEXT)
    report = survey(tmp_path, max_dropped=0.0)
    assert report["seconds"]["histogram"]["2-4"] == 3
    assert report["levels"]["peak"]["p50"] == pytest.approx(-20, abs=1)
    assert report["levels"]["floor"]["p50"] < report["levels"]["rms"]["p50"] < report["levels"]["peak"]["p50"]
    assert report["rates"] == {str(RATE): 3}


def test_text_that_does_not_fit_its_audio(tmp_path: Path):
    write_clips(tmp_path, ["a.wav", "b.wav"])
    (tmp_path / "a.txt").write_text(TEXT * 5)
    (tmp_path / "b.txt").write_text(TEXT)
    assert survey(tmp_path)["dropped"] == {"text_audio_mismatch": 1}


def test_too_many_dropped_rows_stop_after_the_report(mixed: Path):
    reports: list[dict[str, object]] = []
    with pytest.raises(DataError, match=r"--max_dropped 0\.\d+"):
        survey(mixed, max_dropped=0.05, on_report=reports.append)
    assert reports[0]["kept"]


def test_tokenised_rows(tmp_path: Path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"input_ids": [[1, 2, 3], [4]]}), tmp_path / "x.parquet")
    report = survey(tmp_path)
    assert (report["rows"], report["kept"], report["tokens"]["max"]) == (2, 2, 3)


def test_a_file_that_kills_its_reader_costs_one_row(tmp_path: Path):
    write_clips(tmp_path, [f"{n}.wav" for n in range(5)])
    for number in range(5):
        (tmp_path / f"{number}.txt").write_text(TEXT)
    # A path that kills the process it arrives in: what a decoder does that crashes.
    program = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "import tts_train.corpus.probing as probing\n"
        "class Killer(type(Path())):\n"
        "    def __reduce__(self): return (die, (str(self),))\n"
        "def die(path):\n"
        "    if path.endswith('3.wav'): os.kill(os.getpid(), 9)\n"
        "    return Path(path)\n"
        "import tts_train.corpus.rows.builder as builder\n"
        "builder.Path = Killer\n"
        "import tts_train.corpus.rows.files as files\n"
        "files.Path = Killer\n"
        "if __name__ == '__main__':\n"
        "    report = probing.survey(sys.argv[1], workers=2)\n"
        "    sys.exit(f\"{report['kept']} {report['dropped']}\")\n"
    )
    script = tmp_path / "killer.py"
    script.write_text(program)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, script, tmp_path], capture_output=True, text=True, timeout=120, env=environment
    )
    assert done.stderr.strip().splitlines()[-1] == "4 {'decode_crash': 1}"


def test_nothing_of_torch_is_imported():
    program = "import sys, tts_train.corpus; sys.exit(str({'torch', 'pyarrow', 'datasets', 'av'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stderr.strip() == "set()"


@pytest.mark.parametrize("around", [0, 1, 3, 20])
def test_every_row_is_given_the_texts_around_it(tmp_path: Path, around: int):
    write_clips(tmp_path / "wavs", [f"{n}.wav" for n in range(7)])
    (tmp_path / "x.list").write_text("\n".join(f"{n}.wav|ann|en|{TEXT} {n}" for n in range(7)))
    seen: list[tuple[str, tuple[str, ...]]] = []

    def prober(row, read):
        seen.append((row.text, row.near))
        return probe(row, read)

    assert survey(tmp_path, prober=prober, around=around)["kept"] == 7
    texts = [f"{TEXT} {n}" for n in range(7)]
    assert seen == [
        (text, (*texts[max(0, n - around) : n], *texts[n + 1 : n + 1 + around])) for n, text in enumerate(texts)
    ]
