"""What a label budget such as `10min` says."""

from __future__ import annotations

import re

BUDGET = re.compile(r"(\d+(?:\.\d+)?)(s|min|h)")


def budget_seconds(budget: str) -> float | None:
    """Seconds of labelled speech that a budget such as `10min` asks for; None for `all`."""
    if budget == "all":
        return None
    match = BUDGET.fullmatch(budget)
    if not match or float(match[1]) <= 0:
        raise ValueError(f"'{budget}' is not a budget; write 30s, 10min, 1h or all")
    return float(match[1]) * {"s": 1, "min": 60, "h": 3600}[match[2]]
