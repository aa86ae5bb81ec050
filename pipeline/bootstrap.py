"""Set-up: makes the environment that everything runs in, before anything is installed.

    python3 pipeline/bootstrap.py [--venv DIR]

Only the standard library is at hand here. Every step looks at what is there and does what is
missing, so that an interrupted set-up goes on; a stamp, written last, makes the next call free.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

if not __package__:  # run as a file: Python put pipeline/ where the root belongs
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from pipeline.bootstrap_environment import KENLM_TOOLS, ROOT, Environment, pinned
from pipeline.bootstrap_packages import missing_packages, provide
from pipeline.bootstrap_shell import Shell, step
from pipeline.errors import RunError, VqasrError

FAIRSEQ = "0.12.2"
PEER = "pyctcdecode"  # what the benchmark of decoding compares with
BUILD_TOOLS = ("setuptools", "wheel", "cython", "numpy")  # what fairseq is compiled with
MOST_JOBS = 8  # of the compiler; one takes up to 1 GB
RUN_AGAIN = "run the same command again, it goes on from here"


class Setup:
    """The steps that bring `environment` up to date, each a line for the user."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self.venv = environment.venv
        self.shell = Shell(environment.log)

    def make(self) -> None:
        """All steps in order, each only if it is needed.

        Raises:
            VqasrError: one failed; names the remedy.
        """
        there = self.environment
        if not there.python.exists():
            self.provide_system_packages(compiling=True)  # all that will be asked for, at once
            self.make_venv()
        if not there.has_pip():
            with step("pip"):
                remedy = f"remove {self.venv}, then run the same command again"
                self.shell.run([there.python, "-m", "ensurepip"], remedy=remedy)
        has_fairseq = there.installed("fairseq") == FAIRSEQ
        has_kenlm = there.installed("kenlm") == pinned("kenlm") and there.has_kenlm_tools()
        self.provide_system_packages(compiling=not (has_fairseq and has_kenlm))
        self.install_dependencies()
        if not has_fairseq:
            self.install_fairseq()
        if there.installed(PEER) != pinned(PEER):
            self.install_peer()
        if not there.has_kenlm_tools():
            self.build_kenlm_tools()

    def provide_system_packages(self, compiling: bool) -> None:
        """Compilers and headers through apt, only those that are really missing."""
        needs_venv = not self.environment.python.exists()
        missing = missing_packages(compiling=compiling, needs_venv=needs_venv)
        if missing:
            names = [p.name + (" (optional)" if p.optional else "") for p in missing]
            with step(f"system packages: {', '.join(names)}"):
                provide(missing, self.shell.run)

    def make_venv(self) -> None:
        """An empty environment; pip follows as a step of its own, so that a kill between heals."""
        with step(f"environment with Python {sys.version.split()[0]}"):
            self.shell.run(
                [sys.executable, "-m", "venv", "--without-pip", self.venv],
                remedy="give a folder that can be written: VENV=DIR",
            )

    def install_dependencies(self) -> None:
        """Everything that pyproject.toml names, and the project itself, editable."""
        constraints = self.venv / "setup-constraints.txt"
        constraints.write_text(self.environment.constraints())
        with step("build tools"):
            self.pip("install", "-c", constraints, *BUILD_TOOLS)
        with step("torch"):
            self.pip("install", "-c", constraints, "torch")
        with step("dependencies, and vqasr itself"):
            # Without isolation what is compiled uses the pinned build tools.
            self.pip("install", "--no-build-isolation", "-c", constraints, "-e", f"{ROOT}[dev]")

    def install_fairseq(self) -> None:
        """fairseq without its dependencies, compiled with torch out of sight.

        Where torch can be imported its setup.py wants torch extensions too, whose sources its
        source distribution lacks.
        """
        with step(f"fairseq {FAIRSEQ}, compiled"), tempfile.TemporaryDirectory() as hiding:
            Path(hiding, "torch.py").write_text("raise ImportError('hidden while fairseq builds')")
            self.pip(
                *("install", "--no-deps", "--no-build-isolation", f"fairseq=={FAIRSEQ}"),
                env={"PYTHONPATH": hiding},
            )

    def install_peer(self) -> None:
        """pyctcdecode without its dependencies: it asks for numpy < 2, and works with 2.

        Recipes run without it, and so set-up goes on where it cannot be had.
        """
        wanted = f"{PEER}=={pinned(PEER)}"
        try:
            with step(f"{PEER} {pinned(PEER)}, for the benchmarks"):
                self.pip("install", "--no-deps", wanted)
        except RunError:
            by_hand = f"{self.environment.python} -m pip install --no-deps {wanted}"
            print(f"    going on: make bench alone needs it; to have it, {by_hand}", flush=True)

    def build_kenlm_tools(self) -> None:
        """`lmplz` and `build_binary`, which the wheel leaves out, from the same sources."""
        version, work = pinned("kenlm"), self.venv / "kenlm-build"
        source, build = work / f"kenlm-{version}", work / f"build-{version}"
        jobs = min(os.cpu_count() or 1, MOST_JOBS)
        remedy = f"see {self.shell.log}; if Boost or a compiler is named there, install it"
        with step(f"{' and '.join(KENLM_TOOLS)} of kenlm {version}, compiled"):
            if not (work / f"kenlm-{version}.tar.gz").exists():
                self.pip(
                    *("download", "--no-deps", "--no-build-isolation", "--no-binary", "kenlm"),
                    *(f"kenlm=={version}", "-d", work),
                )
            if not source.exists():  # unpacked again, make would compile all of it again
                unpacked = work / "unpacked"
                shutil.unpack_archive(work / f"kenlm-{version}.tar.gz", unpacked)
                (unpacked / source.name).rename(source)
            configure = ["cmake", "-S", str(source), "-B", str(build)]
            self.shell.run([*configure, "-DCMAKE_BUILD_TYPE=Release"], remedy=remedy)
            compile_ = ["cmake", "--build", str(build), "--parallel", str(jobs)]
            self.shell.run([*compile_, "--target", *KENLM_TOOLS], remedy=remedy)
            for tool in KENLM_TOOLS:
                fresh = self.venv / "bin" / f".{tool}.new"
                shutil.copy2(build / "bin" / tool, fresh)
                fresh.replace(self.venv / "bin" / tool)
            (self.venv / "kenlm-built").write_text(version)
            shutil.rmtree(work)

    def check(self) -> None:
        """Try every component; the report goes to the user.

        Raises:
            RunError: something does not work.
        """
        command = [str(self.venv / "bin" / "vqasr"), "check"]
        if subprocess.run(command, cwd=ROOT, check=False).returncode:
            raise RunError(
                "set-up ran, but not everything works (see above)",
                remedy=f"what the lines above say; the log is {self.shell.log}; then {RUN_AGAIN}",
            )

    def pip(self, *arguments: str | Path, env: dict[str, str] | None = None) -> None:
        """Run pip in the environment."""
        quiet = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1", "PIP_USER": "0"}
        self.shell.run(
            [self.environment.python, "-m", "pip", *arguments],
            env={**quiet, **(env or {})},
            remedy=f"check the network and the free disk space, then {RUN_AGAIN}",
        )


def bring_up_to_date(venv: Path) -> None:
    """Make or mend the environment `venv`; no work where nothing changed.

    Raises:
        VqasrError: the folder or its Python is refused, or a step failed.
    """
    environment = Environment(venv)
    environment.refuse_unusable()
    if environment.is_finished():
        print(f"set-up: nothing to do, {venv} is complete", flush=True)
        return
    print(f"set-up of {venv} (log: {environment.log})", flush=True)
    venv.mkdir(parents=True, exist_ok=True)
    with (venv / "setup.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # a second set-up waits; a kill frees it
        environment.log.write_bytes(b"")
        environment.stamp.unlink(missing_ok=True)
        setup = Setup(environment)
        setup.make()
        setup.check()
        environment.finish()


def main(arguments: list[str] | None = None) -> int:
    """The command; returns the exit status."""
    parser = argparse.ArgumentParser(description="Set up the environment of vqasr.")
    parser.add_argument("--venv", default=str(ROOT / ".venv"), metavar="DIR", help="where it is")
    venv = Path(os.path.abspath(parser.parse_args(arguments).venv))  # keeps links as they are
    try:
        bring_up_to_date(venv)
    except VqasrError as error:
        print(error.text(), file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        print(f"\ninterrupted; {RUN_AGAIN}", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
