"""What commands print: one JSON object as the last line of stdout, or a readable list."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def print_report(report: Mapping[str, Any], *, as_json: bool) -> None:
    """Print a report: with ``as_json`` as one line of JSON, otherwise a line a fact."""
    if as_json:
        print(json.dumps(report, ensure_ascii=False, default=str))
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
