"""What commands print: one JSON object as the last line of stdout, or a readable list."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

# Most numbered figures of one name that have a line each; a codec of 32 codebooks would fill the screen.
_MANY = 8


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
    lines = _ranges_joined(report)
    width = max((len(name) for name in lines), default=0)
    for name, value in lines.items():
        print(f"{name:<{width}}  {_readable(value)}")


def _ranges_joined(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return the report with one line for figures ``NAME/0`` to ``NAME/n`` where they are more than ``_MANY``."""
    series: dict[str, list[str]] = {}
    for name, value in report.items():
        stem, _, number = name.rpartition("/")
        if stem and number.isdecimal() and isinstance(value, float):
            series.setdefault(stem, []).append(name)
    joined = {names[0]: names for names in series.values() if len(names) > _MANY}
    left_out = {name for names in joined.values() for name in names[1:]}
    lines: dict[str, Any] = {}
    for name, value in report.items():
        if name in joined:
            values = [report[each] for each in joined[name]]
            span = f"{_readable(min(values))} to {_readable(max(values))}, mean {_readable(sum(values) / len(values))}"
            numbers = [int(each.rpartition("/")[2]) for each in joined[name]]
            lines[f"{name.rpartition('/')[0]}/{min(numbers)} to {max(numbers)}"] = span
        elif name not in left_out:
            lines[name] = value
    return lines


def _readable(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_readable(item)}" for key, item in value.items()) or "none"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_readable, value)) or "none"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
