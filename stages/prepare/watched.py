"""Which files and folders were read meanwhile: what a result that is remembered depends on."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

Facts = list[int]  # size in bytes, time in ns
JUST_NOW_NS = 2_000_000_000  # file systems count time in steps: who writes twice in one is not seen

_read: set[str] | None = None  # what is watched now
_hooked = False


@contextmanager
def watching() -> Iterator[set[str]]:
    """Within it, what is opened or listed is added to the set that it gives, by absolute path.

    Python tells of every opening and listing (PEP 578), so nobody who reads a list needs to know
    of this. What was read before and is only remembered has to be told with `note`.
    """
    global _read, _hooked
    if not _hooked:
        sys.addaudithook(_hook)
        _hooked = True
    before, _read = _read, set()
    try:
        yield _read
    finally:
        found, _read = _read, before
        if before is not None:
            before |= found


def note(path: str | os.PathLike[str]) -> None:
    """Say that what `path` holds decides what is being done."""
    if _read is not None:
        _read.add(os.path.abspath(path))


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if _read is not None and event in ("open", "os.scandir", "os.listdir"):
        path = args[0]
        if isinstance(path, str | os.PathLike) and not str(path).endswith((".py", ".pyc", ".so")):
            note(path)


def facts(path: str) -> Facts | None:
    """By what a file, or a folder, that changed is told from what it was; None: not there."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return [found.st_size, found.st_mtime_ns]


def all_facts(paths: Iterable[str]) -> dict[str, Facts] | None:
    """The facts of all; None where one is not there, or so new that it may yet change unseen."""
    told = {}
    latest = time.time_ns() - JUST_NOW_NS
    for path in sorted(paths):
        found = facts(path)
        if found is None or found[1] > latest:
            return None
        told[path] = found
    return told
