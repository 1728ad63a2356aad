"""What commands print: one JSON object as the last line of stdout, or a readable list."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any


def never_refuse_a_letter() -> None:
    """Let stdout and stderr write what their encoding lacks as escapes, where they would raise an error."""
    for stream in (sys.stdout, sys.stderr):
        if getattr(stream, "errors", None) == "strict" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def print_report(report: Mapping[str, Any], *, as_json: bool) -> None:
    """Print a report: with ``as_json`` as one line of JSON, otherwise a line a fact."""
    if as_json:
        # Under Windows what goes into a pipe or a file has a code page, where JSON has escapes of its own.
        unicode = (sys.stdout.encoding or "").lower().startswith("utf")
        print(json.dumps(dict(report), ensure_ascii=not unicode, default=str))
        return
    width = max((len(name) for name in report), default=0)
    for name, value in report.items():
        print(f"{name:<{width}}  {_readable(value)}")


def _readable(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_readable(item)}" for key, item in value.items()) or "none"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_readable, value)) or "none"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
