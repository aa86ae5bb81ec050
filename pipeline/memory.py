"""Memory that was freed goes back to the system."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache


def give_back() -> None:
    """Let the C library return what it holds for later use, where it can (glibc).

    Arrays of ever other sizes, made and freed by several threads, leave gaps that it keeps: without
    this, what a program has resident grows by half a gigabyte in half an hour of `transcribe`.
    """
    trim = _trim()
    if trim is not None:
        trim(0)


@cache
def _trim() -> Callable[[int], int] | None:
    try:
        found: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # another C library or system
        return None
    return found
