"""Kills and full disks at a chosen call to the file system, by whatever code makes it.

`interpose.c` is loaded before the C library, so that writes of Python, safetensors (Rust), Arrow
(C++) and KenLM's programs are met alike. What is written by way of mapped memory is not seen.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

SOURCE = Path(__file__).with_name("interpose.c")
ANY = "*"
_NEW_EACH_TIME = re.compile(
    r"[0-9a-f]{32}|(?<=tfevents\.)[^/]*|(?<=/)tmp[^/.]+|(?<=/\.tmp)[^/.]+"
    r"|(?<=scratch/)[A-Za-z0-9]{6}(?= |$)"  # of KenLM's programs
)


@dataclass(frozen=True)
class Call:
    """A call that changes a file: `operation` is open (to write), write, rename, sync, ..."""

    operation: str
    path: str  # below the folder; what differs from run to run is a `*`


@dataclass(frozen=True)
class Fault:
    """At the `at`-th call like `call`: death, the error number `error`, or a signal before it.

    Attributes:
        lasts: every later write fails too, as on a disk that is full or read-only.
    """

    call: Call
    at: int = 1
    error: int = 0
    lasts: bool = False
    signal: int = 0


class _Told(ctypes.Structure):
    """As in interpose.c."""

    _fields_ = (
        ("prefix", ctypes.c_char * 1024),
        ("log", ctypes.c_char * 1024),
        ("operation", ctypes.c_char * 32),
        ("pattern", ctypes.c_char * 1024),
        ("at", ctypes.c_long),
        ("seen", ctypes.c_long),
        ("error", ctypes.c_int),
        ("lasts", ctypes.c_int),
        ("failing", ctypes.c_int),
        ("pid", ctypes.c_int),
    )


@cache
def library() -> Path | None:
    """The compiled interpose.c; None where there is no C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("c++")
    if compiler is None:
        return None
    folder = Path(tempfile.mkdtemp(prefix="vqasr-faults-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    built = folder / "interpose.so"
    command = [compiler, "-x", "c", "-shared", "-fPIC", "-O1", "-o", str(built), str(SOURCE)]
    subprocess.run(command, check=True)
    return built


def load_into_children() -> None:
    """Have programs that this process starts from now on load the library."""
    built = library()
    if built is not None:
        os.environ["LD_PRELOAD"] = str(built)


def tell(file: Path, folder: Path, fault: Fault | None = None, log: Path | None = None) -> None:
    """Write into `file` what a process that arms itself with it is to meet below `folder`."""
    told = _Told(prefix=os.fsencode(folder.resolve()), log=os.fsencode(log) if log else b"")
    if fault is not None:
        told.operation = fault.call.operation.encode()
        told.pattern = os.fsencode(fault.call.path)
        told.at, told.lasts = fault.at, int(fault.lasts)
        told.error = -fault.signal if fault.signal else fault.error
    file.write_bytes(bytes(told))


def arm(file: Path) -> None:
    """Meet what `tell` wrote: this process, and those that it starts.

    Raises:
        RuntimeError: the library is not loaded.
    """
    try:
        ctypes.CDLL(None).vqasr_arm(os.fsencode(file))
    except AttributeError as error:
        raise RuntimeError("this process was not started by load_into_children") from error
    os.environ["VQASR_FAULT"] = str(file)


def met(file: Path) -> bool:
    """Whether the fault has happened."""
    told = _Told.from_buffer_copy(file.read_bytes())
    return bool(told.at and told.seen >= told.at)


def calls(log: Path) -> list[Call]:
    """What the log tells, in order."""
    lines = log.read_text("utf-8").splitlines() if log.exists() else []
    return [Call(*_stable(line).split("\t")) for line in lines]


def _stable(line: str) -> str:
    return _NEW_EACH_TIME.sub(ANY, line)
