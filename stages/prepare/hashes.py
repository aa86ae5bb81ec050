"""SHA-256 of audio files, remembered by size and time so that only what changed is read.

The memory is a file of JSON with a line a file, `["path", bytes, ns, "sha256"]`; the last line of a
path counts. It is only ever added to, so what it costs to remember a file does not grow with the
number of files.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import stat
from array import array
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

from pipeline.audio import file_sha256
from pipeline.console import Progress
from pipeline.folders import make
from pipeline.store import write_atomically

SAVE_EVERY = 300  # files hashed: so much is lost at most when a run is killed
SHOWN_FROM = 200  # files to hash, above which there is a progress bar

Facts = tuple[int, int]  # size in bytes, time in ns


class FileHashes:
    """The hashes of files.

    Args:
        cache: the file that remembers.
        mode: "trust" asks for no file (unknown ones stay unknown), "look" compares size and
            time, "verify" reads every file.
    """

    def __init__(self, cache: Path, mode: str) -> None:
        self.cache, self.mode = cache, mode
        self._read: set[int] = set()  # by this process, which is to read every file
        self._unsaved: list[str] = []
        self._folders: dict[str, str] = {}  # the real one of each
        self.saw_absent = False  # a file that is not there

    @cached_property
    def _known(self) -> dict[int, str]:
        """By a hash of the file's name: `bytes ns sha256`. Texts, since there may be many."""
        return {_key(path): f"{size} {time} {sha}" for path, size, time, sha in _lines(self.cache)}

    def of(self, path: Path) -> str | None:
        """The file's hash; "absent" where there is no such file; None if not known."""
        name = self._real(path)
        key = _key(name)
        if self.mode == "trust":
            return _sha256(self._known[key]) if key in self._known else None
        facts = _facts(path)
        if facts is None:
            self.saw_absent = True
            return "absent"
        if self._must_read(key, facts):
            sha256 = file_sha256(path)
            self._known[key] = f"{facts[0]} {facts[1]} {sha256}"
            if self.mode == "verify":
                self._read.add(key)
            self._unsaved.append(_line(name, facts, sha256))
            if len(self._unsaved) >= SAVE_EVERY:
                self.save()
        return _sha256(self._known[key])

    def facts(self, path: Path) -> Facts:
        """The size and time that a known file's hash is of."""
        size, time_ns, _ = self._known[_key(self._real(path))].split(" ", 2)
        return int(size), int(time_ns)

    def read(self, paths: Callable[[], Iterable[Path]]) -> None:
        """Hash what is not known of `paths`; where that takes long, it is shown.

        They are asked for twice and not kept: there may be many.
        """
        if self.mode == "trust":
            return
        unread = len(set(array("Q", (key for _, key in self._unread(paths())))))
        if unread <= SHOWN_FROM:
            return  # `of` reads them
        with Progress(unread, "reading audio", "files") as progress:
            for path, _ in self._unread(paths()):
                self.of(path)
                progress.update()

    def _unread(self, paths: Iterable[Path]) -> Iterator[tuple[Path, int]]:
        """Those that have to be read, with what they are known by."""
        for path in paths:
            facts = _facts(path)
            if facts is not None:
                key = _key(self._real(path))
                if self._must_read(key, facts):
                    yield path, key

    def release(self) -> None:
        """Let go of what is known, which is read again when it is asked for."""
        if not self._unsaved:
            self.__dict__.pop("_known", None)

    def _real(self, path: Path) -> str:
        """The name of the file itself: the same under whatever links it is found."""
        name = str(path)
        if os.path.islink(name):
            return os.path.realpath(name)
        folder, last = os.path.split(name)
        if folder not in self._folders:
            self._folders[folder] = os.path.realpath(folder)
        return os.path.join(self._folders[folder], last)

    def _must_read(self, key: int, facts: Facts) -> bool:
        if self.mode == "verify" and key not in self._read:
            return True
        return key not in self._known or not self._known[key].startswith(f"{facts[0]} {facts[1]} ")

    def save(self) -> None:
        """Add what is new to the file, which other processes may add to meanwhile.

        Raises:
            UserError: the folder cannot be made.
        """
        if not self._unsaved:
            return
        make(self.cache.parent)
        with open(self.cache, "a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # closing lets go
            content = "".join(self._unsaved).encode()
            if not _ends_well(file):  # a kill cut its last line, or it is of the older form
                before = "".join(_line(p, (b, ns), sha) for p, b, ns, sha in _lines(self.cache))
                write_atomically(self.cache, before.encode() + content)
            else:
                file.write(content)
        self._unsaved.clear()


def _key(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(os.fsencode(name), digest_size=8).digest(), "little")


def _line(name: str, facts: Facts, sha256: str) -> str:
    return json.dumps([name, *facts, sha256]) + "\n"


def _sha256(known: str) -> str:
    return known.split(" ", 2)[2]


def _lines(cache: Path) -> Iterator[tuple[str, int, int, str]]:
    """What the file remembers; nothing where it is not there, and nothing of a damaged line."""
    try:
        with open(cache, "rb") as file:
            if file.read(1) == b"{":  # as it was written before: one object of all files
                file.seek(0)
                entries: Iterable[Any] = ([path, *e] for path, e in json.load(file).items())
            else:
                file.seek(0)
                entries = (_parsed(line) for line in file)
            for entry in entries:
                if _is_whole(entry):
                    path, size, time_ns, sha256 = entry
                    yield path, size, time_ns, sha256
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError, RecursionError):
        return


def _is_whole(entry: Any) -> bool:
    """Whether an entry is one of ours, with a path that a file can have."""
    if not isinstance(entry, list) or [type(part) for part in entry] != [str, int, int, str]:
        return False
    try:
        os.fsencode(entry[0])
    except UnicodeEncodeError:
        return False
    return True


def _parsed(line: bytes) -> Any:
    """None of a line that a kill cut, or that is no JSON."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _ends_well(file: BinaryIO) -> bool:
    """Whether lines can be added to the file as it is."""
    file.seek(0)
    if file.read(1) in (b"", b"{"):
        return not file.tell()
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"


def _facts(path: Path) -> Facts | None:
    """Size and time of a plain file. From a pipe or a device one would read for ever."""
    try:
        facts = os.stat(path)
    except (OSError, ValueError):
        return None
    return (facts.st_size, facts.st_mtime_ns) if stat.S_ISREG(facts.st_mode) else None
