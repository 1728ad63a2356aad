"""The snippets of docs/python.md run as they stand, one after the other."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import soundfile

from tests.core.scoring.sounds import TEXTS, VOICE
from tts_train.cli import main

PAGE = Path(__file__).parents[1] / "docs" / "python.md"
SNIPPET = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def recordings(folder: Path) -> None:
    folder.mkdir()
    names = sorted(TEXTS)[:6]
    for name in names:
        (folder / f"{name}.flac").write_bytes((VOICE / "wavs" / f"{name}.flac").read_bytes())
    rows = [json.dumps({"audio": f"{name}.flac", "text": TEXTS[name]}) for name in names]
    (folder / "rows.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")


def test_each_snippet_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    recordings(tmp_path / "recordings")
    known: dict[str, Any] = {"__name__": "__main__"}
    snippets = SNIPPET.findall(PAGE.read_text(encoding="utf-8"))
    assert len(snippets) == 8
    for snippet in snippets:
        exec(compile(snippet, str(PAGE), "exec"), known)  # noqa: S102 - the page of this repository
    curated, *lines = capsys.readouterr().out.splitlines()
    assert curated.startswith("6 rows, {'kept': ")
    assert curated.endswith("review.html")
    assert lines[0].startswith("6 rows, {}")
    assert "report.html" in lines[1]
    assert lines[2].startswith("3 ")
    assert "RTX 4090" in lines[3]
    assert lines[4].startswith("True ")
    assert "There is no option --model.lernrate" in lines[5]
    assert soundfile.info("hello.wav").frames
    words = ["--backend", "orpheus", "--corpus", "recordings", "--out", "prepared"]
    assert main(["prepare", *words, "--codec", "tiny", "--tokenizer", "tiny", "--json"]) == 0
    again = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (again["rows_reused"], again["hash"]) == (6, known["prepared"]["hash"]), "the command would make the same"
