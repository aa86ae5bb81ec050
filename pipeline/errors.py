"""The errors that a person is meant to read. Only the command line exits."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class VqasrError(Exception):
    """A failure told in a few lines: what, the constraint, the value found, the remedy.

    `exit_status` is what the program ends with when nothing catches the error. `log` is the file
    that holds more, with the traceback; who keeps that file sets it.
    """

    exit_status = 1
    log = ""

    def __init__(
        self, what: str, *, constraint: str = "", found: str = "", remedy: str = ""
    ) -> None:
        self.what, self.constraint, self.found, self.remedy = what, constraint, found, remedy
        super().__init__(self.text())

    def text(self) -> str:
        """The message, one line for each part that is there."""
        parts = [self.what]
        for label, value in (
            ("must", self.constraint),
            ("found", self.found),
            ("remedy", self.remedy),
            ("log", self.log),
        ):
            if value:
                parts.append(f"  {label}: {value}")
        return "\n".join(parts)

    def __str__(self) -> str:
        return self.text()


class UserError(VqasrError):
    """What the user gave is wrong: a recipe, an option, a corpus. Exit status 2."""

    exit_status = 2


class RunError(VqasrError):
    """A run failed although the input was accepted. Exit status 1."""


def brief(error: BaseException) -> str:
    """An error of a library in one line: its kind, and how its message begins."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    told = lines[0].strip() if lines else ""
    kind = type(error).__name__
    return f"{kind}: {told[:200]}" if told else kind


def shown(value: object) -> str:
    """A name or value as a message shows it: its beginning where it is long."""
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:97]}..."


def closest(name: str, valid: Iterable[str], most: int = 1) -> list[str]:
    """At most so many of `valid` that are like `name`, the one most like it first."""
    return difflib.get_close_matches(name, sorted(valid), n=most, cutoff=0.5)


def nearest(name: str, valid: Iterable[str]) -> str:
    """`valid` as text, the names most like `name` first, so that a typo finds its remedy."""
    names = sorted(valid)
    close = closest(name, names)
    listed = ", ".join(names)
    return f"did you mean {close[0]}? There are: {listed}" if close else f"there are: {listed}"
