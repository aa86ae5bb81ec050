"""Which of fairseq's checkpoints to go on from: the newest that is whole."""

from __future__ import annotations

import pickle
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

CRASHED = "crash.pt"  # fairseq writes it when a training fails; not a state to go on from


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read whole.

    Attributes:
        updates: how many updates it has behind it.
        state: what fairseq put into it.
    """

    path: Path
    updates: int
    state: dict[str, Any]


def keep_apart(folder: Path, updates: int) -> None:
    """See that the checkpoint of `updates` has a file of its own.

    Where a save falls on the end of an epoch, fairseq writes `checkpoint_last.pt` alone, and
    the next save overwrites it: there would be nothing to fall back to. fairseq removes
    files of this name when it has newer ones.
    """
    last = folder / "checkpoint_last.pt"
    if not any(folder.glob(f"checkpoint_*_{updates}.pt")) and last.exists():
        shutil.copyfile(last, folder / "kept.tmp")
        (folder / "kept.tmp").rename(folder / f"checkpoint_0_{updates}.pt")


def newest_intact(folder: Path, say: Callable[[str], None]) -> Checkpoint | None:
    """The checkpoint of `folder` with the most updates; damaged ones are removed and named."""
    for leftover in folder.glob("*.tmp"):
        leftover.unlink()
    newest: Checkpoint | None = None
    for path in sorted(folder.glob("checkpoint*.pt")):
        checkpoint = _read(path)
        if checkpoint is None:
            say(f"checkpoint {path.name} is damaged; going on from the one before")
            path.unlink()
        elif newest is None or checkpoint.updates > newest.updates:
            newest = checkpoint
    return newest


def _read(path: Path) -> Checkpoint | None:
    try:
        with zipfile.ZipFile(path) as archive:  # torch.load does not look at the checksums
            if archive.testzip() is not None:
                return None
        state = torch.load(path, map_location="cpu", weights_only=True)
        return Checkpoint(path, int(state["optimizer_history"][-1]["num_updates"]), state)
    except (zipfile.BadZipFile, pickle.UnpicklingError, RuntimeError, KeyError, EOFError):
        return None
