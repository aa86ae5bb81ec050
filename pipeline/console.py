"""What a person sees while a run goes on: plain lines, and bars where there is a terminal."""

from __future__ import annotations

import logging
import sys
import time

log = logging.getLogger("vqasr")

PLAIN_LINE_EVERY_SECONDS = 15.0


def say(text: str) -> None:
    """Print one line for the user and put it into the step's log file as well."""
    from tqdm import tqdm

    tqdm.write(text, file=sys.stdout)
    sys.stdout.flush()
    log.debug(text)


class Progress:
    """A bar on a terminal; elsewhere a plain line now and then. Use it as a context manager."""

    def __init__(self, total: int, what: str, unit: str = "it", done: int = 0) -> None:
        from tqdm import tqdm

        self.total, self.what, self.unit, self.done = total, what, unit, done
        self.note = ""
        self._started_with, self._start = done, time.monotonic()
        self._last = self._start
        self._bar = (
            tqdm(total=total, desc=what, unit=unit, initial=done, leave=False)
            if sys.stderr.isatty()
            else None
        )

    def update(self, count: int = 1, note: str = "") -> None:
        """`count` more are done; `note` stands beside the bar (a loss, say)."""
        self.done += count
        self.note = note or self.note
        if self._bar is not None:
            if note:
                self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(count)
        elif time.monotonic() - self._last >= PLAIN_LINE_EVERY_SECONDS:
            self._last = time.monotonic()
            rate = (self.done - self._started_with) / max(self._last - self._start, 1e-9)
            left = (self.total - self.done) / rate if rate else 0.0
            beside = f", {self.note}" if self.note else ""
            say(f"  {self.what}: {self.done}/{self.total} {self.unit}{beside}, {left:.0f} s left")

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()
