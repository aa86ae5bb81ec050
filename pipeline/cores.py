"""How many cores this process may use: a batch system or a container leaves it some of them."""

from __future__ import annotations

import os


def usable() -> int:
    """The cores that the system lets this process run on, at least 1."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
