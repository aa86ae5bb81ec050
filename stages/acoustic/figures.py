"""Rates and lengths as people read them, alike in every table, note and page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stages.acoustic.summary import Metric


def percent(rate: float | None) -> str:
    """A fraction in per cent; `-` for None."""
    return "-" if rate is None else f"{100 * rate:.1f}"


def interval(row: Mapping[str, Any], metric: Metric = "wer") -> str:
    """A rate in per cent with its interval, if it has one: `18.2 [15.0, 21.9]`."""
    low, high = row.get(f"{metric}_low"), row.get(f"{metric}_high")
    if low is None or row[metric] is None:
        return percent(row[metric])
    return f"{percent(row[metric])} [{percent(low)}, {percent(high)}]"


def duration(seconds: float) -> str:
    """A length for people: `48 s`, `9.9 min`, `1.5 h`."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h"


def durations(seconds: Sequence[float]) -> str:
    """One length, or the shortest and the longest where they read differently."""
    ends = duration(min(seconds)), duration(max(seconds))
    return ends[0] if ends[0] == ends[1] else f"{ends[0]} to {ends[1]}"


def range_of(values: Sequence[float], form: str) -> str:
    """`10.2 to 13.1`, or one figure where all are written alike; nothing of no values."""
    if not values:
        return ""
    return " to ".join(dict.fromkeys(f"{v:{form}}" for v in (min(values), max(values))))
