"""How set-up runs commands: a line with seconds for the user, everything else into a log.

Standard library only: it runs before anything is installed.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import RunError

TAIL_LINES = 20
NOISE = ("[notice]", "WARNING: Running pip as", "Requirement already satisfied", "Looking in ")


@contextmanager
def step(what: str) -> Iterator[None]:
    """Print `what`, and the seconds that it took behind it."""
    print(f"  {what} ... ", end="", flush=True)
    start = time.monotonic()
    try:
        yield
    except BaseException:
        print("failed", flush=True)
        raise
    print(f"{time.monotonic() - start:.1f} s", flush=True)


def tail(text: str) -> str:
    """The last lines of a command's output that say something."""
    lines = [line.rstrip() for line in text.replace("\r", "\n").splitlines()]
    telling = [line for line in lines if line and not line.lstrip().startswith(NOISE)]
    return "\n".join(f"    {line}" for line in telling[-TAIL_LINES:])


class Shell:
    """Runs commands; their words go to the file `log`."""

    def __init__(self, log: Path) -> None:
        self.log = log

    def run(
        self,
        command: Sequence[str | Path],
        *,
        remedy: str,
        env: Mapping[str, str] | None = None,
    ) -> None:
        """Run a command, with `env` on top of our environment.

        Raises:
            RunError: it cannot start or does not exit with 0; holds the end of what it said.
        """
        words = [str(word) for word in command]
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("a+b") as log:
            log.write(f"\n$ {' '.join(words)}\n".encode())
            log.flush()
            start = log.tell()
            status = _status(words, log.fileno(), {**os.environ, **(env or {})}, remedy)
            log.seek(start)
            said = log.read().decode(errors="replace")
        if status:
            raise RunError(
                f"this failed with status {status}: {' '.join(words)}\n{tail(said)}",
                found=f"all that it said is in {self.log}",
                remedy=remedy,
            )


def _status(words: list[str], output: int, env: dict[str, str], remedy: str) -> int:
    try:
        return subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=env,
            check=False,
        ).returncode
    except OSError as error:
        raise RunError(f"cannot run {words[0]}: {error}", remedy=remedy) from error
