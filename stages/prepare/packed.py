"""Sources in little memory, since a corpus may have hundreds of thousands.

A `Source` is six objects and their texts, twice the bytes that it takes here: what differs from
utterance to utterance is one string of bytes, and an entry is made a `Source` when it is asked for.
"""

from __future__ import annotations

import marshal
import sys
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import overload

from stages.prepare.corpus import Source


class Packed(Sequence[Source]):
    """The sources of a list, which is empty afterwards: each goes as soon as it is packed."""

    def __init__(self, sources: list[Source]) -> None:
        self._rows: list[bytes] = []
        numbers: dict[Path, int] = {}
        sources.reverse()
        while sources:
            source = sources.pop()
            root = numbers.setdefault(source.root, len(numbers))
            row = source.id, source.speaker, source.transcript, source.files, root
            # Format 2: later ones mark what stands there twice, which takes bytes.
            self._rows.append(marshal.dumps((*row, dict(source.parameters)), 2))
        self._roots = list(numbers)

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, at: int) -> Source: ...
    @overload
    def __getitem__(self, at: slice) -> list[Source]: ...
    def __getitem__(self, at: int | slice) -> Source | list[Source]:
        if isinstance(at, slice):
            return [self[number] for number in range(len(self))[at]]
        name, speaker, transcript, files, root, parameters = marshal.loads(self._rows[at])
        return Source(name, sys.intern(speaker), transcript, self._roots[root], files, parameters)

    def __iter__(self) -> Iterator[Source]:
        return (self[number] for number in range(len(self)))


def by_id(sources: Sequence[Source]) -> Iterator[Source]:
    """The sources sorted by id, one at a time."""
    ids = [source.id for source in sources]
    order = array("q", sorted(range(len(ids)), key=ids.__getitem__))
    del ids
    for number in order:
        yield sources[number]
