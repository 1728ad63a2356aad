"""What every backend's demo must keep: the real command, as ``make demo`` runs it."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

from tts_train.cli import main


def show_demo(backend, out, capsys):
    """Run the demo; return what it tells of each stage, after checking what every stage promises."""
    assert main(["demo", "--backend", backend, "--out", str(out), "--json"]) == 0
    assert json.loads((out / "prepared" / "dataset.json").read_text(encoding="utf-8"))["rows"] == 40
    shown = capsys.readouterr()
    stages = json.loads(shown.out.splitlines()[-1])["stages"]
    for told in stages.values():
        assert told["continued_exactly"], "a killed run and its continuation equal an uninterrupted run"
        assert told["weights_hash"] == told["weights_hash_uninterrupted"]
        assert told["loss_as_expected"], "as low as the stage says"
        assert told["spoken_seconds"] > 0.08
        page = Path(told["report"]).read_text(encoding="utf-8")
        HTMLParser().feed(page)
        assert "<audio" in page
        assert f"open {told['report']} in a browser" in shown.err
        assert f"listen to {told['spoken']}" in shown.err
    return stages
