"""Runs of `vqasr run` in children of a warm server: killed, signalled, on a disk that is full.

What such a run leaves is compared file by file with what an undisturbed one leaves.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path

from pipeline.store import HALF
from stages.prepare.listing import FOLDER as LISTS
from tests.faults import interpose, kills
from tests.faults.child import TRAININGS, watched_program
from tests.faults.interpose import Call, Fault

LIMIT_SECONDS = 300.0
# Of a stamp: what an interruption may change.
OF_THE_RUN = ("seconds", "command")
NOT_COMPARED = (".lock", ".owner")


@dataclass(frozen=True)
class Ended:
    """What came of one process.

    Attributes:
        code: its exit status; minus the number of the signal that killed it.
        met: whether the fault happened.
        said: what it wrote to its output and its errors.
        updates: how often each update was made, by step, bar and number.
    """

    code: int
    met: bool
    seconds: float
    said: str
    updates: Counter[tuple[str, str, int]] = field(default_factory=Counter)


class Whole:
    """A folder of results, `exp`, in which a recipe is run by one process after another."""

    def __init__(self, folder: Path, recipe: Path) -> None:
        self.folder, self.recipe = folder, recipe
        folder.mkdir(parents=True, exist_ok=True)
        self.exp = folder / "exp"
        self.updates: Counter[tuple[str, str, int]] = Counter()

    @property
    def log(self) -> Path:
        return self.folder / "calls.txt"

    def start(
        self,
        *options: str,
        fault: Fault | None = None,
        logged: bool = False,
        set_back_seconds: float = 0.0,
    ) -> BaseProcess:
        """A process that runs the recipe; its clock may be set back while it works."""
        for path in (self.log, self._file("trace"), self._file("said")):
            path.unlink(missing_ok=True)
        armed = None
        if fault is not None or logged:
            armed = self._file("fault")
            interpose.tell(armed, self.exp, fault, self.log if logged else None)
        else:
            self._file("fault").unlink(missing_ok=True)
        words = ("run", str(self.recipe), "--exp", str(self.exp), *options)
        told = (self._file("trace"), self._file("said"), armed, set_back_seconds, words)
        return kills.start(watched_program, told)

    def run(
        self,
        *options: str,
        fault: Fault | None = None,
        logged: bool = False,
        kill_after: float | None = None,
        set_back_seconds: float = 0.0,
    ) -> Ended:
        """Run the recipe in a process until it ends, by itself, at the fault or by a kill."""
        began = time.monotonic()
        process = self.start(
            *options, fault=fault, logged=logged, set_back_seconds=set_back_seconds
        )
        if kill_after is not None:
            process.join(kill_after)
            process.kill()
        return self.ended(process, began)

    def ended(self, process: BaseProcess, began: float | None = None) -> Ended:
        """What came of a process that was started; waits for it."""
        process.join(LIMIT_SECONDS)
        if process.exitcode is None:
            process.kill()
            raise RuntimeError(f"no end after {LIMIT_SECONDS:.0f} s\n{self.said}")
        found = Ended(
            process.exitcode,
            self.met,
            time.monotonic() - began if began else 0.0,
            self.said,
            Counter(self._updates()),
        )
        self.updates += found.updates
        return found

    @property
    def met(self) -> bool:
        """Whether the fault of the last process has happened."""
        fault = self._file("fault")
        return fault.exists() and interpose.met(fault)

    @property
    def said(self) -> str:
        said = self._file("said")
        return said.read_text("utf-8", errors="replace") if said.exists() else ""

    def calls(self) -> list[Call]:
        """What the last process, if `logged`, did to files of `exp`."""
        return interpose.calls(self.log)

    @property
    def repeated(self) -> int:
        """Updates that were made again."""
        return self.updates.total() - len(self.updates)

    def take_over(self, other: Whole) -> None:
        """Begin with what another has done."""
        shutil.rmtree(self.exp, ignore_errors=True)
        shutil.copytree(other.exp, self.exp, symlinks=True)
        self.updates.clear()

    def remove(self, stage: str) -> None:
        """Take away the artifacts of a stage."""
        for artifact in (self.exp / "store").glob(f"{stage}-*"):
            if artifact.is_dir():
                shutil.rmtree(artifact)

    def remove_results(self) -> None:
        """Take away what stands beside the links: tables and the plot."""
        for path in self.links.iterdir():
            if path.is_file() and not path.is_symlink():
                path.unlink()

    @property
    def links(self) -> Path:
        return self.exp / self.recipe.stem

    def partial(self, stage: str) -> Path:
        """The folder that a killed step of this stage left; RuntimeError if there is not one."""
        found = list((self.exp / "store").glob(f"{stage}-*.partial"))
        if len(found) != 1:
            raise RuntimeError(f"{len(found)} half done steps of {stage}")
        return found[0]

    def trace(self) -> list[tuple[str, str, int]]:
        """Step, bar and number of every unit of progress that the last process has told."""
        found, step = [], ""
        trace = self._file("trace")
        lines = trace.read_text("utf-8").split("\n")[:-1] if trace.exists() else []
        for line in lines:
            what, told = line.rsplit("\t", 1)
            if what == "step":
                step = told
            else:
                found.append((step, what, int(told)))
        return found

    def _updates(self) -> Iterator[tuple[str, str, int]]:
        return (told for told in self.trace() if told[1] in TRAININGS)

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}.txt"


def content(exp: Path) -> dict[str, str]:
    """SHA-256 of every file that a run leaves, by its path: artifacts, results, where links lead.

    Not of logs and curves, which tell of interruptions, of what is remembered of the corpus, and
    of locks. Of stamps all but the time that the work took. What a kill left half done in an
    artifact is a file more; beside the artifacts it does no harm, and does not count.
    """
    found = {}
    for path in sorted(exp.rglob("*")):
        name = path.relative_to(exp).as_posix()
        parts = name.split("/")
        told = parts[1:2] in (["logs"], ["tensorboard"], ["files.json"], [LISTS])
        half_beside = len(parts) == 2 and path.suffix == HALF
        if told or half_beside or path.suffix in NOT_COMPARED:
            continue
        if path.is_symlink():
            found[name] = os.readlink(path)
        elif path.is_file():
            found[name] = hashlib.sha256(_bytes(path)).hexdigest()
    return found


def _bytes(path: Path) -> bytes:
    if path.name != "stamp.json":
        return path.read_bytes()
    told = json.loads(path.read_text("utf-8"))
    return json.dumps({k: v for k, v in told.items() if k not in OF_THE_RUN}).encode()


def damaged(whole: Path, other: Path) -> list[str]:
    """The files that are missing, too many or not the same in `other`."""
    a, b = content(whole), content(other)
    return sorted(name for name in a | b if a.get(name) != b.get(name))
