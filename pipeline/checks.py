"""`vqasr check`: every component does something small; its version, and whether it works."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata

from pipeline.check_probes import COMPONENTS, REMEDY
from pipeline.errors import RunError


@dataclass(frozen=True)
class Check:
    """What was found out about one component.

    Attributes:
        name, version: the component; the version is "-" where it is not installed.
        works: it did the small thing that was asked of it.
        detail: what it did, or what went wrong.
        remedy: what to do about it; empty where it works.
        seconds: how long it took, imports included.
    """

    name: str
    version: str
    works: bool
    detail: str
    remedy: str
    seconds: float

    def line(self) -> str:
        """One line for the user, and a second with the remedy."""
        mark = "ok    " if self.works else "FAILED"
        text = f"{mark} {self.name:<14} {self.version:<12} {self.detail}"
        return text if self.works else f"{text}\n       {'remedy:':<14} {self.remedy}"


def run_checks(tell: Callable[[Check], None] | None = None) -> list[Check]:
    """Try every component; `tell` is called with each result as it comes. Never raises."""
    checks = []
    for name, distribution, probe in COMPONENTS:
        checks.append(try_component(name, distribution, probe))
        if tell:
            tell(checks[-1])
    return checks


def try_component(name: str, distribution: str, probe: Callable[[], str]) -> Check:
    """Run one probe: it returns what it did, or raises whatever its component raises."""
    start = time.monotonic()
    works, remedy = True, ""
    try:
        detail = probe()
    except Exception as error:  # any failure of any component is a finding, not an end
        said = str(error).strip().splitlines() or ["no message"]
        works, detail = False, f"{type(error).__name__}: {said[0]}"
        remedy = (error.remedy if isinstance(error, RunError) else "") or REMEDY
    return Check(name, _version(distribution), works, detail, remedy, time.monotonic() - start)


def _version(distribution: str) -> str:
    if not distribution:
        return sys.version.split()[0]
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "-"


def main() -> int:
    """Print the report; 0 where everything works, else 1."""
    checks = run_checks(lambda check: print(check.line(), flush=True))
    broken = [check.name for check in checks if not check.works]
    print(f"does not work: {', '.join(broken)}" if broken else f"all {len(checks)} work")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
