"""The table of the house: arrows, names and sizes of a small tree are counted as they are, and the real one is read."""

from __future__ import annotations

from tests.house import ROOT, measure_house as house

FILES = {
    "core/tts_train/__init__.py": "",
    "core/tts_train/errors.py": '"""Errors."""\n\n\nclass DataError(Exception): ...\n\n\nclass _Own: ...\n',
    "core/tts_train/corpus/__init__.py": "from tts_train.errors import DataError\n",
    "core/tts_train/corpus/rows.py": "# Why.\nfrom tts_train.report.page import draw  # up\n\n\nclass Row: ...\n",
    "core/tts_train/report/page.py": "def draw():\n    import tts_train.corpus.rows\n\n    return tts_train\n",
    "core/tts_train/report/card.py": "from tts_train import corpus\n",
    "plugins/mine/tts_train_mine/plugin.py": (
        "from tts_train.corpus.rows import Row\nfrom tts_train.errors import DataError, _Own\n\n\nclass Row(Row): ...\n"
    ),
    "docs/writing-a-backend.md": "Raise `DataError`.\n",
}


def test_a_small_tree_is_counted(tmp_path, capsys):
    for path, text in FILES.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text, encoding="utf-8")
    house.main(["--root", str(tmp_path), "--details"])
    printed = capsys.readouterr().out
    for line in (
        "| modules / lines of core and plugins | 6 / 23 |",
        "| back-arrows between folders | 1 |",
        "| packages of the core that plugins import | 2 |",
        "| public names that plugins import / documented | 2 / 1 |",
        "| function lines: median / p95 / longest | 4 / 4 / 4 |",
        "| public class names that stand twice | 1 |",
        "Row: tts_train/corpus/rows.py, tts_train_mine/plugin.py",
        "tts_train: corpus -> report: corpus/rows.py: tts_train.report.page:draw",
        "tts_train.corpus.rows:Row",
    ):
        assert line in printed
    assert "| lines with a comment | 8.7 % |" in printed


def test_a_circle_costs_as_few_arrows_as_it_must():
    arrows = {("a", "b"): ["1"], ("b", "c"): ["2"], ("c", "a"): ["3"], ("b", "d"): ["4"]}
    assert len(house.back_arrows(arrows)) == 1
    assert house.back_arrows({("a", "b"): ["1"], ("b", "c"): ["2"]}) == []


def test_this_tree_is_measured():
    rows, _ = house.measure(ROOT)
    folders = [ROOT / "core" / "tts_train", *ROOT.glob("plugins/*/tts_train_*")]
    lines = sum(path.read_text(encoding="utf-8").count("\n") for folder in folders for path in folder.rglob("*.py"))
    assert rows[0][1].endswith(f" / {lines:,}")
    assert len(rows) == 11
