"""Between a signal and a training loop: the update is finished and saved before the run ends.

The loop says `with deferred()`, looks at `requested()` after every update, saves and calls
`leave()`. The signal handler calls `ask()`; where no loop listens it has to raise by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class _State:
    listening = False
    heard = ""  # the name of the signal that a listening loop has not acted on yet


def ask(name: str) -> bool:
    """Ask the loop that listens to stop; False where none does. For signal handlers."""
    if _State.listening:
        _State.heard = name
    return _State.listening


def requested() -> bool:
    """Whether the loop is to save and `leave()`."""
    return bool(_State.heard)


def leave() -> None:
    """Raise the KeyboardInterrupt that was put off."""
    raise KeyboardInterrupt(_State.heard)


@contextmanager
def deferred() -> Iterator[None]:
    """While it lasts, a signal only asks. One that comes too late to be seen is raised at the end.

    Raises:
        KeyboardInterrupt: on leaving without an exception, when a signal was put off.
    """
    _State.listening, _State.heard = True, ""
    try:
        yield
        _State.listening = False  # from here on a signal raises by itself
        if requested():
            leave()
    finally:
        _State.listening, _State.heard = False, ""
