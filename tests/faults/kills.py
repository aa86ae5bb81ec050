"""Kills a run with SIGKILL, starts it again, and so on until it ends by itself.

The work runs in a child process, which tells after every unit of progress how far it is: that is
when a kill is aimed. Children are forked off a server that has done the slow imports once, so
that kills hit the work and tests stay short; `program` is the `vqasr` command itself.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

PRELOADED = ("stages.quantizer.fairseq.train", "pipeline.cli", "transformers")
LIMIT_SECONDS = 300.0
POLL_SECONDS = 0.0005
HALF = ".tmp"


@dataclass(frozen=True)
class Job:
    """What is run, and where its progress and its checkpoints can be seen.

    Attributes:
        work: a function of a module, run with `arguments` in a child process.
        what: the bar whose units are counted, such as `quantizer`.
        files: the checkpoint files there are at the moment, half ones included.
        at_end: called often while the last child runs; to save what it will remove.
    """

    work: Callable[..., None]
    arguments: tuple[Any, ...]
    what: str
    files: Callable[[], Iterable[Path]]
    at_end: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Moment:
    """When to kill: `seconds` after unit `unit` is done, or in the next write of a checkpoint."""

    unit: int
    seconds: float = 0.0
    in_write: bool = False


@dataclass
class Told:
    """What came of it.

    Attributes:
        in_writes: kills that left a half-written checkpoint.
        units: how often each unit was done.
        most_files: checkpoint files seen at once, half ones included, checksums not.
        seconds: of the child that ended by itself.
    """

    kills: int = 0
    in_writes: int = 0
    units: dict[int, int] = field(default_factory=dict)
    most_files: int = 0
    seconds: float = 0.0

    @property
    def repeated(self) -> int:
        """Units that were done again."""
        return sum(self.units.values()) - len(self.units)


def program(*arguments: str) -> None:
    """`vqasr` with these arguments, as its entry point runs it."""
    from pipeline import cli

    sys.argv = ["vqasr", *arguments]
    cli.main()


def run(job: Job, moments: Sequence[Moment], trace: Path) -> Told:
    """Run the job, killed at each moment in turn, until a child ends by itself.

    Args:
        trace: a file for the children's progress.

    Raises:
        RuntimeError: a child failed, ended before its moment, or hung.
    """
    told = Told()
    for moment in moments:
        trace.unlink(missing_ok=True)
        child = _start(job, trace)
        _wait(child, job, told, _Aim(moment, job, trace))
        if child.exitcode is not None:
            raise RuntimeError(f"ended with {child.exitcode} before it was killed at {moment}")
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        told.kills += 1
        told.in_writes += any(path.suffix == HALF for path in job.files())
        _count(job, trace, told)
    trace.unlink(missing_ok=True)
    start = time.monotonic()
    child = _start(job, trace)
    _wait(child, job, told, None)
    told.seconds = time.monotonic() - start
    if child.exitcode != 0:
        raise RuntimeError(f"the run that nobody killed ended with {child.exitcode}")
    _count(job, trace, told)
    return told


def spread(rng: random.Random, kills: int, units: int, unit_seconds: float) -> list[Moment]:
    """So many random moments in order, over all units; a third of them in writes."""
    at = sorted(rng.randrange(1, units - 1) for _ in range(kills))
    return [Moment(n, rng.uniform(0, 2 * unit_seconds), rng.random() < 1 / 3) for n in at]


def burst(rng: random.Random, kills: int, at: int, unit_seconds: float) -> list[Moment]:
    """So many moments in a row at about the same place, where hardly anything gets done."""
    return [Moment(at, rng.uniform(0, unit_seconds)) for _ in range(kills)]


class _Aim:
    """Whether a moment has come: asked again and again while the child runs."""

    def __init__(self, moment: Moment, job: Job, trace: Path) -> None:
        self.moment, self.job, self.trace = moment, job, trace
        self.due: float | None = None

    def reached(self, files: Sequence[Path]) -> bool:
        if self.due is None:
            units = _units(self.job, self.trace)
            if not units or max(units) < self.moment.unit:
                return False
            self.due = time.monotonic() + self.moment.seconds
        if self.moment.in_write:
            return any(path.suffix == HALF for path in files)
        return time.monotonic() >= self.due


def _start(job: Job, trace: Path) -> BaseProcess:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    child = context.Process(target=_observed, args=(trace, job.what, job.work, job.arguments))
    child.start()
    return child


def _wait(child: BaseProcess, job: Job, told: Told, aim: _Aim | None) -> None:
    """Until the aim is reached or the child has ended."""
    end = time.monotonic() + LIMIT_SECONDS
    while child.is_alive():
        files = list(job.files())
        told.most_files = max(told.most_files, len(files))
        if aim is None:
            job.at_end()
        elif aim.reached(files):
            return
        if time.monotonic() > end:
            child.kill()
            raise RuntimeError(f"no end after {LIMIT_SECONDS:.0f} s")
        time.sleep(POLL_SECONDS)
    child.join()


def _count(job: Job, trace: Path, told: Told) -> None:
    for unit in _units(job, trace):
        told.units[unit] = told.units.get(unit, 0) + 1


def _units(job: Job, trace: Path) -> list[int]:
    """The units that the child at work has done, in order."""
    lines = trace.read_text("utf-8").splitlines() if trace.exists() else []
    return [int(line.split("\t")[1]) for line in lines if line.split("\t")[0] == job.what]


def _observed(
    trace: Path, what: str, work: Callable[..., None], arguments: tuple[Any, ...]
) -> None:
    """In the child: the work, while every unit of every bar is written to `trace`."""
    from pipeline.console import Progress

    handle = os.open(trace, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    update = Progress.update

    def told(bar: Progress, count: int = 1, note: str = "") -> None:
        update(bar, count, note)
        if count == 1:  # more at once is what an earlier process did
            os.write(handle, f"{bar.what}\t{bar.done}\n".encode())

    Progress.update = told  # type: ignore[method-assign]
    sys.stdout = sys.stderr = open(os.devnull, "w")
    work(*arguments)
