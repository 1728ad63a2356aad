"""What users look at after a run: ``report.html`` with curves, mel pictures and players."""

from __future__ import annotations

from tts_train.report.history import History
from tts_train.report.page import write_report
from tts_train.report.samples import write_sample

__all__ = ["History", "write_report", "write_sample"]
