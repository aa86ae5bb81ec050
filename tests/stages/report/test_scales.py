"""Ticks are numbers that people say, and places are where the mathematics puts them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.report.scales import linear, speech, thinned, updates


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (0, 107.4, ["0", "25", "50", "75", "100", "125"]),
        (0, 0.9, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        (2.1, 3.46, ["2.0", "2.5", "3.0", "3.5"]),
        (0, 1200, ["0", "250", "500", "750", "1,000", "1,250"]),
        (5, 5, ["5", "6", "7", "8", "9", "10"]),
    ],
)
def test_linear_ticks_are_round_and_enclose_the_values(
    low: float, high: float, labels: list[str]
) -> None:
    assert [tick.label for tick in linear(low, high).ticks] == labels


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_linear_scales_hold_their_values(low: float, length: float) -> None:
    high = low + length
    scale = linear(low, high)
    slack = 1e-6 * max(abs(low), abs(high), 1)
    assert scale.low <= low + slack and scale.high >= high - slack
    assert 2 <= len(scale.ticks) <= 8


def test_speech_lies_on_a_logarithm_with_ticks_that_people_say() -> None:
    scale = speech([600, 3600, 36_000])
    assert [tick.label for tick in scale.ticks] == ["10 min", "1 h", "10 h"]
    # equal ratios are equal distances
    first, second, third = (scale.place(600 * 5**n) for n in (0, 1, 2))
    assert math.isclose(second - first, third - second)
    assert 0 < scale.place(600) < scale.place(36_000) < 1


@pytest.mark.parametrize("seconds", [[2.0], [118.2], [600.0, 610.0], [3_600_000.0]])
def test_a_single_budget_has_ticks_too(seconds: list[float]) -> None:
    scale = speech(seconds)
    assert scale.low < min(seconds) <= max(seconds) < scale.high
    assert scale.ticks


def test_updates_end_at_the_last_one() -> None:
    scale = updates(1900)
    assert (scale.low, scale.high) == (0, 1900)
    assert [tick.label for tick in scale.ticks] == ["0", "500", "1,000", "1,500"]


@given(st.lists(st.integers(), max_size=500), st.integers(1, 100))
def test_thinning_keeps_the_last_and_about_as_many_as_asked(values: list[int], most: int) -> None:
    kept = thinned(values, most)
    assert len(kept) <= most + 1
    assert kept[-1:] == values[-1:]
    assert len(kept) == len(values) or len(values) > most
