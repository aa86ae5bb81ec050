"""Utterances searched as they come, on all cores, while the next ones are still being computed."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stages.acoustic import search
from stages.acoustic.search import Decoded, Desk, Job, decode_one

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from stages.acoustic.decoding import Decoder, Weights

WAITING_PER_WORKER = 4  # so that none is idle while a batch is computed


@dataclass(frozen=True, slots=True)
class Heard:
    """Log-probabilities of an utterance, to be searched with these weights."""

    log_probs_TV: NDArray[np.float32]
    weights: Weights


def find(desk: Desk, heard: Heard) -> Decoded:
    """The best hypothesis."""
    return decode_one(desk.decoder, heard.log_probs_TV, heard.weights, 1)


class SearchAhead:
    """Searches here at first; in processes when that has taken a while and there are more cores.

    A context manager: the processes end with it. Which process does what changes no result.

    Args:
        job: what processes open; `decoder` is the same, opened here.
        workers: processes at once; 1: none beside this one.
    """

    def __init__(self, job: Job, decoder: Decoder, weights: Weights, workers: int) -> None:
        self._job, self._decoder, self._weights = job, decoder, weights
        self._workers = workers
        self._spent_seconds = 0.0
        self.pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> SearchAhead:
        return self

    def __exit__(self, *_: object) -> None:
        if self.pool is not None:
            self.pool.shutdown(wait=True, cancel_futures=True)

    @property
    def waiting(self) -> int:
        """How many utterances to begin before the result of the first is asked for."""
        return 0 if self.pool is None else WAITING_PER_WORKER * self._workers

    def begin(self, log_probs_TV: NDArray[np.float32]) -> Callable[[], Decoded]:
        """Begin an utterance (T, V); what is returned gives its result, and waits for it.

        Raises:
            pipeline.errors.RunError: when the result is asked for, a process has died, or could not
                open what it decodes with.
        """
        enough = self._spent_seconds >= search.PARALLEL_FROM_SECONDS
        if self.pool is None and self._workers > 1 and enough:
            self.pool = search.processes(self._job, self._workers)
        if self.pool is None:
            started = time.monotonic()
            decoded = decode_one(self._decoder, log_probs_TV, self._weights, 1)
            self._spent_seconds += time.monotonic() - started
            return lambda: decoded
        with search.errors_in_words(self._job):
            future = search.submit(self.pool, find, Heard(log_probs_TV, self._weights))

        def result() -> Decoded:
            with search.errors_in_words(self._job):
                return future.result()

        return result
