"""What hostile files may cost: run in a process of its own, whose memory is bounded.

python -m tests.faults.bounded hostile FOLDER          every hostile file, a line of JSON each
python -m tests.faults.bounded fuzz READER EXAMPLES    mutated files; ends with 0 if all is well
"""

from __future__ import annotations

import json
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.errors import VqasrError
from tests.faults import hostile

MORE_MEMORY = 2**30  # address space beyond what the libraries have taken
SECONDS = 20  # for one file
MOST_TEXT = 6000


def bound_memory() -> None:
    """No more than MORE_MEMORY from here on."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MORE_MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def outcome(read: Callable[[], Any]) -> list[str]:
    """How reading ended: the class of the error, and what it says; `read` if it was read."""
    signal.alarm(SECONDS)
    try:
        read()
    except VqasrError as error:
        return [type(error).__name__, error.text()]
    finally:
        signal.alarm(0)
    return ["read", ""]


def run_hostile(folder: Path) -> None:
    every = enumerate(hostile.FILES.items())
    made = {name: make(folder / str(n)) for n, (name, (make, _)) in every}
    hostile.warm_up(folder / "warm")
    bound_memory()
    for name, read in made.items():
        before, start = peak_megabytes(), time.monotonic()
        told = outcome(read)
        row = {"name": name, "outcome": told[0], "text": told[1]}
        row |= {"megabytes": peak_megabytes() - before, "seconds": time.monotonic() - start}
        print(json.dumps(row), flush=True)


def mutations() -> st.SearchStrategy[list[tuple[str, float, bytes]]]:
    """Some changes: what, where as a share of the file, and the bytes."""
    numbers = [0, 1, 2**7, 2**15, 2**31 - 1, 2**31, 2**63 - 1, 2**64 - 1]
    odd = [n.to_bytes(8, order) for n in numbers for order in ("little", "big")]  # type: ignore[arg-type]
    content = st.binary(min_size=1, max_size=8) | st.sampled_from(
        [*odd, b"\n", b"\t", b"\0", b": "]
    )
    kind = st.sampled_from(("put", "put in", "cut out", "cut off", "repeat"))
    where = st.floats(0, 1, exclude_max=True)
    return st.lists(st.tuples(kind, where, content), min_size=1, max_size=4)


def mutate(content: bytes, changes: list[tuple[str, float, bytes]]) -> bytes:
    for kind, where, told in changes:
        at = int(where * len(content))
        if kind == "put":
            content = content[:at] + told + content[at + len(told) :]
        elif kind == "put in":
            content = content[:at] + told + content[at:]
        elif kind == "cut out":
            content = content[:at] + content[at + len(told) :]
        elif kind == "cut off":
            content = content[:at]
        else:
            content = content[:at] + content[at : at + 40] * told[0] + content[at:]
    return content


def fuzz(name: str, examples: int, first: str) -> None:
    """Read mutated files: the outcome is success, or the reader's own class of error.

    Args:
        first: of the readers of this process: from then on memory is bounded.
    """
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        reader = hostile.READERS[name]
        path, read, allowed = reader(Path(folder))
        whole = path.read_bytes()
        read()
        if name == first:
            bound_memory()
        before, ends = peak_megabytes(), {"read": 0}

        @settings(
            max_examples=examples,
            derandomize=True,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(mutations())
        def one(changes: list[tuple[str, float, bytes]]) -> None:
            path.write_bytes(mutate(whole, changes))
            end, text = outcome(read)
            ends[end] = ends.get(end, 0) + 1
            assert end in ("read", allowed), end
            assert len(text) <= MOST_TEXT

        one()
        told = {"reader": name, "ends": ends, "megabytes": peak_megabytes() - before}
        print(json.dumps(told))


def main() -> None:
    if sys.argv[1] == "hostile":
        run_hostile(Path(sys.argv[2]))
    else:
        for name in sys.argv[3:]:
            print(f"mutated files: {name}", file=sys.stderr)
            fuzz(name, int(sys.argv[2]), sys.argv[3])


if __name__ == "__main__":
    main()
