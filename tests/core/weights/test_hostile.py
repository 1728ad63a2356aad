"""No file of the hostile corpus runs code, opens a socket, writes anything, takes long or takes much memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.core.weights.hostile import HARMLESS, write_corpus

ROOT = Path(__file__).parents[3]
SECONDS = 1.0
MEBIBYTES = 500


@pytest.fixture(scope="module")
def marker(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("marks") / "ran"


@pytest.fixture(scope="module")
def report(tmp_path_factory, marker) -> dict[str, Any]:
    """All files opened in one process of their own, whose folder holds modules that leave the marker when imported."""
    place = tmp_path_factory.mktemp("hostile")
    for module in ("evilmod.py", "evil.py"):
        (place / module).write_text(f"open({str(marker)!r}, 'w').close()\n", encoding="utf-8")
    write_corpus(place / "files", marker)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "core"), str(place)]),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.core.weights.open_all", str(place / "files")],
        capture_output=True, text=True, cwd=place, env=environment, timeout=200, check=True,
    )  # fmt: skip
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def test_the_watch_sees_code_that_runs(report):
    assert report["control"] == ["os.system b'true'"]


def test_no_code_runs(report, marker):
    assert report["events"] == []
    assert not marker.exists()


def test_every_file_is_refused_in_one_line(report):
    assert len(report["files"]) > 100
    for row in report["files"]:
        if row["file"] != HARMLESS:
            assert row["code"] == 3, row
            assert row["file"] in row["verdict"]
            assert "\n" not in row["verdict"]


def test_a_class_named_in_a_config_stays_a_text(report):
    assert next(row for row in report["files"] if row["file"] == HARMLESS)["code"] == 0


def test_refusals_are_quick_and_small(report):
    slowest = max((row for row in report["files"] if row["file"] != HARMLESS), key=lambda row: row["seconds"])
    assert slowest["seconds"] < SECONDS, slowest
    assert report["mebibytes"] < MEBIBYTES


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("reduce.pth", ["'posix.system'", "GLOBAL at byte 15"]),
        ("header-05.pth", ["'posix.system'", "GLOBAL at byte 15"]),
        ("older.pth", ["'posix.system'", "GLOBAL"]),
        ("stack-global.pth", ["STACK_GLOBAL at byte 20"]),
        ("huge-storage.pth", ["claims 4000000000000 bytes and there are 16"]),
        ("older-huge.pth", ["claims 1000000000000 elements"]),
        ("huge-view.pth", ["1000000000000 elements", "storage of 4"]),
        ("parent-member.pth", ["'a/../../evil.py'"]),
        ("symlink-member.pth", ["not a regular file"]),
        ("bomb.pth", ["is compressed"]),
        ("overlapping.pth", ["more bytes than the file has"]),
        ("many-members.pth", ["directory is larger"]),
        ("script.pth", ["constants.pkl"]),
        ("laughs.pth", ["in all"]),
        ("tuple-key.pth", ["a dict key that is a tuple"]),
        ("repeated-bytes.pth", ["fill the memory"]),
        ("repeated-path.pth", ["a path"]),
        ("repeated-state-class-path.pth", ["fill the memory"]),
        ("deep.pth", ["levels deep"]),
        ("itself.pth", ["contains itself"]),
        ("header-long.safetensors", ["claims 1000000000 of"]),
        ("overlap.safetensors", ["overlaps"]),
    ],
)
def test_the_reason_is_named(report, file, words):
    verdict = next(row["verdict"] for row in report["files"] if row["file"] == file)
    assert all(word in verdict for word in words), verdict
