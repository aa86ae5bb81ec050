"""Where words lie on an alignment."""

from __future__ import annotations

import math

import numpy as np
import pytest

from stages.acoustic.hypothesis import Hypothesis, runs, word_times


def test_words_last_from_their_first_target_to_their_last() -> None:
    """Frames: blank, a a blank b, boundary boundary, blank, a, boundary."""
    path = (0, 2, 2, 0, 3, 1, 1, 0, 2, 1)
    probabilities = np.full((10, 4), 0.1)
    probabilities[np.arange(10), path] = [0.7, 0.5, 0.25, 0.5, 0.25, 0.7, 0.7, 0.7, 0.4, 0.7]
    found = Hypothesis(("ab", "a"), 0.0, None, 0.0, path, (5, 9))
    first, second = word_times(found, np.log(probabilities), {0, 1})
    assert (first.word, first.first, first.stop) == ("ab", 1, 5)
    assert (second.word, second.first, second.stop) == ("a", 8, 9)
    assert first.confidence == pytest.approx(math.prod([0.5, 0.25, 0.5, 0.25]) ** 0.25)
    assert second.confidence == pytest.approx(0.4)


def test_a_word_may_start_in_the_frame_after_another() -> None:
    found = Hypothesis(("x", "y"), 0.0, None, 0.0, (1, 1, 2, 2, 0), (1, 3))
    times = word_times(found, np.zeros((5, 3)), {0, None})
    assert [(t.first, t.stop) for t in times] == [(0, 2), (2, 4)]


def test_runs_are_told_with_their_frames() -> None:
    assert runs([]) == []
    assert runs([4, 4, 0, 4]) == [(4, 0, 2), (0, 2, 3), (4, 3, 4)]
