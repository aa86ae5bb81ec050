"""A lock that several processes hold together; `filelock` has only those that one holds alone."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def shared(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold the lock beside others that share it; nobody holds it alone (`FileLock`) meanwhile.

    It is an flock, which the system releases when its owner dies.

    Args:
        waiting: called once if another process has it alone, before the wait.
    """
    with open(path, "a+b") as file:  # closing it lets go
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(file, fcntl.LOCK_SH)
        yield
