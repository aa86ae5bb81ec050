"""The weights' choice; that processes change nothing is shown in test_search."""

from __future__ import annotations

import pytest

from pipeline.recipe import DecodeSettings
from stages.acoustic import tuning
from stages.acoustic.decoding import Weights
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
        found = tuning.best(
            [Trial(Weights(lm, word), errors / 10, errors) for lm, word, errors in order]
        )
        assert found.weights == (*chosen, None)


def test_a_wider_beam_must_make_fewer_errors() -> None:
    of_beam = {5: 4, 10: 3, 20: 3}
    trials = [Trial(Weights(beam, 0, beam), e / 10, e) for beam, e in of_beam.items()]
    for order in (trials, trials[::-1]):
        assert tuning.best(order).weights.beam == 10


def test_every_point_of_the_grid_is_there_once() -> None:
    settings = DecodeSettings(lm_weights=[0, 1], word_scores=[2.0, 2.0], beam=[9, 3, 9])
    assert tuning.grid(settings) == [(0, 2, 3), (0, 2, 9), (1, 2, 3), (1, 2, 9)]


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
    assert tuning.at_edge(Trial(Weights(*best, 100), 0.5, 5), settings) == edges


def test_a_grid_of_one_value_has_no_edge() -> None:
    settings = DecodeSettings(lm_weights=[1.0], word_scores=[0.5])
    assert tuning.at_edge(Trial(Weights(1.0, 0.5, 100), 0.5, 5), settings) == []


@pytest.mark.parametrize(("beam", "edges"), [(5, []), (10, []), (20, ["beam"])])
def test_only_the_widest_beam_is_an_edge(beam: int, edges: list[str]) -> None:
    settings = DecodeSettings(lm_weights=[1.0], word_scores=[0.0], beam=[20, 10, 5])
    assert tuning.at_edge(Trial(Weights(1.0, 0.0, beam), 0.5, 5), settings) == edges
