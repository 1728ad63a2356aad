"""A plugin for pytest (``-p gpu_blocks.telling``) that prints each failure, and how long a test took, when it ends.

pytest keeps failures for the end of its run, which a run under a time limit may not reach.
"""

from __future__ import annotations

from typing import Any

import pytest

CAUSE = "!! "
"""Begins the line that has a failed test and the first line of what was raised."""
_PRINTED = 1500


class Telling:
    """Prints where the terminal is; workers of xdist send their reports there."""

    def __init__(self, terminal: Any) -> None:
        self._terminal = terminal

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Print a failure's traceback and the end of what the test printed."""
        if report.when == "call":
            self._terminal.write_line(f"\n{report.duration:.1f} s {report.nodeid}")
        if report.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            said = (crash.message if crash is not None else str(report.longrepr)).strip().splitlines() or [""]
            self._terminal.write_line(f"\n{report.longreprtext}\n{report.capstdout[-_PRINTED:]}")
            self._terminal.write_line(f"{CAUSE}{report.nodeid} ({report.when}): {said[0][:200]}")


@pytest.hookimpl(trylast=True)
def pytest_configure(config: Any) -> None:
    """Register where reports come together, not in a worker; after the terminal, which pytest registers late."""
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    if terminal is not None and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Telling(terminal), "telling")
