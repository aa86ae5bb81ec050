"""The best CTC path of given targets (Viterbi). Legend: T frames, V targets, N states."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def best_path(
    log_probs_TV: NDArray[Any], ids: Sequence[int], blank: int
) -> tuple[float, list[int]] | None:
    """The likeliest path that collapses to `ids`, and the sum of its log-probabilities.

    States are the targets with a blank before, between and after them (Graves et al. 2006, section
    4.1, with max in place of sum).

    Returns:
        None where the frames are too few for the targets.
    """
    states = np.full(2 * len(ids) + 1, blank)
    states[1::2] = ids
    jumps_N = np.zeros(len(states), bool)  # over the blank before it, from another target
    jumps_N[3::2] = states[3::2] != states[1:-2:2]
    frames = len(log_probs_TV)
    score_N = np.full(len(states), -np.inf)
    came_TN = np.zeros((frames, len(states)), np.int64)  # how many states back
    for t in range(frames):
        if t == 0:
            score_N[:2] = 0.0
        else:
            choices = np.full((3, len(states)), -np.inf)
            choices[0] = score_N
            choices[1, 1:] = score_N[:-1]
            choices[2, 2:] = np.where(jumps_N[2:], score_N[:-2], -np.inf)
            came_TN[t] = choices.argmax(axis=0)
            score_N = choices.max(axis=0)
        score_N = score_N + log_probs_TV[t, states]
    state = int(np.argmax(score_N[-2:])) + max(len(states) - 2, 0)
    score = float(score_N[state])
    if not np.isfinite(score):
        return None
    path = []
    for t in range(frames - 1, -1, -1):
        path.append(int(states[state]))
        state -= int(came_TN[t, state])
    return score, path[::-1]
