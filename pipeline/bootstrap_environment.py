"""The environment that set-up makes: what is in it, and whether it is finished.

Standard library only: it runs before anything is installed.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

from pipeline.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
PYTHONS = ((3, 11), (3, 12))
OLDEST_TORCH = (2, 10)
KENLM_TOOLS = ("lmplz", "build_binary")


class Environment:
    """A virtual environment, or the place for one.

    Attributes:
        venv: its folder.
        python, log, stamp: files in it; the stamp is there when set-up went through to its end.
        keeps_torch: its torch, if it has one, is the user's and stays.
    """

    def __init__(self, venv: Path) -> None:
        self.venv = venv
        self.python = venv / "bin" / "python"
        self.log = venv / "setup.log"
        self.stamp = venv / "setup.stamp"
        self.keeps_torch = venv != ROOT / ".venv"

    def python_version(self) -> tuple[int, int]:
        """The environment's Python, or where there is none yet the one that runs this."""
        if not self.python.exists():
            return sys.version_info[:2]
        code = "import sys; print(*sys.version_info[:2])"
        answer = self._ask("-S", "-c", code)
        if answer.returncode:
            raise UserError(
                f"{self.python} does not start",
                found=answer.stderr.strip()[-200:],
                remedy=f"remove {self.venv} and run the same command again",
            )
        major, minor = answer.stdout.split()
        return int(major), int(minor)

    def signature(self) -> str:
        """What a finished set-up depends on: our sources, where they lie, and the Python."""
        digest = hashlib.sha256(f"{ROOT} {self.python_version()}".encode())
        sources = sorted((ROOT / "pipeline").glob("bootstrap*.py"))
        for path in (ROOT / "pyproject.toml", ROOT / "constraints.txt", *sources):
            digest.update(path.read_bytes())
        return digest.hexdigest()

    def is_finished(self) -> bool:
        """Nothing changed since the last complete set-up."""
        return (
            self.python.exists()
            and self.has_kenlm_tools()
            and self.stamp.exists()
            and self.stamp.read_text() == self.signature()
        )

    def finish(self) -> None:
        """Stamp it: from here on there is nothing to do."""
        fresh = self.stamp.with_suffix(".new")
        fresh.write_text(self.signature())
        fresh.replace(self.stamp)

    def has_pip(self) -> bool:
        """Whether pip starts."""
        return self._ask("-m", "pip", "--version").returncode == 0

    def has_kenlm_tools(self) -> bool:
        """Both programs are there, made from the pinned version, and start."""
        built = self.venv / "kenlm-built"
        return (
            built.exists()
            and built.read_text() == pinned("kenlm")
            and all(starts(self.venv / "bin" / tool) for tool in KENLM_TOOLS)
        )

    def installed(self, name: str) -> str | None:
        """The version of a distribution, None if it is not there."""
        code = (
            "import importlib.metadata as m, sys\n"
            "try: print(m.version(sys.argv[1]))\n"
            "except m.PackageNotFoundError: pass"
        )
        return self._ask("-c", code, name).stdout.strip() or None

    def constraints(self) -> str:
        """constraints.txt, but with the torch of a given environment in place of ours.

        Raises:
            UserError: that torch is too old.
        """
        lines = (ROOT / "constraints.txt").read_text().splitlines()
        torch = self.installed("torch") if self.keeps_torch else None
        if torch:
            if tuple(int(part) for part in torch.split(".")[:2]) < OLDEST_TORCH:
                raise UserError(
                    f"the torch of {self.venv} is too old",
                    constraint="be at least " + ".".join(map(str, OLDEST_TORCH)),
                    found=torch,
                    remedy="upgrade it there, or leave VENV out to get an environment of its own",
                )
            lines = [line for line in lines if not line.startswith("torch==")]
            lines.append(f"torch=={torch}")
        return "\n".join(lines) + "\n"

    def refuse_unusable(self) -> None:
        """Refuse a Python that the dependencies have no builds for, and a folder of other things.

        Raises:
            UserError: with what to type instead.
        """
        begun = self.python.exists() or self.log.exists()
        if self.venv.exists() and not begun and (self.venv.is_file() or any(self.venv.iterdir())):
            raise UserError(
                f"{self.venv} is not an environment",
                constraint="hold bin/python, or be empty or absent",
                remedy="give another folder: VENV=DIR",
            )
        version = self.python_version()
        if version not in PYTHONS:
            where = self.python if self.python.exists() else sys.executable
            raise UserError(
                "this Python cannot be used",
                constraint="be 3.11 or 3.12 (a dependency has no builds for others)",
                found=f"{'.'.join(map(str, version))}, {where}",
                remedy="name one that is installed, as in: make setup PYTHON=python3.12",
            )

    def _ask(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(self.python), "-I", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)


def starts(program: Path) -> bool:
    """Whether a program loads: a half file does not, nor one whose Boost has been removed."""
    try:
        done = subprocess.run([str(program), "--help"], capture_output=True, check=False)
    except OSError:
        return False
    return done.returncode in (0, 1)  # both tools show their help with status 1


def pinned(name: str) -> str:
    """The version of a distribution in constraints.txt.

    Raises:
        KeyError: it is not pinned there.
    """
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        found, _, version = line.partition("==")
        if found == name:
            return version
    raise KeyError(name)
