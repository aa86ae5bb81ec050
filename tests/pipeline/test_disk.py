"""A disk that takes nothing is named, whichever library found out; nothing else is blamed on it."""

from __future__ import annotations

import errno
import os
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from pipeline.disk import refusal
from pipeline.errors import RunError

Usage = namedtuple("Usage", "total used free")


def raised_from(cause: Exception) -> RunError:
    error = RunError("fairseq stopped")
    error.__cause__ = cause
    return error


@pytest.mark.case(8)
@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device", "units-00000.parquet"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
        RunError("lmplz failed with status 1.", found="write failed: No space left on device"),
        raised_from(OSError(errno.ENOSPC, "No space left on device")),
    ],
)
def test_a_full_disk_is_named_with_the_remedy(error: Exception, tmp_path: Path) -> None:
    told = refusal(error, tmp_path)
    assert told is not None
    assert told.exit_status == 1
    assert told.what.startswith("The disk is full: ")
    assert str(getattr(error, "filename", None) or tmp_path) in told.what
    assert f"MB free in {tmp_path}" in told.found
    assert "make space" in told.remedy


@pytest.mark.case(8)
def test_what_fails_with_nothing_free_fails_for_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that writes through mapped memory dies without a word."""
    died = RunError("build_binary failed with status -7.", found="no message")
    assert refusal(died, tmp_path) is None
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(1000, 1000, 0))
    told = refusal(died, tmp_path / "not" / "there")
    assert told is not None
    assert "disk is full" in told.what


@pytest.mark.case(8)
def test_a_disk_that_is_read_only_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = refusal(OSError(errno.EROFS, "Read-only file system", "x.bin"), tmp_path)
    assert told is not None
    assert told.what == "x.bin could not be written."
    assert told.found == "Read-only file system"
    denied = PermissionError(errno.EACCES, "Permission denied", "speech.wav")
    assert refusal(denied, tmp_path) is None  # it was not to be written
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert refusal(denied, tmp_path) is not None


def test_other_errors_are_not_the_disks(tmp_path: Path) -> None:
    assert refusal(OSError(errno.ENOENT, "No such file or directory", "x"), tmp_path) is None
    assert refusal(ValueError("28"), tmp_path) is None
