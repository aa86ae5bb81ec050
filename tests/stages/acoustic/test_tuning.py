"""The weights' choice; that processes change nothing is shown in test_search."""

from __future__ import annotations

import pytest

from pipeline.recipe import DecodeSettings
from stages.acoustic import tuning
from stages.acoustic.tuning import Trial


@pytest.mark.parametrize(
    ("trials", "chosen"),
    [
        ([(2, 1, 5), (1, 2, 4), (0, 0, 6)], (1, 2)),
        ([(2, 0, 4), (1, 2, 4), (1, -1, 4)], (1, -1)),
        ([(1, 1, 4), (1, -1, 4)], (1, -1)),
        ([(3, 0, 4), (0, 2, 4)], (0, 2)),
    ],
)
def test_ties_go_to_the_smaller_weights(
    trials: list[tuple[float, float, int]], chosen: tuple[float, float]
) -> None:
    for order in (trials, trials[::-1]):
        found = tuning.best([Trial(lm, word, errors / 10, errors) for lm, word, errors in order])
        assert (found.lm_weight, found.word_score) == chosen


@pytest.mark.parametrize(
    ("best", "edges"),
    [
        ((1.0, 1.0), []),
        ((2.0, 1.0), ["lm_weights"]),
        ((0.0, 2.0), ["word_scores"]),  # no weight lies below 0
        ((2.0, 0.0), ["lm_weights", "word_scores"]),  # but word scores do
    ],
)
def test_a_best_point_at_the_edge_of_the_grid_is_told(
    best: tuple[float, float], edges: list[str]
) -> None:
    settings = DecodeSettings(lm_weights=[0.0, 1.0, 2.0], word_scores=[2.0, 0.0, 1.0])
    assert tuning.at_edge(Trial(*best, 0.5, 5), settings) == edges


def test_a_grid_of_one_value_has_no_edge() -> None:
    settings = DecodeSettings(lm_weights=[1.0], word_scores=[0.5])
    assert tuning.at_edge(Trial(1.0, 0.5, 0.5, 5), settings) == []
