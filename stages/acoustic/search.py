"""Decoding on all cores that the run may use: work in parts, shared among processes.

flashlight's search holds Python's lock, so that threads gain nothing (two threads: as long as
one after the other, measured). Which process does which part changes no result.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline import cores
from pipeline.errors import RunError
from pipeline.recipe import DecodeSettings
from stages.acoustic.decoding import Decoder, LogProbsOnDisk, Weights, build
from stages.acoustic.hypothesis import Hypothesis, TimedWord, word_times

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PARALLEL_FROM_SECONDS = 10.0  # less work is not worth starting processes
UTTERANCES = 16  # of a part: some tenths of a second

Part = TypeVar("Part")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Job:
    """What a process needs to decode: the decoder, and the cache of log-probabilities of a split.

    Attributes:
        log_probs: None where parts bring their own.
    """

    decoder: str
    folder_lm: Path
    settings: DecodeSettings
    log_probs: Path | None = None


class Desk:
    """Where parts are worked on: a decoder, opened once per process, and log-probabilities.

    Without `log_probs` they are read from the job's file utterance by utterance.
    """

    def __init__(
        self, job: Job, log_probs: Mapping[str, NDArray[np.float32]] | None = None
    ) -> None:
        self.decoder: Decoder = build(job.decoder, job.folder_lm, job.settings)
        if log_probs is None:
            log_probs = {} if job.log_probs is None else LogProbsOnDisk(job.log_probs)
        self.log_probs = log_probs


def allowed() -> int:
    """How many processes the run may use at once: what machine.threads or OMP_NUM_THREADS say."""
    import torch

    return min(torch.get_num_threads(), cores.usable())


class Search:
    """Calls a function on parts of the work, here or in `workers` processes.

    A context manager: the processes, if any were worth starting, end with it. They also end when
    this process is killed.
    """

    def __init__(
        self, job: Job, log_probs: Mapping[str, NDArray[np.float32]], workers: int
    ) -> None:
        self.job, self.workers = job, workers
        self.desk = Desk(job, log_probs)
        self.pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Search:
        return self

    def __exit__(self, *_: object) -> None:
        if self.pool is not None:
            self.pool.shutdown(wait=True, cancel_futures=True)

    def map(
        self,
        work: Callable[[Desk, Part], Result],
        parts: Sequence[Part],
        told: Callable[[int], object],
    ) -> list[Result]:
        """`work` of each part, in their order; `told` hears of each one done.

        The first are done here, which tells how long the rest will take.

        Raises:
            RunError: a process died, or could not open what it decodes with.
        """
        started = time.monotonic()
        done: list[Result] = []
        for part in parts:
            taken, left = time.monotonic() - started, len(parts) - len(done)
            enough = done and taken / len(done) * left >= PARALLEL_FROM_SECONDS
            if self.workers > 1 and left > 1 and (enough or (self.pool and done)):
                break
            done.append(work(self.desk, part))
            told(1)
        return done + self._share(work, parts[len(done) :], told)

    def _share(
        self,
        work: Callable[[Desk, Part], Result],
        parts: Sequence[Part],
        told: Callable[[int], object],
    ) -> list[Result]:
        if not parts:
            return []
        if self.pool is None:
            self.pool = processes(self.job, self.workers)
        with errors_in_words(self.job):
            futures = [submit(self.pool, work, part) for part in parts]
            for future in as_completed(futures):
                future.result()
                told(1)
            return [future.result() for future in futures]


def processes(job: Job, workers: int) -> ProcessPoolExecutor:
    """So many processes, each with a desk for the job. They end when this process is killed."""
    # Not forked: torch's threads would not survive it.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, context, _begin, (job,))


def submit(
    pool: ProcessPoolExecutor, work: Callable[[Desk, Part], Result], part: Part
) -> Future[Result]:
    """Hand a part to one of `processes`."""
    return pool.submit(_work, work, part)


@contextmanager
def errors_in_words(job: Job) -> Iterator[None]:
    """Where results of `submit` are asked for.

    Raises:
        RunError: a process died, or could not open what it decodes with.
    """
    try:
        yield
    except _StartError as error:
        raise RunError(
            f"A process could not start to decode with {job.decoder}.",
            found=str(error),
            remedy="run again; if it fails again, run from stage 4 with --force",
        ) from error
    except BrokenProcessPool as error:
        raise RunError(
            f"Decoding with {job.decoder} stopped early.",
            found="a process died (out of memory?)",
            remedy="run again; a smaller decode.beam needs less memory",
        ) from error


class _StartError(Exception):
    """Why a worker process has no desk, in words: not every exception goes between processes."""


_desk: Desk | None = None  # of a worker process
_failure = ""  # why it has none


def _begin(job: Job) -> None:
    """A worker process at its start.

    What goes wrong is kept for `_work` to raise: raised here, it would look like a process that
    died.
    """
    global _desk, _failure
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it, and ends us
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        _desk = Desk(job)
    except Exception as error:
        _failure = f"{type(error).__name__}: {error}"


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(work: Callable[[Desk, Any], Any], part: Any) -> Any:
    if _desk is None:
        raise _StartError(_failure)
    return work(_desk, part)


@dataclass(frozen=True, slots=True)
class Utterances:
    """A part: some utterances, to be decoded with these weights."""

    ids: tuple[str, ...]
    weights: Weights
    nbest: int = 1


@dataclass(frozen=True, slots=True)
class Decoded:
    """What was found in one utterance: the best first, and where the words of the best lie."""

    nbest: tuple[Hypothesis, ...]
    times: tuple[TimedWord, ...]

    @property
    def text(self) -> str:
        return " ".join(self.nbest[0].words)


def in_parts(ids: Sequence[str]) -> list[tuple[str, ...]]:
    """Utterances as they are handed out."""
    return [tuple(ids[n : n + UTTERANCES]) for n in range(0, len(ids), UTTERANCES)]


def decode(desk: Desk, part: Utterances) -> list[Decoded]:
    """The hypotheses of each utterance of the part. Only the times are kept of their paths."""
    return [decode_one(desk.decoder, desk.log_probs[i], part.weights, part.nbest) for i in part.ids]


def decode_one(
    decoder: Decoder, log_probs_TV: NDArray[np.float32], weights: Weights, nbest: int
) -> Decoded:
    """The hypotheses of one utterance."""
    targets = decoder.targets
    found = decoder.nbest(log_probs_TV, weights, nbest)
    times = word_times(found[0], log_probs_TV, {targets.blank, targets.boundary})
    bare = tuple(replace(hypothesis, path=(), ends=()) for hypothesis in found)
    return Decoded(bare, times)


def decode_split(
    search: Search, weights: Weights, nbest: int, told: Callable[[int], object]
) -> dict[str, Decoded]:
    """Every utterance of the split, by id; `told` hears of each part done."""
    ids = sorted(search.desk.log_probs)
    parts = [Utterances(some, weights, nbest) for some in in_parts(ids)]
    found = [decoded for part in search.map(decode, parts, told) for decoded in part]
    return dict(zip(ids, found, strict=True))
