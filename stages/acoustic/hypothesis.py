"""What a decoder found in one utterance: words, their scores, and where in it they lie.

Legend: T frames, V targets.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """Words that an utterance may hold, on their best alignment.

    Attributes:
        acoustic: sum of the log-probabilities on the alignment, natural logarithm.
        lm: log10 probability of the words with the end of the sentence; None without a model.
        total: what the decoder ranks by.
        path: the target of each frame.
        ends: for each word the frame by which all its targets have been on the path.
    """

    words: tuple[str, ...]
    acoustic: float
    lm: float | None
    total: float
    path: tuple[int, ...] = ()
    ends: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class TimedWord:
    """A word and the frames in which its targets stand.

    CTC tells a target in a frame or two and is silent about the rest, so that a word begins
    late and ends early by what its first and last sound last.

    Attributes:
        first, stop: the frame of its first target, and the one after its last.
        confidence: geometric mean over these frames of the acoustic model's probability for the
            alignment's target. Neither calibrated nor touched by the language model.
    """

    word: str
    first: int
    stop: int
    confidence: float


def word_times(
    found: Hypothesis, log_probs_TV: NDArray[Any], silent: Collection[int | None]
) -> tuple[TimedWord, ...]:
    """The words of a hypothesis with their frames.

    Args:
        silent: the targets that belong to no word: the blank, and the boundary if there is one.
    """
    timed = []
    begin = 0
    for word, end in zip(found.words, found.ends, strict=True):
        frames = [t for t in range(begin, end + 1) if found.path[t] not in silent]
        first, stop = frames[0], frames[-1] + 1
        logs = [float(log_probs_TV[t, found.path[t]]) for t in range(first, stop)]
        timed.append(TimedWord(word, first, stop, math.exp(sum(logs) / len(logs))))
        begin = end + 1
    return tuple(timed)


def runs(path: Sequence[int]) -> list[tuple[int, int, int]]:
    """The runs of equal targets on a path: (target, first frame, frame after the last)."""
    bounds = [t for t in range(len(path)) if t == 0 or path[t] != path[t - 1]]
    return [(path[t], t, after) for t, after in pairwise([*bounds, len(path)])]
