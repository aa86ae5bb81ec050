"""Who makes which shard: several processes, on one machine or on several, share a split.

They need nothing but a folder that all of them see and whose file system carries flock.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from pipeline.audio import SAMPLE_RATE_HZ
from pipeline.errors import RunError
from pipeline.manifest import Utterance
from pipeline.readers import in_groups
from pipeline.store import write_atomically
from stages.units.corpus import shard_path

UTTERANCES_PER_SHARD = 200
HOURS_PER_SHARD = 1.0
LOOK_AGAIN_SECONDS = 0.2
PRECISION = "precision"


def plan(utterances: Iterable[Utterance]) -> list[slice]:
    """Where in the manifest the utterances of each shard are: a function of it alone."""
    lengths = array("q", (u.samples for u in utterances))
    groups = in_groups(
        range(len(lengths)),
        size=lambda number: lengths[number],
        limit=round(HOURS_PER_SHARD * 3600 * SAMPLE_RATE_HZ),
        most=UTTERANCES_PER_SHARD,
    )
    return [slice(group[0], group[-1] + 1) for group in groups]


def agree_on_precision(locks: Path, precision: str) -> None:
    """Join those who make the shards of this folder: the first one's precision holds for all.

    Args:
        locks: the folder of the locks, which goes when the split is done.
        precision: what this process computes in; `auto` may come out otherwise elsewhere.

    Raises:
        RunError: another process, or this one before it was killed, began in another precision.
    """
    told = locks / PRECISION
    with FileLock(locks / f"{PRECISION}.lock"):
        if not told.exists():
            write_atomically(told, precision)
        first = told.read_text("utf-8")
    if first != precision:
        raise RunError(
            "This machine computes units in another precision than the shards that are there.",
            constraint=f"{first}, as the first process that worked on this split",
            found=f"{precision}, what discretize.precision comes to here",
            remedy="set discretize.precision to fp32 or bf16, the same on all machines",
        )


def to_make(folder: Path, locks: Path, count: int) -> Iterator[int]:
    """Numbers of shards to make, each while its lock is held; ends when all `count` are there.

    What another process holds is left to it and looked at again at the end: there it appears,
    or it is free because that process died.
    """
    left = list(range(count))
    while left:
        held = []
        for number in left:
            if shard_path(folder, number).exists():
                continue
            lock = FileLock(locks / f"units-{number:05d}.lock")
            try:
                lock.acquire(timeout=0)
            except Timeout:
                held.append(number)
                continue
            try:
                if not shard_path(folder, number).exists():
                    yield number
            finally:
                lock.release()
        if held == left:
            time.sleep(LOOK_AGAIN_SECONDS)
        left = held
