"""Work that a disk does not take: told in words, whichever library found out."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import RunError, UserError

FULL = {errno.ENOSPC, errno.EDQUOT}
DENIED = {errno.EACCES, errno.EPERM}  # of reading, too
# As the C library words them, which safetensors, Arrow and KenLM hand on in texts of their own.
_FULL = re.compile("|".join(re.escape(os.strerror(number)) for number in FULL))
_READ_ONLY = re.compile(re.escape(os.strerror(errno.EROFS)))
NOTHING_LEFT_BYTES = 64 * 1024  # of free space: what fails with so little failed for that reason
GO_ON = "the same command goes on where it stopped"


def refusal(error: BaseException, folder: Path) -> RunError | None:
    """The error to tell where work in `folder` failed because the disk takes nothing.

    None where it failed for another reason.
    """
    chain = list(_chain(error))
    numbers = {e.errno for e in chain if isinstance(e, OSError)}
    texts = "\n".join(str(e) for e in chain)
    name = next((str(e.filename) for e in chain if isinstance(e, OSError) and e.filename), "")
    free_bytes = _free_bytes(folder)
    if numbers & FULL or _FULL.search(texts) or free_bytes < NOTHING_LEFT_BYTES:
        return RunError(
            f"The disk is full: {name or folder} could not be written.",
            found=f"{free_bytes / 1e6:.1f} MB free in {folder}",
            remedy=f"make space (`vqasr prune` lists what no recipe needs); {GO_ON}",
        )
    denied = numbers & DENIED and not os.access(folder, os.W_OK)
    if denied or errno.EROFS in numbers or _READ_ONLY.search(texts):
        why = next((e.strerror for e in chain if isinstance(e, OSError) and e.strerror), "")
        return RunError(
            f"{name or folder} could not be written.",
            found=why or os.strerror(errno.EROFS),
            remedy=f"give the right to write there; {GO_ON}",
        )
    return None


@contextmanager
def refused(folder: Path) -> Iterator[None]:
    """Work in `folder` that ends as `refusal` tells, where the disk takes nothing.

    Raises:
        RunError: for that reason; other errors are left as they are.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        told = refusal(error, folder)
        if told is None:
            raise
        raise told from error


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error, what it was raised from, and so on."""
    found: BaseException | None = error
    seen: set[int] = set()
    while found is not None and id(found) not in seen:
        yield found
        seen.add(id(found))
        found = found.__cause__ or found.__context__


def _free_bytes(folder: Path) -> float:
    """Of the disk that holds `folder`, or would; infinite where that cannot be told."""
    for place in (folder, *folder.absolute().parents):
        try:
            return shutil.disk_usage(place).free
        except FileNotFoundError:
            continue
        except OSError:
            break
    return float("inf")
