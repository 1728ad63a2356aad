"""What commands print of a report: every figure as JSON, and no screen full of them for people."""

from __future__ import annotations

import json
import re

from tts_train.cli.output import print_report

BY_CODEBOOK = {f"val/slot_accuracy/{book}": book / 100 for book in sorted(range(32), key=str)}
BY_SLOT = {f"val/code_use/{slot}": 0.5 for slot in range(7)}
REPORT = {"step": 3, "val/loss": 1.5, **BY_CODEBOOK, **BY_SLOT, "report": "r/report.html"}


def test_many_numbered_figures_have_one_line(capsys):
    print_report(REPORT, as_json=False)
    lines = dict(re.split(" {2,}", line, maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert list(lines) == ["step", "val/loss", "val/slot_accuracy/0 to 31", *BY_SLOT, "report"]
    assert lines["val/slot_accuracy/0 to 31"] == "0 to 0.31, mean 0.155"


def test_json_has_every_figure(capsys):
    print_report(REPORT, as_json=True)
    assert json.loads(capsys.readouterr().out) == REPORT
