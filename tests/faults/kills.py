"""Kills a run with SIGKILL, starts it again, and so on until it ends by itself.

The work runs in a child process, which tells after every unit of progress how far it is: that is
when a kill is aimed. Children are forked off a server that has done the slow imports once, so
that kills hit the work and tests stay short; `program` is the `vqasr` command itself.
"""

from __future__ import annotations

import math
import multiprocessing
import multiprocessing.forkserver
import os
import random
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from pipeline.cli import INTERRUPTED
from tests.faults import interpose
from tests.faults.child import SAVE, Moment, child_main

PRELOADED = (
    "__main__",
    "stages.quantizer.fairseq.train",
    "stages.quantizer.plots",
    "stages.quantizer.inference",
    "stages.quantizer.model",
    "stages.units.corpus",
    "stages.units.bert",
    "stages.units.vocabulary",
    "stages.units.guesses",
    "stages.units.attention",
    "stages.acoustic.model",
    "stages.acoustic.encoders",
    "stages.acoustic.results",
    "stages.acoustic.plots",
    "stages.acoustic.decoders.lexicon_beam",
    "stages.acoustic.targets",
    "stages.acoustic.ngram",
    "stages.acoustic.publish",
    "pipeline.cli",
    "stages.plan",
    "pipeline.training",
    "transformers.models.bert.modeling_bert",
    "filelock",
    "scipy.signal",
    "soxr",
    "soundfile",
)
LIMIT_SECONDS = 300.0
POLL_SECONDS = 0.002
HALF = ".tmp"
LAST_CALLS = 9  # of a save: all but the writing of the state


@dataclass(frozen=True)
class Job:
    """What is run, and where its progress and its checkpoints can be seen.

    Attributes:
        work: a function of a module, run with `arguments` in a child process.
        what: the bar whose units are counted, such as `quantizer`.
        files: the checkpoint files there are at the moment, half ones included.
        often: called all the time; to save what the work will remove.
    """

    work: Callable[..., None]
    arguments: tuple[Any, ...]
    what: str
    files: Callable[[], Iterable[Path]]
    often: Callable[[], None] = lambda: None


@dataclass
class Told:
    """What came of it.

    Attributes:
        in_saves: kills while a checkpoint was written.
        units: how often each unit was done.
        most_files: checkpoint files seen at once, half ones included.
        calls: to the file system, in the save that made fewest.
        seconds: of the child that ended by itself.
    """

    kills: int = 0
    in_saves: int = 0
    units: dict[int, int] = field(default_factory=dict)
    most_files: int = 0
    calls: int = 0
    seconds: float = 0.0

    @property
    def repeated(self) -> int:
        """Units that were done again."""
        return sum(self.units.values()) - len(self.units)


def run(job: Job, moments: Sequence[Moment], trace: Path) -> Told:
    """Run the job, killed at each moment in turn, until a child ends by itself.

    Args:
        trace: a file for the children's progress.

    Raises:
        RuntimeError: a child failed or hung.
    """
    told = Told()
    for moment in [*moments, None]:
        trace.unlink(missing_ok=True)
        began = time.monotonic()
        child = start(child_main, (trace, moment, job.work, job.arguments))
        _wait(child, job, told, _Aim(moment, job, trace) if moment else None)
        if moment and child.is_alive():
            assert child.pid is not None
            os.kill(child.pid, moment.number)
        child.join(LIMIT_SECONDS)
        for unit in _numbers(trace, job.what):
            told.units[unit] = told.units.get(unit, 0) + 1
        if child.exitcode not in (-signal.SIGKILL, INTERRUPTED):  # it was faster than its moment
            break
        told.kills += 1
        half = any(path.suffix == HALF for path in job.files())
        told.in_saves += half or (moment is not None and moment.call is not None)
    if child.exitcode != 0:
        raise RuntimeError(f"ended with {child.exitcode} after {told.kills} kills")
    told.seconds = time.monotonic() - began
    told.calls = min(_numbers(trace, SAVE), default=0)
    return told


def spread(rng: random.Random, kills: int, units: int, once: Told) -> list[Moment]:
    """So many random moments over all units, every other in a save; `once` ran without kills.

    Of those in a save, half are in the writing of the state and half among the last few calls,
    which sync, rename and remove.
    """
    made = []
    for number in range(kills):
        unit = rng.randrange(1, units)
        last = once.calls if number % 4 else min(LAST_CALLS, once.calls)
        call = once.calls - 1 - rng.randrange(last) if number % 2 == 0 and last else None
        made.append(Moment(unit, rng.uniform(0, 2 * once.seconds / units), call))
    return made


class _Aim:
    """Whether a moment has come: asked again and again while the child runs."""

    def __init__(self, moment: Moment, job: Job, trace: Path) -> None:
        self.moment, self.job, self.trace = moment, job, trace
        self.due = math.inf

    def reached(self) -> bool:
        now = time.monotonic()
        done = max(_numbers(self.trace, self.job.what), default=0)
        if self.due == math.inf and self.moment.unit <= done:
            self.due = now + self.moment.seconds
        return now >= self.due and self.moment.call is None  # else it kills itself


def start(work: Callable[..., None], arguments: tuple[Any, ...]) -> BaseProcess:
    """Call `work` in a child of the server, which has the slow imports behind it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    with _interposed():
        multiprocessing.forkserver.ensure_running()
    child = context.Process(target=work, args=arguments)
    child.start()
    return child


@contextmanager
def _interposed() -> Iterator[None]:
    """Programs that are started meanwhile load the library of interpose.py."""
    before = os.environ.get("LD_PRELOAD")
    interpose.load_into_children()
    try:
        yield
    finally:
        os.environ.pop("LD_PRELOAD", None)
        if before is not None:
            os.environ["LD_PRELOAD"] = before


def _wait(child: BaseProcess, job: Job, told: Told, aim: _Aim | None) -> None:
    """Until the aim is reached or the child has ended."""
    end = time.monotonic() + LIMIT_SECONDS
    while child.is_alive():
        told.most_files = max(told.most_files, sum(1 for _ in job.files()))
        job.often()
        if aim is not None and aim.reached():
            return
        if time.monotonic() > end:
            child.kill()
            raise RuntimeError(f"no end after {LIMIT_SECONDS:.0f} s")
        time.sleep(POLL_SECONDS)


def _numbers(trace: Path, what: str) -> list[int]:
    """What the child has told of units (`what` of the job) or of saves, in order."""
    told = trace.read_text("utf-8").split("\n")[:-1] if trace.exists() else []
    return [int(line.split("\t")[1]) for line in told if line.startswith(f"{what}\t")]
