"""Files of JSON with a line an entry, read a line at a time however many there are.

Only where lines start is in memory, and a hash of what each is found by: 24 bytes a line.
"""

from __future__ import annotations

import hashlib
import json
import os
from array import array
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class JsonLines:
    """The entries of a file, by number from 0 and by key. What has no end of line is no entry.

    The file must stay as it is. Threads and forked processes may read at once, and it can be sent
    to other processes.

    Args:
        key: what an entry is found by.
        header: lines at the beginning that are no entries.
        read: makes an entry of a line.
    """

    def __init__(
        self,
        path: Path,
        key: Callable[[Any], str],
        header: int = 0,
        read: Callable[[bytes], Any] = json.loads,
    ) -> None:
        self.path, self._key, self._read = path, key, read
        self._starts = array("q")  # and, last, the end
        end = 0
        with open(path, "rb") as file:
            for number, line in enumerate(file):
                if number >= header and line.endswith(b"\n"):
                    self._starts.append(end)
                end += len(line) if line.endswith(b"\n") else 0
        self.end = end
        self._starts.append(end)

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, number: int) -> Any:
        start, end = self._starts[number], self._starts[number + 1]
        return self._read(os.pread(self._handle.number, end - start, start))

    def __iter__(self) -> Iterator[Any]:
        """All entries, in order."""
        with open(self.path, "rb") as file:
            file.seek(self._starts[0])
            for _ in range(len(self)):
                yield self._read(file.readline())

    def find(self, key: str) -> Any:
        """The last entry of this key; None where there is none."""
        hashes, numbers = self._index
        wanted = _hash(key)
        at = int(hashes.searchsorted(wanted, side="right")) - 1
        while at >= 0 and int(hashes[at]) == wanted:
            entry = self[int(numbers[at])]
            if self._key(entry) == key:
                return entry
            at -= 1
        return None

    @cached_property
    def _index(self) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        """Hashes of all keys in rising order, and the number of each one's entry."""
        import numpy as np

        unsorted = array("Q", (_hash(self._key(entry)) for entry in self))
        hashes = np.frombuffer(unsorted, dtype=np.uint64)
        order = np.argsort(hashes, kind="stable")
        return hashes[order], order

    @cached_property
    def _handle(self) -> _Handle:
        return _Handle(self.path)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_handle"}


class _Handle:
    """A file that is open for `os.pread`, which leaves no place in it behind."""

    def __init__(self, path: Path) -> None:
        self.number = os.open(path, os.O_RDONLY)

    def __del__(self) -> None:
        os.close(self.number)


def _hash(key: str) -> int:
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "little")
