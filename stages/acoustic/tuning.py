"""The two weights of a decoder, tuned on dev over the recipe's grid.

Every point of the grid is tried, on log-probabilities read from their cache, so that a trial
costs a search and no network. Long work is shared among processes (the search holds Python's
lock, so that threads gain nothing); that changes no result.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from multiprocessing.connection import Connection, wait
from pathlib import Path

from pipeline import cores
from pipeline.errors import RunError
from pipeline.recipe import DecodeSettings
from stages.acoustic.decoding import build, decode_all, read_log_probs
from stages.acoustic.scoring import count_words

PARALLEL_FROM_SECONDS = 10.0  # less work is not worth starting processes


@dataclass(frozen=True, slots=True)
class Trial:
    """One point of the grid and its word errors on dev."""

    lm_weight: float
    word_score: float
    wer: float
    errors: int


@dataclass(frozen=True)
class Job:
    """What a process needs to try points of the grid."""

    decoder: str
    folder_lm: Path
    settings: DecodeSettings
    log_probs: Path
    references: Mapping[str, str]
    points: Sequence[tuple[float, float]]


def grid(settings: DecodeSettings) -> list[tuple[float, float]]:
    """All pairs of (lm_weight, word_score), each once, in the recipe's order."""
    return list(dict.fromkeys(product(settings.lm_weights, settings.word_scores)))


def best(trials: Sequence[Trial]) -> Trial:
    """The trial with the fewest errors; among equals the one nearest to no weights at all."""

    def order(trial: Trial) -> tuple[float, ...]:
        lm_weight, word_score = trial.lm_weight, trial.word_score
        return trial.errors, abs(lm_weight), abs(word_score), lm_weight, word_score

    return min(trials, key=order)


def tune(job: Job, told: Callable[[int], None]) -> list[Trial]:
    """A trial for each point of the job, in its order; `told` hears of each one done.

    Raises:
        RunError: a process died.
    """
    started = time.monotonic()
    tries = _tries(job)
    trials = [next(tries)]
    told(1)
    left = job.points[1:]
    processes = min(cores.usable(), len(left))
    if processes < 2 or (time.monotonic() - started) * len(left) < PARALLEL_FROM_SECONDS:
        for trial in tries:
            trials.append(trial)
            told(1)
    else:
        trials += _share(replace(job, points=left), processes, told)
    place = {point: i for i, point in enumerate(job.points)}
    return sorted(trials, key=lambda t: place[t.lm_weight, t.word_score])


def _tries(job: Job) -> Iterator[Trial]:
    decoder = build(job.decoder, job.folder_lm, job.settings)
    log_probs = read_log_probs(job.log_probs)
    for lm_weight, word_score in job.points:
        texts = decode_all(decoder, log_probs, (lm_weight, word_score))
        counts = count_words(job.references, texts)
        yield Trial(lm_weight, word_score, counts.rate, counts.errors)


def _work(job: Job, results: Connection) -> None:
    for trial in _tries(job):
        results.send(trial)
    results.close()


def _share(job: Job, processes: int, told: Callable[[int], None]) -> list[Trial]:
    """Try the points in `processes` fresh processes, which end with their work by themselves."""
    context = multiprocessing.get_context("spawn")
    workers, pipes, trials = [], [], list[Trial]()
    try:
        for first in range(processes):
            receiving, sending = context.Pipe(duplex=False)
            part = replace(job, points=job.points[first::processes])
            worker = context.Process(target=_work, args=(part, sending), daemon=True)
            worker.start()
            sending.close()  # so that the end of the process ends the pipe
            workers.append(worker)
            pipes.append(receiving)
        while pipes:
            ready = wait(pipes)
            for pipe in [p for p in pipes if p in ready]:
                try:
                    trials.append(pipe.recv())
                    told(1)
                except EOFError:
                    pipes.remove(pipe)
    finally:
        for worker in workers:
            worker.terminate()
            worker.join()
    if len(trials) != len(job.points):
        raise RunError(
            f"Decoding dev with {job.decoder} stopped early.",
            constraint=f"{len(job.points)} trials",
            found=f"{len(trials)}; a process died (out of memory?)",
            remedy="run again; a smaller decode.beam needs less memory",
        )
    return trials
