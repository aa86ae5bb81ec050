"""The rows that stage 0 has finished, so that a killed run goes on where it was.

A line is the checksum of a row's JSON, a space, and the row. Neither lines nor audio are synced one
by one, which would take longer than the work: after a power cut, any of them may be empty or hold
zeros. What does not agree with its checksum counts as not done, and is done again.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from pipeline.audio import file_sha256
from pipeline.json_lines import JsonLines

NAME = "rows.journal"
AUDIO = "audio_sha256"  # in a row: of the file that was written for it

Row = dict[str, Any]


class Journal:
    """What is finished of a split, by an utterance's id.

    Args:
        folder: of the artifact, where audio is written.
        scratch: where the journal lies.
    """

    def __init__(self, folder: Path, scratch: Path) -> None:
        self._path = path = scratch / NAME
        path.touch()
        self._folder = folder
        self._finished = JsonLines(path, _id, read=_row)
        os.truncate(path, self._finished.end)  # what a kill cut

    def find(self, utterance_id: str) -> Row | None:
        """A row that an earlier run has finished, if it and its audio are as they were written."""
        if not len(self._finished):
            return None
        row: Row | None = self._finished.find(utterance_id)
        return row if row is not None and self._has_its_audio(row) else None

    def _has_its_audio(self, row: Row) -> bool:
        if AUDIO not in row:  # rejected, or its audio stays where it is
            return True
        path = self._folder / row["utterance"]["path"]
        return path.is_file() and file_sha256(path) == str(row[AUDIO])

    def add(self, row: Row) -> None:
        """Write down a row whose audio is written."""
        told = json.dumps(row, ensure_ascii=False).encode()
        self._file.write(b"%s %s\n" % (_checksum(told), told))
        self._file.flush()

    def __enter__(self) -> Journal:
        self._file = open(self._path, "ab")
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _checksum(told: bytes) -> bytes:
    return hashlib.blake2b(told, digest_size=8).hexdigest().encode()


def _row(line: bytes) -> Row:
    """Nothing of a damaged line."""
    checksum, _, told = line.rstrip(b"\n").partition(b" ")
    row: Row = json.loads(told) if checksum == _checksum(told) else {}
    return row


def _id(row: Row) -> str:
    return str(row.get("id", ""))
