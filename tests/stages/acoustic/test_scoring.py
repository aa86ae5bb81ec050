"""Known error counts, and the confusions behind them."""

from __future__ import annotations

import random

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


def test_counts_are_summed_before_they_are_divided() -> None:
    references = {"short": "a", "long": "a b c d e f g h i"}
    hypotheses = {"long": "a b c d e f g h i", "short": "x"}  # in another order
    counts = scoring.count_words(references, hypotheses)
    assert counts.rate == pytest.approx(1 / 10)  # the mean of the rates would be 1/2


def test_characters_include_the_spaces_between_words() -> None:
    told = scoring.count_characters({"u": "ab cd", "v": "a"}, {"v": "ab", "u": "ab"})
    assert told == {"u": Counts(0, 3, 0, 5), "v": Counts(0, 0, 1, 1)}


def test_errors_are_those_of_the_plain_edit_distance_or_a_few_more() -> None:
    """A few: sclite's weights pay for correct words with pairs of a deletion and an insertion."""
    choose, ours, fewest = random.Random(5), 0, 0
    for _ in range(300):
        a = choose.choices("abc", k=choose.randint(1, 8))
        b = choose.choices("abc", k=choose.randint(0, 8))
        counts = scoring.count_words({"u": " ".join(a)}, {"u": " ".join(b)})
        assert counts.errors >= distance(a, b)
        assert counts.reference == len(a)
        ours, fewest = ours + counts.errors, fewest + distance(a, b)
    assert fewest <= ours < 1.01 * fewest


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


def test_confusions_come_by_how_frequent_they_are() -> None:
    references = {"a": "turn left", "b": "turn left", "c": "go", "d": "now go"}
    hypotheses = {"a": "turn right", "b": "burn right", "c": "go go", "d": "go"}
    aligned = scoring.align_all(references, hypotheses)
    assert scoring.confusions(aligned.values()) == {
        "substitutions": [["left", "right", 2], ["turn", "burn", 1]],
        "deletions": [["now", 1]],
        "insertions": [["go", 1]],
    }
