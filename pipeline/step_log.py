"""The log of a step: what is logged while it works goes to a file of its own."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def log_file(path: Path) -> Iterator[Path]:
    """Everything that is logged meanwhile goes to the file at `path`, behind what is there.

    So do tracebacks of threads, such as TensorBoard's: what they failed for fails the step too,
    or does not matter.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = _Log(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
    root, ours = logging.getLogger(), logging.getLogger("vqasr")
    level = root.level
    root.setLevel(logging.INFO)
    ours.setLevel(logging.DEBUG)
    root.addHandler(handler)
    hook, threading.excepthook = threading.excepthook, _log_error
    try:
        yield path
    finally:
        threading.excepthook = hook
        root.removeHandler(handler)
        root.setLevel(level)
        handler.close()


def _log_error(of_thread: threading.ExceptHookArgs) -> None:
    logging.getLogger("vqasr").error("in a thread", exc_info=of_thread.exc_value)


class _Log(logging.FileHandler):
    """One that a full disk ends silently: the step goes on, or fails for what it cannot write."""

    def handleError(self, record: logging.LogRecord) -> None:
        pass

    def close(self) -> None:
        with suppress(OSError):  # what is left in the buffer finds no room either
            super().close()
