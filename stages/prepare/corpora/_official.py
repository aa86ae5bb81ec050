"""The files of LibriSpeech and Libri-light as their publishers offer them, and bringing them here.

An archive is downloaded to `downloads/` in the corpus' folder, unpacked beside its place, which may
be on another disk, written to that disk and only then renamed: a folder that we made is complete,
after a kill and after a power cut. What these leave, the next call goes on from or does anew.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline.console import say
from pipeline.errors import RunError, UserError
from pipeline.store import sync
from stages.prepare.download import Checksum, digest, fetch
from stages.prepare.unpack import unpack

OPENSLR = "https://www.openslr.org/resources"
LIBRILIGHT = "https://dl.fbaipublicfiles.com/librilight/data"
DOWNLOADS = "downloads"  # in the corpus' folder: what is on its way
UNPACKED = ".unpacked"  # beside the place: what is being unpacked


@dataclass(frozen=True, slots=True)
class Official:
    """A file of a publisher.

    Attributes:
        name: of the file.
        resource: its folder on the server, such as `12`; may be empty.
        gigabytes: its size, roughly, as the publisher tells it.
        holds: the folder that it holds, where it is an archive.
        utterances: in that folder, as published; 0 where nobody tells.
    """

    name: str
    resource: str
    gigabytes: float
    checksum: Checksum
    holds: str = ""
    utterances: int = 0


def _speech(name: str, gigabytes: float, utterances: int, md5: str) -> Official:
    checksum, folder = Checksum("md5", md5), f"LibriSpeech/{name}"
    return Official(f"{name}.tar.gz", "12", gigabytes, checksum, folder, utterances)


# https://www.openslr.org/12 with its md5sum.txt; utterances are the lines of the transcripts.
SPEECH = {
    "train-clean-100": _speech("train-clean-100", 6.3, 28_539, "2a93770f6d5c6c964bc36631d331a522"),
    "train-clean-360": _speech("train-clean-360", 23, 104_014, "c0e676e450a7ff2f54aeade5171606fa"),
    "train-other-500": _speech("train-other-500", 30, 148_688, "d1a0fd59409feb2c614ce4d30c387708"),
    "dev-clean": _speech("dev-clean", 0.34, 2703, "42e2234ba48799c1f50f24a7926300a1"),
    "dev-other": _speech("dev-other", 0.31, 2864, "c8d0bcc9cca99d4f8b62fcc847357931"),
    "test-clean": _speech("test-clean", 0.35, 2620, "32fa31d27d2e1cad72775fee3f4849a9"),
    "test-other": _speech("test-other", 0.33, 2939, "fb5a50374b501bb3bac4815ee91d3135"),
}
# Libri-light's limited supervision. Its publisher tells no checksum: this one is torchaudio's
# (torchaudio/datasets/librilight_limited.py).
LIMITED = Official(
    "librispeech_finetuning.tgz",
    "",
    0.6,
    Checksum("sha256", "5d1efdc777b548194d7e09ba89126e2188026df9fd57aa57eb14408d2b2342af"),
    "librispeech_finetuning",
)
# https://www.openslr.org/11, which has no md5sum.txt. The sum of the text is the same in several
# public programs that download it; those of the others stand in one (sdrobert/pydrobert-pytorch's
# LibriSpeech recipe), whose sums of resource 12 are the published ones.
LANGUAGE = {
    official.name: official
    for official in (
        Official(
            "librispeech-lm-norm.txt.gz",
            "11",
            1.5,
            Checksum("md5", "c83c64c726a1aedfe65f80aa311de402"),
        ),
        Official("4-gram.arpa.gz", "11", 1.3, Checksum("md5", "6abdcd5b055bd482e4f9defe91d40408")),
        Official(
            "librispeech-lexicon.txt",
            "11",
            0.006,
            Checksum("md5", "28f72663f6bfed7cd346283c064c315b"),
        ),
        Official(
            "librispeech-vocab.txt",
            "11",
            0.002,
            Checksum("md5", "bf3cc7a50112831ed8b0afa40cae96a5"),
        ),
    )
}


def bring(root: Path, wanted: Sequence[tuple[Official, Path, str]]) -> None:
    """Download and unpack what is not there; archives that lie in `root` are not downloaded.

    Args:
        root: the corpus' folder; made if need be.
        wanted: files, each with its place (what it holds, or itself) and the server's address.

    Raises:
        UserError, RunError: see `download.fetch` and `unpack.unpack`; or an archive holds
            something else than it should.
    """
    missing = [(official, url) for official, place, url in wanted if not place.exists()]
    if not missing:
        return
    with _alone(root):
        for official, place, url in wanted:
            if not place.exists():  # another process may have brought it meanwhile
                _bring(root, official, place, _address(official, url))


def _address(official: Official, server: str) -> str:
    return "/".join(p for p in (server.rstrip("/"), official.resource, official.name) if p)


def _bring(root: Path, official: Official, place: Path, url: str) -> None:
    """One file. An archive that we downloaded goes when it is unpacked; one given stays."""
    ours, given = root / DOWNLOADS / official.name, root / official.name
    if not official.holds:
        fetch(url, ours, official.checksum)
        ours.replace(place)
        sync(place.parent)
        return
    if given.is_file():
        _check_given(given, official)
        _unpack(given, official, place)
        return
    if not ours.is_file():  # it has its name when its checksum is right
        fetch(url, ours, official.checksum)
    _unpack(ours, official, place)
    ours.unlink()


def _check_given(archive: Path, official: Official) -> None:
    found = digest(archive, official.checksum, archive.name)
    if found != official.checksum.digest:
        raise RunError(
            f"{archive} is not the published archive, or not all of it.",
            constraint=f"{official.checksum.algorithm} {official.checksum.digest}",
            found=f"{found}, {archive.stat().st_size} bytes",
            remedy="move it away, and run again to download it",
        )


def _unpack(archive: Path, official: Official, place: Path) -> None:
    """Unpack beside the place, and name it last: what has its name is complete."""
    _make(place.parent)
    folder = place.parent / (official.name + UNPACKED)
    shutil.rmtree(folder, ignore_errors=True)  # of a kill
    try:
        unpack(archive, folder)
        held = folder / official.holds
        if not held.is_dir():
            raise UserError(
                f"{archive} does not hold {official.holds}.",
                found=", ".join(sorted(p.name for p in folder.iterdir())[:5]) or "nothing",
                remedy="take the archive from its publisher",
            )
    except Exception:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    for beside in held.parent.iterdir() if held.parent != folder else ():
        if beside.is_file() and not (place.parent / beside.name).exists():  # README.TXT, ...
            beside.replace(place.parent / beside.name)
    held.rename(place)
    sync(place.parent)
    shutil.rmtree(folder)
    say(f"  {place} is complete")


def _make(folder: Path) -> None:
    """Make a folder and those above it, to be there after a power cut."""
    missing = [f for f in (folder, *folder.parents) if not f.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"The folder {folder} cannot be made: {error.strerror}.",
            remedy="set corpus.root and corpus.librilight to folders that may be written",
        ) from error
    for made in missing:
        sync(made.parent)


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Only one process downloads into a corpus' folder; the system releases the lock of a kill."""
    from filelock import FileLock, Timeout

    folder = root / DOWNLOADS
    _make(folder)
    lock = FileLock(folder / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say(f"another process downloads into {root}; waiting")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
