"""Archives of a corpus, unpacked without trust: plain files and folders, inside the folder alone.

Links, devices, absolute names and names with `..` are refused by name before anything of them is
written; permissions and owners that an archive tells are not taken over.
"""

from __future__ import annotations

import gzip
import os
import shutil
import tarfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO

from pipeline.console import Progress
from pipeline.errors import RunError, UserError
from pipeline.store import sync

GZIP = b"\x1f\x8b"
FORGET_EVERY = 1000  # members: tarfile would keep them all
DAMAGE = (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error)


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a tar file, with gzip or without, into the new folder `folder`.

    All of it is on the disk at the end: a power cut then takes nothing of it.

    Raises:
        UserError: a member is no plain file or folder, or would lie outside.
        RunError: the archive is damaged or ends early.
        FileExistsError: the folder is there.
        OSError: the disk is full.
    """
    folder.mkdir(parents=True)
    total = archive.stat().st_size // 1_000_000
    with (
        open(archive, "rb") as file,
        Progress(total, f"unpacking {archive.name}", "MB") as progress,
    ):
        stream = _stream(file)
        try:
            with tarfile.open(fileobj=stream, mode="r|") as members:
                count = 0
                while (member := members.next()) is not None:
                    _write(members, member, folder, archive)
                    progress.update(file.tell() // 1_000_000 - progress.done)
                    count += 1
                    if count % FORGET_EVERY == 0:
                        members.members = []  # type: ignore[attr-defined]
            while stream.read(1 << 20):  # gzip's own checksum stands at the very end
                pass
        except DAMAGE as error:
            raise RunError(
                f"{archive} is damaged: {error}.", remedy="delete it, and run again"
            ) from error
    _sync(folder, f"writing {archive.name} to disk")


def _sync(folder: Path, what: str) -> None:
    """Let all that lies in a folder, and the folder, survive a power cut."""
    total = sum(len(files) + 1 for _, _, files in os.walk(folder))
    with Progress(total, what, "files") as progress:
        for place, _, files in os.walk(folder, topdown=False):
            for name in files:
                sync(Path(place, name))
            sync(Path(place))
            progress.update(len(files) + 1)


def _stream(file: IO[bytes]) -> IO[bytes]:
    compressed = file.read(len(GZIP)) == GZIP
    file.seek(0)
    # tarfile's own gzip would take a file that ends early for a whole one.
    return gzip.GzipFile(fileobj=file) if compressed else file  # type: ignore[return-value]


def _write(members: tarfile.TarFile, member: tarfile.TarInfo, folder: Path, archive: Path) -> None:
    """One member; the folder is new and holds what we wrote, so no part of a path is a link."""
    path = folder / _inside(member, archive)
    try:
        if member.isdir():
            path.mkdir(parents=True, exist_ok=True)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        content = members.extractfile(member)
        assert content is not None  # a plain file
        with content, open(path, "xb") as out:
            shutil.copyfileobj(content, out)
    except (FileExistsError, NotADirectoryError) as error:
        raise _hostile(archive, member, "it stands twice, or in a file") from error
    if path.stat().st_size != member.size:
        raise RunError(f"{archive} is damaged: {member.name} is cut.", remedy="download it anew")


def _inside(member: tarfile.TarInfo, archive: Path) -> PurePosixPath:
    """The member's path below the folder."""
    path = PurePosixPath(member.name)
    if member.issym() or member.islnk():
        raise _hostile(archive, member, f"it is a link to {member.linkname!r}")
    if not (member.isfile() or member.isdir()):
        raise _hostile(archive, member, "it is no plain file")
    if path.is_absolute() or ".." in path.parts or "\0" in member.name:
        raise _hostile(archive, member, "it would lie outside of the folder")
    return path


def _hostile(archive: Path, member: tarfile.TarInfo, why: str) -> UserError:
    return UserError(
        f"{archive} is refused for its member {member.name!r}: {why}.",
        constraint="plain files and folders, each once, inside the folder",
        remedy="take the archive from its publisher",
    )
