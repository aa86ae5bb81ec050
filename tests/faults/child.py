"""What happens in a process that is to be killed: the work, watched from within."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SAVE = "save"
TRAININGS = ("quantizer", "BERT", "CTC")  # bars whose units are updates


@dataclass(frozen=True)
class Moment:
    """When to kill: `seconds` after `unit` units are done, or in the first save after them.

    Attributes:
        call: of the save's calls to the file system, the number of the one that is not made.
        number: of the signal; another than SIGKILL is answered by a clean stop.
    """

    unit: int
    seconds: float = 0.0
    call: int | None = None
    number: int = signal.SIGKILL


def program(*arguments: str) -> None:
    """`vqasr` with these arguments, as its entry point runs it."""
    from pipeline import cli

    sys.argv = ["vqasr", *arguments]
    cli.main()


def child_main(
    trace: Path, moment: Moment | None, work: Callable[..., None], arguments: tuple[Any, ...]
) -> None:
    """The work; every unit of a progress bar and every save is told in a line of `trace`."""
    from tqdm import tqdm

    from pipeline.console import Progress

    tqdm.set_lock(threading.RLock())  # its own is a semaphore, which a kill would leave behind
    handle = os.open(trace, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    saves = _Saves(moment, lambda calls: _tell(handle, SAVE, calls))
    saves.watch()
    update = Progress.update

    def told(bar: Progress, count: int = 1, note: str = "") -> None:
        update(bar, count, note)
        saves.units = bar.done
        if count == 1:  # more at once is what an earlier process did
            _tell(handle, bar.what, bar.done)

    setattr(Progress, "update", told)  # noqa: B010
    with open(os.devnull, "w") as nowhere:
        sys.stdout = sys.stderr = nowhere
        work(*arguments)


def watched_program(
    trace: Path,
    said: Path,
    fault: Path | None,
    set_back_seconds: float,
    arguments: tuple[str, ...],
) -> None:
    """`vqasr` with these arguments, which tells its steps and units of progress in `trace`.

    Args:
        said: where its output and its errors go.
        fault: what `interpose.tell` wrote, to be met.
        set_back_seconds: by which the clock is set back after the first unit of progress.
    """
    from tqdm import tqdm

    from pipeline.console import Progress
    from pipeline.runner import Run
    from tests.faults import interpose

    tqdm.set_lock(threading.RLock())
    handle = os.open(trace, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    update, work, clock = Progress.update, Run._work, time.time

    def told(bar: Progress, count: int = 1, note: str = "") -> None:
        update(bar, count, note)
        if count == 1:
            _tell(handle, bar.what, bar.done)
        if set_back_seconds:
            setattr(time, "time", lambda: clock() - set_back_seconds)  # noqa: B010

    def told_work(run: Run, step: Any, resumed: bool) -> float:
        os.write(handle, f"step\t{step.title}\n".encode())
        return work(run, step, resumed)

    setattr(Progress, "update", told)  # noqa: B010
    setattr(Run, "_work", told_work)  # noqa: B010
    output = os.open(said, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    for number in (1, 2):
        os.dup2(output, number)
    sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    if fault is not None:
        interpose.arm(fault)
    program(*arguments)


def _tell(handle: int, what: str, number: int) -> None:
    os.write(handle, f"{what}\t{number}\n".encode())


class _Saves:
    """Counts the calls to the file system in each save of a checkpoint; kills at the one chosen."""

    def __init__(self, moment: Moment | None, tell: Callable[[int], None]) -> None:
        self.moment, self.tell = moment, tell
        self.units, self.calls, self.inside = 0, 0, False

    def watch(self) -> None:
        """See all saves of this process."""
        from pipeline import checkpoints

        for owner, name in ((os, "fsync"), (Path, "replace"), (Path, "unlink")):
            setattr(owner, name, self._counted(getattr(owner, name)))
        setattr(checkpoints, "open", self._opened)  # noqa: B010
        save = checkpoints.save

        def watched(*args: Any) -> None:
            self.calls, self.inside = 0, True
            save(*args)
            self.inside = False
            self.tell(self.calls)

        setattr(checkpoints, "save", watched)  # noqa: B010

    def _opened(self, *args: Any) -> _Watched:
        return _Watched(open(*args), self.call)

    def call(self) -> None:
        """A call is about to be made."""
        if not self.inside:
            return
        chosen = self.moment and self.moment.call == self.calls
        if chosen and self.moment and self.units >= self.moment.unit:
            os.kill(os.getpid(), signal.SIGKILL)
        self.calls += 1

    def _counted(self, work: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **named: Any) -> Any:
            self.call()
            return work(*args, **named)

        return call


class _Watched:
    """A file whose writes are counted, and reach the disk one by one."""

    def __init__(self, file: Any, call: Callable[[], None]) -> None:
        self.file, self.call = file, call

    def write(self, content: bytes) -> int:
        self.call()
        written: int = self.file.write(content)
        self.file.flush()
        return written

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def __enter__(self) -> _Watched:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
