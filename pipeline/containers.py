"""Whether an audio file ends before it says so itself.

libsndfile reads what is there: of a WAV cut in two it returns the first half as if it were all.
FLAC needs nothing here: its decoder tells how many samples there should be.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import BinaryIO, Literal

# Sizes of a WAV's samples that promise nothing: unknown while a stream was written, and SoX's
# value for that.
STREAMED = (0, 0xFFFFFFFF, 0x7FFFF000)
LARGEST_OGG_PAGE = 27 + 255 + 255 * 255
OGG_PAGE = re.compile(rb"OggS\x00")
OGG_LAST = 4  # flag of a page: the last one of its stream
XING = re.compile(rb"Xing|Info")  # in the first frame of an MP3, behind its side information
XING_WITHIN = 64
XING_FRAMES, XING_BYTES = 1, 2  # flags: which of the two follow


def is_cut(path: Path) -> bool:
    """Whether less is there than a WAV, Ogg or MP3 announces; False where nothing is announced.

    Raises:
        OSError: the file cannot be read.
    """
    with open(path, "rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        head = file.read(12)
        if head[:4] in (b"RIFF", b"RIFX", b"RF64") and head[8:] == b"WAVE":
            return _riff_end(file, "big" if head[:4] == b"RIFX" else "little") > size
        if head[:4] == b"OggS":
            return _ogg_is_cut(file, size)
        if head[:3] == b"ID3" or head[:2] >= b"\xff\xe0":
            return _mp3_end(file, head) > size
    return False


def _riff_end(file: BinaryIO, order: Literal["big", "little"]) -> int:
    """Where the samples of a WAV should end; 0 where it does not tell."""
    large = 0
    while len(chunk := file.read(8)) == 8:
        size = int.from_bytes(chunk[4:], order)
        if chunk[:4] == b"data":
            if size == 0xFFFFFFFF and large:
                return file.tell() + large
            return 0 if size in STREAMED else file.tell() + size
        start = file.tell()
        if chunk[:4] == b"ds64":  # of RF64, whose samples may be more than 4 GB
            large = int.from_bytes(file.read(16)[8:], "little")
        file.seek(start + size + size % 2)
    return 0


def _ogg_is_cut(file: BinaryIO, size: int) -> bool:
    """Whether the last page is not whole, or is not marked as its stream's last (RFC 3533)."""
    file.seek(max(size - LARGEST_OGG_PAGE, 0))
    tail = file.read(LARGEST_OGG_PAGE)
    pages = [match.start() for match in OGG_PAGE.finditer(tail)]
    if not pages:
        return True
    page = tail[pages[-1] :]
    if len(page) < 27 or len(page) < 27 + page[26]:
        return True
    whole = 27 + page[26] + sum(page[27 : 27 + page[26]])
    return len(page) < whole or not page[5] & OGG_LAST


def _mp3_end(file: BinaryIO, head: bytes) -> int:
    """Where the frames of an MP3 should end, by its Xing header; 0 where it has none."""
    start = 0
    if head[:3] == b"ID3":  # a tag of 7-bit bytes' size stands before the first frame
        start = 10 + sum((byte & 0x7F) << 7 * n for n, byte in enumerate(reversed(head[6:10])))
    file.seek(start)
    frame = file.read(XING_WITHIN + 16)
    found = XING.search(frame, 0, XING_WITHIN)
    if found is None:
        return 0
    flags = int.from_bytes(frame[found.end() : found.end() + 4], "big")
    at = found.end() + (8 if flags & XING_FRAMES else 4)
    announced = int.from_bytes(frame[at : at + 4], "big")
    return start + announced if flags & XING_BYTES else 0
