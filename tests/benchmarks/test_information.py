"""Mutual information on cases whose value is known, and a control that takes the bias away."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.benchmarks.information import Spoken, mutual_information_bits, told_of_digits


def test_what_says_all_says_the_entropy_and_what_says_nothing_says_nothing() -> None:
    digits = np.repeat(np.arange(8), 50)
    assert mutual_information_bits(digits, 7 - digits) == pytest.approx(3.0)
    assert mutual_information_bits(np.tile(np.arange(5), 80), digits) == pytest.approx(0.0)


def test_a_noisy_channel_says_what_the_formula_says() -> None:
    """A symmetric channel with two inputs and an eighth of errors: 1 - H(1/8) bits."""
    heard = np.array([0] * 7 + [1] + [1] * 7 + [0])
    entropy = -(1 / 8 * math.log2(1 / 8) + 7 / 8 * math.log2(7 / 8))
    assert mutual_information_bits(heard, np.repeat([0, 1], 8)) == pytest.approx(1 - entropy)


def recordings(carries: bool) -> list[Spoken]:
    rng = np.random.default_rng(0)
    made = []
    for number in range(200):
        digit = number % 10
        first = np.full(20, digit) if carries else rng.integers(0, 40, 20)
        units_FG = np.stack([first, rng.integers(0, 40, 20)], axis=1)
        made.append(Spoken("ab"[number // 10 % 2], str(digit), units_FG))
    return made


def test_units_without_speech_tell_no_more_than_shuffled_digits() -> None:
    nothing = told_of_digits(recordings(carries=False), seed=1)
    assert nothing.bits > 0.5  # many types, few frames: what is called bias
    assert nothing.bits - nothing.shuffled_mean == pytest.approx(0, abs=0.05)
    everything = told_of_digits(recordings(carries=True), seed=1)
    assert everything.bits == pytest.approx(math.log2(10))
    assert everything.bits > everything.shuffled_max + 0.5
    assert (everything.frames, everything.recordings) == (4000, 200)


def test_digits_are_shuffled_within_a_speaker() -> None:
    """Two speakers who say one digit each: shuffling can change nothing."""
    units = {"a": np.zeros((5, 1), int), "b": np.ones((5, 1), int)}
    spoken = [Spoken(s, {"a": "one", "b": "two"}[s], units[s]) for s in "aabb"]
    told = told_of_digits(spoken, seed=1)
    assert told.bits == told.shuffled_mean == pytest.approx(1.0)
