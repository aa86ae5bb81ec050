"""Intervals that behave as intervals, and differences that are paired."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from stages.acoustic import bootstrap


def corpus(speakers: int, each: int, seed: int = 0) -> tuple[list[int], list[int], list[str]]:
    draw = np.random.default_rng(seed)
    errors = [int(draw.binomial(10, 0.2)) for _ in range(speakers * each)]
    return errors, [10] * len(errors), [f"s{i % speakers:02d}" for i in range(len(errors))]


def test_ten_speakers_are_resampled_fewer_are_kept() -> None:
    assert bootstrap.interval(*corpus(10, 5), 200, 0.95).resampled == "10 speakers"
    few = bootstrap.interval(*corpus(9, 5), 200, 0.95)
    assert few.resampled == "utterances within 9 speakers"


@pytest.mark.parametrize("speakers", [1, 4, 50])
def test_interval_has_the_width_that_theory_gives(speakers: int) -> None:
    errors, words, names = corpus(speakers, 200 // speakers)
    interval = bootstrap.interval(errors, words, names, 4000, 0.95)
    # Within speakers alike as over all: errors here do not depend on the speaker.
    half = 1.96 * float(np.std(errors)) / 10 / 200**0.5
    rate = sum(errors) / sum(words)
    assert interval.low == pytest.approx(rate - half, abs=0.3 * half)
    assert interval.high == pytest.approx(rate + half, abs=0.3 * half)


def test_speakers_that_differ_widen_the_interval() -> None:
    errors = [0 if s < 10 else 10 for s in range(20) for _ in range(10)]
    names = [f"s{s}" for s in range(20) for _ in range(10)]
    interval = bootstrap.interval(errors, [10] * 200, names, 2000, 0.95)
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * 0.5 / 20**0.5, rel=0.2)


def test_few_speakers_that_differ_do_not() -> None:
    """Each drawn test set holds every one of them as often as the real one does."""
    errors = [0 if s < 2 else 10 for s in range(4) for _ in range(10)]
    names = [f"s{s}" for s in range(4) for _ in range(10)]
    interval = bootstrap.interval(errors, [10] * 40, names, 500, 0.95)
    assert (interval.low, interval.high) == (0.5, 0.5)


def test_the_interval_is_that_of_all_test_sets_that_can_be_drawn() -> None:
    errors, words = [0, 1, 3], [2, 3, 5]
    rates = [
        sum(errors[i] for i in drawn) / sum(words[i] for i in drawn)
        for drawn in product(range(3), repeat=3)
    ]
    interval = bootstrap.interval(errors, words, ["s"] * 3, 40_000, 0.8)
    low, high = np.quantile(rates, [0.1, 0.9])
    assert interval.low == pytest.approx(low, abs=0.01)
    assert interval.high == pytest.approx(high, abs=0.01)


def test_sets_drawn_in_parts_are_those_drawn_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = bootstrap.interval(*corpus(12, 3), 300, 0.9)
    monkeypatch.setattr(bootstrap, "CELLS_AT_ONCE", 50)
    assert bootstrap.interval(*corpus(12, 3), 300, 0.9) == whole


def test_no_error_gives_an_interval_of_nothing() -> None:
    interval = bootstrap.interval([0] * 3, [5] * 3, ["s"] * 3, 100, 0.95)
    assert (interval.low, interval.high) == (0, 0)


def test_what_is_hard_for_both_systems_does_not_count() -> None:
    errors, words, names = corpus(4, 50)
    better = [e - 1 if e and i % 2 else e for i, e in enumerate(errors)]
    alone = bootstrap.interval(errors, words, names, 2000, 0.95)
    paired = bootstrap.compare(better, errors, words, names, 2000, 0.95)
    assert paired.difference == pytest.approx((sum(better) - sum(errors)) / sum(words))
    assert paired.low < paired.difference < paired.high < 0
    assert paired.probability == 1
    assert paired.high - paired.low < (alone.high - alone.low) / 2


def test_a_system_against_itself_is_as_likely_better_as_worse() -> None:
    errors, words, names = corpus(12, 4)
    same = bootstrap.compare(errors, errors, words, names, 500, 0.95)
    assert (same.difference, same.low, same.high, same.probability) == (0, 0, 0, 0.5)


def test_the_other_way_round_is_the_complement() -> None:
    first, words, names = corpus(12, 4)
    second, _, _ = corpus(12, 4, seed=1)
    there = bootstrap.compare(first, second, words, names, 2000, 0.9)
    back = bootstrap.compare(second, first, words, names, 2000, 0.9)
    assert back.difference == pytest.approx(-there.difference)
    assert back.low == pytest.approx(-there.high)
    assert back.probability == pytest.approx(1 - there.probability)
    assert 0 < there.probability < 1


def test_the_probability_is_the_share_of_test_sets_with_fewer_errors() -> None:
    extra = [-2, 1, 1, -1]
    sums = [sum(extra[i] for i in drawn) for drawn in product(range(4), repeat=4)]
    exact = float(np.mean([s < 0 for s in sums]) + 0.5 * np.mean([s == 0 for s in sums]))
    first = [1 + e + 2 for e in extra]
    told = bootstrap.compare(first, [3] * 4, [5] * 4, ["s"] * 4, 40_000, 0.95)
    assert told.probability == pytest.approx(exact, abs=0.01)


def test_both_are_the_same_every_time() -> None:
    errors, words, names = corpus(12, 3)
    other, _, _ = corpus(12, 3, seed=2)
    first, second = (bootstrap.compare(errors, other, words, names, 300, 0.9) for _ in "ab")
    assert first == second
    assert first.resampled == "12 speakers"
