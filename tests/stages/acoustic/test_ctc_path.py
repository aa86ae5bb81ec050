"""The best path of given targets, against all paths."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from stages.acoustic.ctc_path import best_path
from stages.acoustic.decoders.greedy import collapse


@pytest.mark.parametrize("ids", [[], [1], [1, 2], [2, 2], [1, 2, 2], [2, 1, 2], [1, 1, 1]])
def test_no_path_of_these_targets_is_likelier(ids: list[int]) -> None:
    draw = np.random.default_rng(len(ids))
    for _ in range(5):
        log_probs_TV = draw.normal(size=(6, 3)) * 2
        score, path = best_path(log_probs_TV, ids, 0) or (0.0, [])
        paths = [p for p in itertools.product(range(3), repeat=6) if collapse(list(p), 0) == ids]
        scores = {p: sum(log_probs_TV[range(6), p]) for p in paths}
        assert tuple(path) == max(scores, key=lambda p: scores[p])
        assert score == pytest.approx(max(scores.values()))


def test_too_few_frames_have_no_path() -> None:
    assert best_path(np.zeros((2, 3)), [1, 1], 0) is None
    assert best_path(np.zeros((2, 3)), [1, 2], 0) == (0.0, [1, 2])
