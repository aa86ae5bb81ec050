"""Whether the folder of results can be used, asked before any work."""

from __future__ import annotations

import errno
import os
import shlex
from pathlib import Path

from pipeline.errors import UserError

REMEDY = "give another folder with --exp"


def exp_option(exp: Path) -> str:
    """What a command that is told has to have for this folder: ` --exp there`, mostly nothing."""
    return f" --exp {shlex.quote(str(exp))}" if exp != Path("exp") else ""


def check_readable(exp: Path, *below: str) -> None:
    """Raise UserError if `exp` is there, or something on the way to it, and is no folder.

    Args:
        below: folders in it that matter too, beside the store.
    """
    for folder in (exp, *(exp / name for name in ("store", *below))):
        there = _nearest_there(folder)
        if not there.is_dir():
            raise UserError(f"--exp {exp}: {there} is not a folder.", remedy=REMEDY)
        if not os.access(there, os.R_OK | os.X_OK):
            raise UserError(f"--exp {exp}: {there} may not be read.", remedy=REMEDY)


def check_writable(exp: Path, *below: str) -> None:
    """Raise UserError if nothing can be written into `exp`, or it cannot be made."""
    check_readable(exp, *below)
    for folder in (exp, *(exp / name for name in ("store", *below))):
        there = _nearest_there(folder)
        if not os.access(there, os.W_OK):
            raise UserError(f"--exp {exp}: {there} may not be written.", remedy=REMEDY)


def make(folder: Path) -> None:
    """Make `folder` and those above it.

    Raises:
        UserError: it cannot be made there.
        OSError: the disk is full.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UserError(
            f"The folder {folder} cannot be made: {error.strerror}.", remedy=REMEDY
        ) from error


def _nearest_there(folder: Path) -> Path:
    try:
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
    except OSError as error:
        raise UserError(f"--exp {folder}: {error.strerror}.", remedy=REMEDY) from error
    return folder
