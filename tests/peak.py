"""The most memory that a process has had resident, counted anew for each program and from a chosen moment.

``getrusage`` will not do: Linux hands its peak on to every program that a process starts, so a test's number would
be that of the tests before it.
"""

from __future__ import annotations

from pathlib import Path


def forget_peak() -> None:
    """Count the peak of this process from here on."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_kibibytes() -> int:
    """Return the most memory that this process has had resident since it started its program, or forgot."""
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    return int(status.split("VmHWM:")[1].split()[0])
