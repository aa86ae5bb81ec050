"""Whether an audio file ends before it says so itself.

libsndfile reads what is there: of a WAV cut in two it returns the first half as if it were all.
FLAC and MP3 need nothing here: libsndfile tells how many samples their headers announce.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import BinaryIO, Literal

# Sizes of a WAV's samples that promise nothing: unknown while a stream was written, and SoX's
# value for that.
STREAMED = (0, 0xFFFFFFFF, 0x7FFFF000)
MOST_CHUNKS = 1000  # before the samples; a WAV has a handful
LARGEST_OGG_PAGE = 27 + 255 + 255 * 255
OGG_PAGE = re.compile(rb"OggS\x00")
OGG_LAST = 4  # flag of a page: the last one of its stream


def is_cut(path: Path) -> bool:
    """Whether less is there than a WAV or Ogg announces; False where nothing is announced.

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
    return False


def _riff_end(file: BinaryIO, order: Literal["big", "little"]) -> int:
    """Where the samples of a WAV should end; 0 where it does not tell."""
    large = 0
    for _ in range(MOST_CHUNKS):
        if len(chunk := file.read(8)) < 8:
            break
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
