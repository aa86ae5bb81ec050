"""Every stage killed at every place that writes, and at random moments; then compared.

A stage is tried in a copy of a finished folder that lacks its artifacts: killed at one place
after another, each time gone on with by the same command, until it is through. So each process
begins with what the last one left. Then the whole folder is compared with the finished one.
"""

from __future__ import annotations

import random
import re
import signal
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from stages import STAGES
from stages.prepare.listing import FOLDER as LISTS
from tests.faults.interpose import Call, Fault
from tests.faults.whole import Ended, Whole, damaged

KILLED = -signal.SIGKILL
ALIKE = 2  # of the calls that one place in the code makes, so many are tried
MOST_MISSES = 20  # of kills at random: a process that was through before

# What differs between calls of one place: signatures, names of steps and recordings, numbers.
_DIFFERS = re.compile(r"[0-9a-f]{16}|(?<=/\d-)[^/.]+|(?<=/\.\d-)[^/.]+|(?<=/audio/)[^/.]+|\d+")


@dataclass
class Told:
    """What came of a stage.

    Attributes:
        kills: that hit, `kills_at_random` of them at a moment drawn; `places` of the code that
            write were hit by one aimed at them.
        missed: places that no process came to.
        repeated: updates of trainings that were made again.
        rounds: in which the stage was done from nothing.
        damaged: files that were not as an undisturbed run leaves them.
    """

    stage: str
    kills: int = 0
    kills_at_random: int = 0
    places: set[Call] = field(default_factory=set)
    missed: list[Call] = field(default_factory=list)
    repeated: int = 0
    rounds: int = 0
    damaged: list[str] = field(default_factory=list)


def place(call: Call) -> Call:
    """What calls of one place in the code have in common."""
    return Call(call.operation, _DIFFERS.sub("*", call.path))


def faults(calls: Sequence[Call], number: int) -> list[Fault]:
    """A kill at each place where stage `number` changes something, in the order of work."""
    found, seen, alike = [], Counter[Call](), Counter[Call]()
    for call in calls:
        if not _is_of(call, number):
            continue
        seen[call] += 1
        alike[place(call)] += 1
        if alike[place(call)] <= ALIKE:
            found.append(Fault(call, seen[call]))
    return found


def _is_of(call: Call, number: int) -> bool:
    """Whether the stage makes the call, for an artifact or for what stands beside them."""
    folder, _, name = call.path.partition("/")
    if name.endswith(".lock"):
        return False
    if folder == "store":
        beside = number == 0 and name.startswith(("files.json", LISTS))
        return beside or name.startswith(f"{STAGES[number]}-")
    if name.lstrip(".").startswith(f"{number}-"):  # a link
        return True
    results = name and not name.startswith(("logs", "tensorboard")) and not name[:2].isdigit()
    return bool(number == len(STAGES) - 1 and results and not re.match(r"\.?\d-", name))


class Stage:
    """Trials of one stage.

    Args:
        done: where the recipe has run to its end undisturbed.
        calls: what that run did, in order.
    """

    def __init__(self, folder: Path, done: Whole, calls: Sequence[Call], number: int) -> None:
        self.number, self.done = number, done
        self.options = ("--stop-stage", str(number))
        self.trial = Whole(folder / STAGES[number], done.recipe)
        self.told = Told(STAGES[number])
        self.faults = faults(calls, number)

    def kill_at(self, faults: Sequence[Fault]) -> None:
        """One kill after the other; `faults` are in the order of work."""
        self.begin()
        fresh, left = True, list(faults)
        while left:
            ended = self.trial.run(*self.options, fault=left[0])
            if ended.code == KILLED:
                self.told.kills += 1
                self.told.places.add(place(left.pop(0).call))
                fresh = False
                continue
            self.compare(ended)
            if fresh:  # nothing was done before it, and still no process came there
                self.told.missed.append(left.pop(0).call)
            self.begin()
            fresh = True
        self.finish()

    def kill_at_random(self, rng: random.Random, kills: int) -> None:
        """So many kills at moments within the time that the stage takes."""
        self.begin()
        seconds = self.finish().seconds
        self.begin()
        missed = 0
        while kills and missed < MOST_MISSES:
            ended = self.trial.run(*self.options, kill_after=rng.uniform(0, seconds))
            if ended.code == KILLED:
                self.told.kills += 1
                self.told.kills_at_random += 1
                kills -= 1
                continue
            missed += 1
            self.compare(ended)
            self.begin()
        self.finish()

    def begin(self) -> None:
        """All is done but this stage and, where it is the last, the results."""
        self.trial.take_over(self.done)
        self.trial.remove(STAGES[self.number])
        if self.number == len(STAGES) - 1:
            self.trial.remove_results()

    def finish(self) -> Ended:
        """Run to the end, undisturbed."""
        ended = self.trial.run(*self.options)
        self.compare(ended)
        return ended

    def compare(self, ended: Ended) -> None:
        """Look at what a round has left, when it is through."""
        if ended.code:
            raise RuntimeError(f"{self.told.stage} ended with {ended.code}\n{ended.said}")
        self.told.rounds += 1
        self.told.repeated += self.trial.repeated
        self.told.damaged += damaged(self.done.exp, self.trial.exp)
