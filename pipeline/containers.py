"""Whether an audio file ends before it says so itself, or goes on behind what is read of it.

libsndfile reads what is there: of a WAV cut in two it returns the first half as if it were all.
FLAC and MP3 need nothing here: libsndfile tells how many samples their headers announce. Of
recordings joined end to end, as `cat a.ogg b.ogg` does, it reads the first one.
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
# Its first page of a stream; a skeleton (RFC 3533's companion) holds no sound.
OGG_FIRST = re.compile(rb"OggS\x00[\x02\x03\x06\x07](?!.{20}\x01.fishead\x00)", re.DOTALL)
FLAC_FIRST = re.compile(rb"fLaC[\x00\x80]\x00\x00\x22")  # with STREAMINFO, of 34 bytes (RFC 9639)
LONGEST_MARK = 36  # bytes of these, with what is looked at behind them
BLOCK_BYTES = 1 << 20
MP3_INFO = re.compile(rb".{4,36}(Xing|Info)(.{4})(.{8})", re.DOTALL)  # in the first frame
MP3_HAS_FRAMES, MP3_HAS_BYTES = 1, 2  # flags of it
MP3_FRAME_BYTES = 2881  # the largest
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


def is_joined(path: Path) -> bool:
    """Whether an Ogg, FLAC or MP3 holds another recording than the first, which alone is read.

    MP3s without a header of their length are read frame by frame to the end of the file, joined
    or not.

    Raises:
        OSError: the file cannot be read.
    """
    with open(path, "rb") as file:
        start = _skip_id3(file, 0)
        head = file.read(4)
        file.seek(start)
        if head == b"OggS":
            return _is_there_twice(file, OGG_FIRST)
        if head == b"fLaC":
            return _is_there_twice(file, FLAC_FIRST)
        return _is_mpeg(head) and _mp3_goes_on(file, start)


def _is_there_twice(file: BinaryIO, mark: re.Pattern[bytes]) -> bool:
    """Whether `mark` is found twice from here to the end."""
    rest, found = b"", 0
    while block := file.read(BLOCK_BYTES):
        content = rest + block
        # What begins in the last bytes is looked at with the next block.
        sure = len(content) - LONGEST_MARK if len(block) == BLOCK_BYTES else len(content)
        found += sum(match.start() < sure for match in mark.finditer(content))
        if found > 1:
            return True
        rest = content[sure:]
    return False


def _mp3_goes_on(file: BinaryIO, start: int) -> bool:
    """Whether frames follow those that the header in the first frame counts the bytes of."""
    told = MP3_INFO.match(file.read(64))
    if told is None:
        return False
    flags = int.from_bytes(told[2], "big")
    if not flags & MP3_HAS_BYTES:
        return False
    at = 4 if flags & MP3_HAS_FRAMES else 0
    size = int.from_bytes(told[3][at : at + 4], "big")
    end = _skip_id3(file, start + size)
    head = file.read(64)
    # Encoders may leave the first frame out of their count: the last one then lies behind it.
    left = file.seek(0, 2) - end
    return _is_mpeg(head) and (MP3_INFO.match(head) is not None or left > 2 * MP3_FRAME_BYTES)


def _skip_id3(file: BinaryIO, start: int) -> int:
    """The place behind a tag (ID3v2) that begins at `start`, or `start`; the file is there then."""
    file.seek(start)
    head = file.read(10)
    if head[:3] == b"ID3" and len(head) == 10:
        size = 0
        for byte in head[6:]:
            size = size << 7 | byte & 0x7F
        start += 10 + size
    return file.seek(start)


def _is_mpeg(head: bytes) -> bool:
    """Whether a frame of MPEG audio begins here."""
    return len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0


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
