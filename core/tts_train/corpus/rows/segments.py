"""Where in a recording an utterance stands, from columns called start, end, offset or duration."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def parse_segment(row: Mapping[str, Any]) -> tuple[float | None, float | None, str]:
    """Return (start, end, what is wrong or an empty string) of a row keyed by meaning; empty values count as none.

    ``duration`` says where a stretch ends only beside a start: alone, it is the length of the file.
    """
    if row.get("start") in (None, "") and row.get("end") in (None, ""):
        return None, None, ""
    values: dict[str, float | None] = {}
    for key in ("start", "end", "duration"):
        try:
            values[key] = _number(row.get(key))
        except (TypeError, ValueError, OverflowError):
            return None, None, f"{key} is {str(row[key])[:40]!r}, not a number of seconds"
    start, end, duration = values["start"], values["end"], values["duration"]
    if end is None and start is not None and duration is not None:
        end = start + duration
    first, last = start or 0.0, math.inf if end is None else end
    if not 0 <= first < last:
        return None, None, f"start is {first:g} and end is {last:g} s"
    return start, end, ""


def _number(value: Any) -> float | None:  # noqa: ANN401 - whatever a JSON or Parquet file holds
    if value is None or value == "":
        return None
    if isinstance(value, bool):
        raise TypeError("a truth value is no time")
    number = float(value)
    if not math.isfinite(number):
        raise ValueError("not finite")
    return number
