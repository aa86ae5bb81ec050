"""Checkpoints of a training: two are kept, and the newest whole one is gone on from.

`checkpoint-00000035.pt` is the state after 35 updates; `checkpoint-00000035.sha256` beside it is
the checksum of its content. Both are written under another name, synced and then renamed, the
checksum first: a checkpoint that is there is whole after a kill and after a power cut. What is
damaged later does not agree with its checksum.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pipeline.audio import file_sha256
from pipeline.store import HALF, sync, write_atomically

KEPT = 2
CHECKSUM = ".sha256"
PATTERN = "checkpoint-*.pt"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read whole; `updates` are behind it."""

    path: Path
    updates: int
    state: dict[str, Any]


def save(folder: Path, updates: int, state: dict[str, Any]) -> None:
    """Write the state after `updates`, then remove all but the newest two."""
    write(folder / f"checkpoint-{updates:08d}.pt", state)
    _remove_all_but_newest(folder)


def write(path: Path, state: dict[str, Any]) -> None:
    """Write a state that is whole if it is there, with its checksum."""
    beside = path.with_suffix(HALF)
    with open(beside, "wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    write_atomically(path.with_suffix(CHECKSUM), file_sha256(beside))
    beside.replace(path)
    sync(path.parent)


def newest(
    folder: Path,
    say: Callable[[str], None],
    complete: Callable[[dict[str, Any]], bool] = lambda state: True,
) -> Checkpoint | None:
    """The newest whole checkpoint of `folder`; None to start from the first update.

    Damaged ones are named and removed, and so is what a kill left half written.

    Args:
        complete: whether all that this state needs beside it is there.
    """
    _remove_leftovers(folder)
    damaged = False
    for path in sorted(folder.glob(PATTERN), reverse=True):
        wrong = "is damaged"
        if is_whole(path):
            state = torch.load(path, map_location="cpu", weights_only=True)
            if complete(state):
                _remove_all_but_newest(folder)
                return Checkpoint(path, int(path.stem.partition("-")[2]), state)
            wrong = "lacks its best weights, or they are damaged"
        say(f"checkpoint {path.name} {wrong}; the one before it is used")
        remove(path)
        damaged = True
    if damaged:
        say("no checkpoint is whole: starting from the first update")
    return None


def is_whole(path: Path) -> bool:
    """Whether the state at `path` is there as it was written."""
    checksum = path.with_suffix(CHECKSUM)
    if not path.exists() or not checksum.exists():
        return False
    return checksum.read_bytes() == file_sha256(path).encode()


def _remove_all_but_newest(folder: Path) -> None:
    for old in sorted(folder.glob(PATTERN))[:-KEPT]:
        remove(old)


def remove(path: Path) -> None:
    """Remove a state with its checksum."""
    path.unlink()  # first: no checkpoint is ever without its checksum
    path.with_suffix(CHECKSUM).unlink(missing_ok=True)


def _remove_leftovers(folder: Path) -> None:
    for half in folder.glob(f"*{HALF}"):
        half.unlink()
    for checksum in folder.glob(f"*{CHECKSUM}"):
        if not checksum.with_suffix(".pt").exists():
            checksum.unlink()
