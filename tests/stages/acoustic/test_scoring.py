"""Known error counts, and intervals that behave as intervals."""

from __future__ import annotations

import random

import numpy as np
import pytest

from pipeline.errors import UserError
from stages.acoustic import scoring
from stages.acoustic.scoring import Counts


@pytest.mark.parametrize(
    ("reference", "hypothesis", "counts"),
    [
        ("a b c", "a b c", Counts(0, 0, 0, 3)),
        ("a b c", "a x c", Counts(1, 0, 0, 3)),
        ("a b c", "a c", Counts(0, 1, 0, 3)),
        ("a b c", "a b x c y", Counts(0, 0, 2, 3)),
        ("a b c", "", Counts(0, 3, 0, 3)),
        ("a", "x y z", Counts(1, 0, 2, 1)),
    ],
)
def test_word_errors_of_one_utterance(reference: str, hypothesis: str, counts: Counts) -> None:
    assert scoring.count_words({"u": reference}, {"u": hypothesis}) == counts
    output = scoring.align({"u": reference}, {"u": hypothesis})
    assert scoring.utterance_counts(output, 0) == counts


def test_counts_are_summed_before_they_are_divided() -> None:
    references = {"short": "a", "long": "a b c d e f g h i"}
    hypotheses = {"long": "a b c d e f g h i", "short": "x"}  # in another order
    counts = scoring.count_words(references, hypotheses)
    assert counts.rate == pytest.approx(1 / 10)  # the mean of the rates would be 1/2


def test_characters_include_the_spaces_between_words() -> None:
    assert scoring.count_characters({"u": "ab cd"}, {"u": "ab"}) == Counts(0, 3, 0, 5)


def test_errors_equal_a_plain_edit_distance() -> None:
    choose = random.Random(5)
    for _ in range(50):
        a = choose.choices("abc", k=choose.randint(1, 8))
        b = choose.choices("abc", k=choose.randint(0, 8))
        counts = scoring.count_words({"u": " ".join(a)}, {"u": " ".join(b)})
        assert counts.errors == distance(a, b)
        assert counts.reference == len(a)


def distance(a: list[str], b: list[str]) -> int:
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        before, row[0] = row[0], i
        for j, y in enumerate(b, start=1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (x != y))
    return row[-1]


@pytest.mark.parametrize("text", [None, "", "  "])
def test_an_utterance_without_reference_is_named(text: str | None) -> None:
    with pytest.raises(UserError, match="u2"):
        scoring.check_references({"u1": "a", "u2": text})


def test_no_utterances_are_refused() -> None:
    with pytest.raises(UserError, match="no utterances"):
        scoring.check_references({})


def test_operations_tell_the_words() -> None:
    output = scoring.align({"u": "turn left now"}, {"u": "turn right now please"})
    assert scoring.operations(output, 0) == [
        ("equal", "turn", "turn"),
        ("substitute", "left", "right"),
        ("equal", "now", "now"),
        ("insert", "", "please"),
    ]


def corpus(speakers: int, each: int) -> tuple[list[Counts], list[str]]:
    draw = np.random.default_rng(0)
    counts = [Counts(int(draw.binomial(10, 0.2)), 0, 0, 10) for _ in range(speakers * each)]
    return counts, [f"s{i % speakers:02d}" for i in range(speakers * each)]


def test_ten_speakers_are_resampled_fewer_are_kept() -> None:
    assert scoring.bootstrap(*corpus(10, 5), 200, 0.95).resampled == "10 speakers"
    few = scoring.bootstrap(*corpus(9, 5), 200, 0.95)
    assert few.resampled == "utterances within 9 speakers"


@pytest.mark.parametrize("speakers", [1, 4, 50])
def test_interval_has_the_width_that_theory_gives(speakers: int) -> None:
    each = 200 // speakers
    counts, names = corpus(speakers, each)
    rate = sum(counts, scoring.NOTHING).rate
    interval = scoring.bootstrap(counts, names, 4000, 0.95)
    # Within speakers alike as over all: errors here do not depend on the speaker.
    half = 1.96 * float(np.std([c.rate for c in counts])) / 200**0.5
    assert interval.low == pytest.approx(rate - half, abs=0.3 * half)
    assert interval.high == pytest.approx(rate + half, abs=0.3 * half)


def test_speakers_that_differ_widen_the_interval() -> None:
    counts = [Counts(0 if s < 10 else 10, 0, 0, 10) for s in range(20) for _ in range(10)]
    names = [f"s{s}" for s in range(20) for _ in range(10)]
    interval = scoring.bootstrap(counts, names, 2000, 0.95)
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * 0.5 / 20**0.5, rel=0.2)


def test_interval_is_the_same_every_time() -> None:
    assert scoring.bootstrap(*corpus(12, 3), 300, 0.9) == scoring.bootstrap(
        *corpus(12, 3), 300, 0.9
    )


def test_no_error_gives_an_interval_of_nothing() -> None:
    interval = scoring.bootstrap([Counts(0, 0, 0, 5)] * 3, ["s"] * 3, 100, 0.95)
    assert (interval.low, interval.high) == (0, 0)
