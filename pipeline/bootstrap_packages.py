"""The system packages that set-up compiles with: which are missing, and how they get there.

Standard library only: it runs before anything is installed.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import RunError


@dataclass(frozen=True)
class SystemPackage:
    """A package of Debian, and how to see that what it holds is there, wherever from.

    Attributes:
        name: as apt knows it.
        program: what it puts on the PATH; or else
        header, library: what a C++ program includes and links.
        optional: set-up works without it; never a reason to stop.
    """

    name: str
    program: str = ""
    header: str = ""
    library: str = ""
    optional: bool = False

    def is_present(self) -> bool:
        """Whether the machine has it, as a package or otherwise."""
        if self.program:
            return shutil.which(self.program) is not None
        return is_installed(self.name) or links(self.header, self.library)


# In the order in which they are looked for: to see a library takes a compiler.
COMPILING = (
    SystemPackage("g++", program="g++"),
    SystemPackage("make", program="make"),
    SystemPackage("cmake", program="cmake"),
    SystemPackage(
        "libboost-program-options-dev", header="boost/version.hpp", library="boost_program_options"
    ),
    SystemPackage("libboost-thread-dev", header="boost/version.hpp", library="boost_thread"),
    SystemPackage("libboost-system-dev", header="boost/version.hpp", library="boost_system"),
    SystemPackage(
        "libboost-test-dev", header="boost/version.hpp", library="boost_unit_test_framework"
    ),
    SystemPackage("zlib1g-dev", header="zlib.h", library="z", optional=True),
    SystemPackage("libbz2-dev", header="bzlib.h", library="bz2", optional=True),
    SystemPackage("liblzma-dev", header="lzma.h", library="lzma", optional=True),
    # Not to compile with, but asked for at the same time: tests compare our scores with sclite's.
    SystemPackage("sctk", program="sctk", optional=True),
)


def missing_packages(compiling: bool, needs_venv: bool) -> list[SystemPackage]:
    """What is not there of what is needed: to compile, and to make an environment."""
    python = "python{}.{}".format(*sys.version_info[:2])
    missing = []
    if needs_venv and importlib.util.find_spec("ensurepip") is None:
        missing.append(SystemPackage(f"{python}-venv"))
    if compiling:
        header = Path(sysconfig.get_paths()["include"], "Python.h")
        if sys.base_prefix == "/usr" and not header.exists():
            missing.append(SystemPackage(f"{python}-dev"))
        missing += [package for package in COMPILING if not package.is_present()]
    return missing


def is_installed(name: str) -> bool:
    """Whether dpkg knows the package as installed."""
    if shutil.which("dpkg-query") is None:
        return False
    command = ["dpkg-query", "-W", "-f", "${db:Status-Status}", name]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    return answer.returncode == 0 and answer.stdout == "installed"


def links(header: str, library: str) -> bool:
    """Whether a C++ program with this header and library compiles and links."""
    if shutil.which("g++") is None:
        return False
    with tempfile.TemporaryDirectory() as folder:
        command = ["g++", "-x", "c++", "-", "-o", f"{folder}/a.out", f"-l{library}"]
        source = f"#include <{header}>\nint main() {{ return 0; }}\n"
        return (
            subprocess.run(
                command, input=source, capture_output=True, text=True, check=False
            ).returncode
            == 0
        )


def administrator() -> list[str] | None:
    """What stands before a command to run it as root; None where the user may not."""
    if os.geteuid() == 0:
        return []
    if shutil.which("sudo") is None:
        return None
    allowed = subprocess.run(["sudo", "-n", "true"], capture_output=True, check=False)
    return ["sudo", "-n"] if allowed.returncode == 0 else None


def provide(packages: Sequence[SystemPackage], run: Callable[..., None]) -> None:
    """Install `packages` by apt, through `run(command, remedy=...)`.

    Raises:
        RunError: the user may not, and one of them is not optional; names the line to type.
    """
    required = [package.name for package in packages if not package.optional]
    optional = [package.name for package in packages if package.optional]
    line = f"sudo apt-get update && sudo apt-get install -y {' '.join(required)}"
    prefix = administrator()
    if prefix is None or shutil.which("apt-get") is None:
        if not required:
            return
        remedy = f"type this (or its like on a system without apt), then try again:\n    {line}"
        if optional:  # of their own: one that apt does not know makes its whole line fail
            remedy += f"\n  optional:\n    sudo apt-get install -y {' '.join(optional)}"
        raise RunError(
            "system packages are missing and cannot be installed from here",
            found="not there: " + ", ".join(required),
            remedy=remedy,
        )
    apt = [*prefix, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]
    apt += ["-o", "DPkg::Lock::Timeout=300"]
    with contextlib.suppress(RunError):  # one broken source of several may not matter
        run([*apt, "update"], remedy=f"type this:\n    {line}")
    install = [*apt, "install", "-y", "--no-install-recommends"]
    if required:
        run([*install, *required], remedy=f"type this and see what it says:\n    {line}")
    for name in optional:  # one at a time: not every system has every one
        with contextlib.suppress(RunError):
            run([*install, name], remedy="go on without it")
