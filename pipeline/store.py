"""Artifacts on disk: lock, work in .partial, verify, stamp last."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import socket
import sys
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from pipeline import locks
from pipeline.audio import file_sha256
from pipeline.console import say
from pipeline.errors import RunError
from pipeline.manifest import AUDIO_ROOT, audio_place
from pipeline.provenance import sources_hash, versions
from pipeline.stage import Step

STAMP = "stamp.json"
PARTIAL = ".partial"
OLD = ".old"  # ends the name of an artifact while another takes its place
INPUTS = "inputs.json"  # in a .partial folder: what its content was made from
SCRATCH = "scratch/"  # in a .partial folder: what goes when the step is done
NOT_HASHED = {STAMP, AUDIO_ROOT, INPUTS}
HALF = ".tmp"  # ends the name of what a kill left half written
HALVES = (f"*{HALF}", f"{HALF}*")  # the other is safetensors' own


@dataclass(frozen=True)
class Stamp:
    """What an artifact says of itself; written last, so its being there means complete.

    Attributes:
        digest: of all outputs; equal digests are equal content.
        inputs: digest of what was read, by role.
        outputs: SHA-256 by file name.
    """

    signature: str
    title: str
    version: int
    settings: Mapping[str, Any]
    inputs: Mapping[str, str]
    input_signatures: Mapping[str, str]
    outputs: Mapping[str, str]
    digest: str
    sources: str
    versions: Mapping[str, str]
    seconds: float
    command: str
    host: str


class Store:
    """The folder of all artifacts, each named by its stage and signature."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, step: Step) -> Path:
        return self.root / step.artifact_name

    def partial(self, step: Step) -> Path:
        return self.root / f"{step.artifact_name}{PARTIAL}"

    def stamp(self, step: Step) -> Stamp | None:
        """The stamp of a finished artifact, None where there is none."""
        return read_stamp(self.path(step))

    @contextmanager
    def locked(self, step: Step) -> Iterator[None]:
        """Hold the step's lock; wait, naming the owner, while another process has it.

        The lock is an flock: the system lets go of it when its owner dies.
        """
        from filelock import FileLock, Timeout

        owner_path = self.root / f"{step.artifact_name}.owner"
        lock = FileLock(self._lock_path(step))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            self._say_waiting(step)
            lock.acquire()
        try:
            owner_path.write_text(f"process {os.getpid()} on {socket.gethostname()}", "utf-8")
            yield
        finally:
            with suppress(OSError):  # it only says who has the lock
                owner_path.unlink()
            lock.release()

    def shared(self, step: Step) -> AbstractContextManager[None]:
        """Hold the step's lock beside others that share it; nobody has it alone meanwhile."""
        return locks.shared(self._lock_path(step), lambda: self._say_waiting(step))

    def _lock_path(self, step: Step) -> Path:
        self.root.mkdir(parents=True, exist_ok=True)
        return self.root / f"{step.artifact_name}.lock"

    def _say_waiting(self, step: Step) -> None:
        owner = _owner(self.root / f"{step.artifact_name}.owner")
        say(f"{step.title}: {owner} is at work on it; waiting")

    @contextmanager
    def locked_if_free(self, artifact_name: str) -> Iterator[bool]:
        """Hold an artifact's lock if nobody does, without waiting; whether it is held."""
        from filelock import FileLock, Timeout

        lock = FileLock(self.root / f"{artifact_name}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    def is_open(self, step: Step, inputs: Mapping[str, str]) -> bool:
        """Whether there is a folder to work in, made for these inputs."""
        try:
            told = json.loads((self.partial(step) / INPUTS).read_text("utf-8"))
        except (FileNotFoundError, ValueError, RecursionError):  # not there, or damaged
            return False
        return bool(told == dict(inputs))

    def open_partial(self, step: Step, inputs: Mapping[str, str]) -> tuple[Path, bool]:
        """The folder to work in, and whether a killed run left work that still counts."""
        folder = self.partial(step)
        if self.is_open(step, inputs):
            return folder, True
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        write_atomically(folder / INPUTS, json.dumps(dict(inputs), sort_keys=True))
        return folder, False

    def finish(self, step: Step, inputs: Mapping[str, str], seconds: float) -> Stamp:
        """Stamp the .partial folder and give it its name; an older one of that name goes.

        Its checkpoints go when the stamp is there, so that a kill in between loses no work.
        """
        folder = self.partial(step)
        if step.audio_root is not None:
            with open(folder / AUDIO_ROOT, "w", encoding="utf-8") as file:
                file.writelines(audio_place(step.audio_root, step.audio_files))
        outputs = _made_durable(folder)
        stamp = Stamp(
            signature=step.signature,
            title=step.title,
            version=step.version,
            settings=step.settings,
            inputs=dict(inputs),
            input_signatures={role: s.signature for role, s in step.inputs.items()},
            outputs=outputs,
            digest=digest(outputs),
            sources=sources_hash(step),
            versions=versions(),
            seconds=round(seconds, 2),
            command=" ".join(sys.argv),
            host=f"{platform.machine()}, {os.cpu_count()} cores",
        )
        write_atomically(folder / STAMP, json.dumps(asdict(stamp), indent=1, ensure_ascii=False))
        self._publish(step)
        return stamp

    def adopt(self, step: Step, inputs: Mapping[str, str]) -> Stamp | None:
        """Finish what a kill left stamped but unnamed; None where there is no such thing."""
        folder = self.partial(step)
        stamp = read_stamp(folder)
        if stamp is None or stamp.inputs != inputs or hash_outputs(folder) != stamp.outputs:
            return None
        self._publish(step)
        self.tell_audio_root(step)  # the corpus may have moved since
        return stamp

    def _publish(self, step: Step) -> None:
        folder, final = self.partial(step), self.path(step)
        shutil.rmtree(folder / SCRATCH, ignore_errors=True)
        (folder / INPUTS).unlink(missing_ok=True)
        old = self.root / f"{step.artifact_name}{OLD}"
        if final.exists():
            shutil.rmtree(old, ignore_errors=True)
            final.rename(old)
        folder.rename(final)
        shutil.rmtree(old, ignore_errors=True)  # a kill may have left it before
        sync(self.root)

    def tell_audio_root(self, step: Step) -> None:
        """Let a finished artifact know where its audio lies now: that is no part of it."""
        told = self.path(step) / AUDIO_ROOT
        if step.audio_root is None or not told.exists():
            return
        known = getattr(step.audio_files, "place_sha256", None)
        if known is not None and file_sha256(told) == known:
            return
        with open(told, encoding="utf-8") as file:
            expected = audio_place(step.audio_root, step.audio_files)
            is_told = all(one == other for one, other in zip_longest(file, expected))
        if not is_told:
            write_atomically(told, audio_place(step.audio_root, step.audio_files))

    def verify(self, step: Step, rebuild: str, names: Collection[str] | None = None) -> str:
        """Hash a finished artifact, or those of its files named, and return its digest.

        Raises:
            RunError: it is not what its stamp says; `rebuild` is the command that makes it anew.
        """
        stamp, folder = self.stamp(step), self.path(step)
        if stamp is None:
            raise RunError(f"{step.title} is not there.", remedy=rebuild)
        verify_files(folder, stamp, rebuild, names)
        return stamp.digest


def verify_files(
    folder: Path, stamp: Stamp, rebuild: str, names: Collection[str] | None = None
) -> None:
    """Hash the files of an artifact, or those named.

    Raises:
        RunError: they are not what its stamp says; `rebuild` is the command that makes it anew.
    """
    if names is None:
        there = hash_outputs(folder)
        names = set(there) | set(stamp.outputs)
    else:
        there = {n: file_sha256(folder / n) for n in names if (folder / n).is_file()}
    for name in sorted(names):
        if there.get(name) != stamp.outputs.get(name):
            state = "is missing" if name not in there else "is not what was written"
            raise RunError(f"{folder / name} {state} (its checksum differs).", remedy=rebuild)


def _owner(path: Path) -> str:
    """Who has a lock; that process may let go, and remove the file, at any moment."""
    with suppress(FileNotFoundError):
        return path.read_text("utf-8") or "another process"
    return "another process"


def read_stamp(folder: Path) -> Stamp | None:
    """The stamp in `folder`; None where there is none, or a damaged one."""
    try:
        return Stamp(**json.loads((folder / STAMP).read_text("utf-8")))
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError, RecursionError):
        return None


def hash_outputs(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of an artifact, by name relative to it; not of a step's scratch."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix != HALF)
    names = {p.relative_to(folder).as_posix(): p for p in files}
    hashed = {n: p for n, p in names.items() if n not in NOT_HASHED and not n.startswith(SCRATCH)}
    return {name: file_sha256(p) for name, p in hashed.items()}


def _made_durable(folder: Path) -> dict[str, str]:
    """The hashes of a finished step's outputs, which a power cut takes no more.

    What a kill left half written goes. A stamp that outlived what it speaks of would be a lie.
    """
    for half in (path for pattern in HALVES for path in folder.rglob(pattern)):
        if not half.relative_to(folder).as_posix().startswith(SCRATCH):
            half.unlink()
    outputs = hash_outputs(folder)
    for name in outputs:
        sync(folder / name)
    for place in sorted({(folder / name).parent for name in outputs}):
        sync(place)
    return outputs


def digest(outputs: Mapping[str, str]) -> str:
    """One hash for all outputs."""
    return hashlib.sha256(json.dumps(dict(outputs), sort_keys=True).encode()).hexdigest()[:16]


def write_atomically(path: Path, content: str | bytes | Iterable[str | bytes]) -> None:
    """Write so that the old or the new file is there, never half of one.

    Several processes, on several machines, may write the same file at once: the last one's
    content stays.

    Raises:
        OSError: it cannot be written; the error tells the file.
    """
    beside = path.with_name(f"{path.name}.{uuid.uuid4().hex}{HALF}")
    try:
        with open(beside, "wb") as file:
            for part in (content,) if isinstance(content, str | bytes) else content:
                file.write(part.encode() if isinstance(part, str) else part)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        error.filename = str(path)
        raise
    finally:
        beside.unlink(missing_ok=True)  # still there only after an error
    sync(path.parent)


def sync(path: Path) -> None:
    """Make a file, or the renames in a folder, survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
