"""Large files from a web server: resumed, checked, and there under their name only when whole.

A file grows as `<name>.part`. What a broken connection or a kill leaves of it is gone on from
with HTTP Range, as long as the server still has the same file (If-Range); a server that knows
no Range begins again. Then the checksum is compared, and only then the file gets its name.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import IO, Literal
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from pipeline.console import Progress, say
from pipeline.errors import RunError, UserError
from pipeline.store import sync, write_atomically

PART = ".part"
VALIDATOR = ".part.of"  # which version of the file the part is of: its ETag, or its date
REFUSED = ".refused"  # ends the name of what has a wrong checksum
ATTEMPTS = 6  # in a row that bring nothing
FIRST_PAUSE_SECONDS = 1.0  # before the second attempt; it doubles
SILENCE_SECONDS = 60.0  # after so long without a byte the connection counts as broken
BLOCK_BYTES = 1 << 20
PASSING = (408, 425, 429)  # and 5xx: the same request may succeed later


@dataclass(frozen=True, slots=True)
class Checksum:
    """What a file's publisher says of its content."""

    algorithm: Literal["md5", "sha256"]
    digest: str


class _Unfinished(Exception):
    """An attempt ended early; the next may go on."""


def fetch(url: str, path: Path, checksum: Checksum | None) -> None:
    """Download `url` to `path`, going on from what an earlier call left.

    Raises:
        UserError: no web address, or the server has no such file.
        RunError: the server cannot be reached or breaks off again and again (what came stays,
            for the next call), or the file has another checksum (it is kept aside).
        OSError: the disk is full.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise UserError(f"{url} is no address to download from.", constraint="http:// or https://")
    part = path.with_name(path.name + PART)
    path.parent.mkdir(parents=True, exist_ok=True)
    say(f"downloading {url}")
    _download(url, part)
    if checksum is not None and (found := digest(part, checksum, path.name)) != checksum.digest:
        raise _other_file(part, path, url, checksum, found)
    path.with_name(path.name + VALIDATOR).unlink(missing_ok=True)
    part.replace(path)
    sync(path.parent)


def digest(file: Path, checksum: Checksum, name: str) -> str:
    """The file's checksum of that kind, as hex digits; `name` stands beside the progress."""
    told = hashlib.new(checksum.algorithm, usedforsecurity=False)
    with open(file, "rb") as opened, _megabytes(file.stat().st_size, f"checking {name}") as done:
        while block := opened.read(BLOCK_BYTES):
            told.update(block)
            done(opened.tell())
    return told.hexdigest()


def _other_file(part: Path, path: Path, url: str, checksum: Checksum, found: str) -> RunError:
    """What is told of a wrong checksum; the file is put aside, so that it is not taken again."""
    aside = path.with_name(path.name + REFUSED)
    part.replace(aside)
    path.with_name(path.name + VALIDATOR).unlink(missing_ok=True)
    return RunError(
        f"{path.name} from {url} is not the published file.",
        constraint=f"{checksum.algorithm} {checksum.digest}",
        found=f"{found}, {aside.stat().st_size} bytes",
        remedy="run again to download it anew; if it happens again, take another mirror, or get "
        f"the file by other means. What came is kept as {aside}; it can be deleted",
    )


def _download(url: str, part: Path) -> None:
    """Fill `part` until it is whole."""
    failures = 0
    while True:
        before = _size(part)
        try:
            _attempt(url, part)
            return
        except _Unfinished as error:
            failures = 1 if _size(part) > before else failures + 1
            if failures >= ATTEMPTS:
                raise RunError(
                    f"{url} could not be downloaded: {error}.",
                    found=f"{_size(part)} bytes so far",
                    remedy="run again: it goes on from there; or set another mirror",
                ) from error
            pause = FIRST_PAUSE_SECONDS * 2 ** (failures - 1)
            say(f"  {error}; trying again in {pause:g} s, from {_size(part)} bytes")
            time.sleep(pause)


def _attempt(url: str, part: Path) -> None:
    """One request; returns when the file is whole."""
    have = _size(part)
    try:
        response = urlopen(_request(url, part, have), timeout=SILENCE_SECONDS)
    except HTTPError as error:
        with error:
            _refused(error, url, part, have)
        return
    except (URLError, HTTPException, OSError) as error:
        raise _Unfinished(f"no answer ({getattr(error, 'reason', None) or error})") from error
    with response:
        if response.status == 206 and _first_byte(response) != have:
            part.unlink()
            raise _Unfinished("the server sent another part than was asked for")
        goes_on = response.status == 206
        start = have if goes_on else 0
        length = response.headers.get("Content-Length")
        total = start + int(length) if length and length.isdigit() else None
        if not goes_on:
            _remember(response, part)
        with open(part, "ab" if goes_on else "wb") as file:
            _copy(response, file, start, total, part.name.removesuffix(PART))
            file.flush()
            os.fsync(file.fileno())
    if total is not None and _size(part) != total:
        raise _Unfinished(f"the connection ended at {_size(part)} of {total} bytes")


def _request(url: str, part: Path, have: int) -> Request:
    request = Request(url, headers={"User-Agent": "vqasr", "Accept-Encoding": "identity"})
    if have:
        request.add_header("Range", f"bytes={have}-")
        validator = part.with_name(part.name.removesuffix(PART) + VALIDATOR)
        if validator.exists():
            request.add_header("If-Range", validator.read_text("utf-8"))
    return request


def _remember(response: HTTPResponse, part: Path) -> None:
    """Keep what tells this version of the file from another. A weak ETag does not."""
    validator = part.with_name(part.name.removesuffix(PART) + VALIDATOR)
    etag = response.headers.get("ETag", "")
    strong = etag if etag.startswith('"') else response.headers.get("Last-Modified")
    if strong:
        write_atomically(validator, strong)
    else:
        validator.unlink(missing_ok=True)


def _refused(error: HTTPError, url: str, part: Path, have: int) -> None:
    """Nothing to do where the part is whole already; else raise what the status means."""
    if error.code == 416:  # nothing lies behind what is there
        if error.headers.get("Content-Range", "").endswith(f"*/{have}"):
            return
        part.unlink(missing_ok=True)
        raise _Unfinished("the server's file is shorter than what is here")
    if error.code in PASSING or error.code >= 500:
        raise _Unfinished(f"the server says {error.code} {error.reason}")
    raise UserError(
        f"{url} cannot be downloaded: the server says {error.code} {error.reason}.",
        remedy="check the mirror's address, or download it by hand",
    ) from error


def _first_byte(response: HTTPResponse) -> int | None:
    """Of what a 206 answer holds: `Content-Range: bytes 100-199/200`."""
    told = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
    return int(told) if told.isdigit() else None


def _copy(
    response: HTTPResponse, file: IO[bytes], start: int, total: int | None, name: str
) -> None:
    """What the server sends, into `file`, until it ends."""
    with _megabytes(total or 0, name, start) as done:
        while True:
            try:
                block = response.read(BLOCK_BYTES)
            except (HTTPException, OSError) as error:
                raise _Unfinished(f"the connection broke ({error})") from error
            if not block:
                return
            file.write(block)  # an error here is the disk's, and goes up as it is
            done(file.tell())


@contextmanager
def _megabytes(total: int, what: str, start: int = 0) -> Iterator[Callable[[int], None]]:
    """A progress bar in MB; what it yields is told how many bytes are done in all."""
    with Progress(total // 1_000_000, what, "MB", start // 1_000_000) as progress:
        yield lambda count: progress.update(count // 1_000_000 - progress.done)


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0
