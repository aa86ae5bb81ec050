"""Alignments that equal sclite's, program and published weights."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.acoustic.alignment import align, readable
from stages.acoustic.scoring import counts_of

Words = Sequence[str]
Sclite = Callable[[Path, Path], dict[str, tuple[int, int, int, int]]]


def write_trn(path: Path, texts: dict[str, str]) -> Path:
    path.write_text("".join(f"{text} ({name})\n".lstrip() for name, text in texts.items()))
    return path


@pytest.mark.parametrize(
    ("vocabulary", "longest"), [("ab", 12), ("abcde", 25), ("abcdefghijklmnop", 60), ("äßöñ", 9)]
)
def test_counts_equal_those_of_sclite(
    tmp_path: Path, sclite: Sclite, vocabulary: str, longest: int
) -> None:
    """On random words, where most alignments have many others of the same cost."""
    choose = random.Random(7)
    said, heard = {}, {}
    for number in range(500):
        name = f"speaker-{number:03d}"
        said[name] = " ".join(choose.choices(vocabulary, k=choose.randint(1, longest)))
        heard[name] = " ".join(choose.choices(vocabulary, k=choose.randint(0, longest)))
    told = sclite(write_trn(tmp_path / "r.trn", said), write_trn(tmp_path / "h.trn", heard))
    ours = {name: counts_of(align(said[name].split(), heard[name].split())) for name in said}
    assert told == {
        name: (c.substitutions, c.deletions, c.insertions, c.reference) for name, c in ours.items()
    }
    assert sum(c.errors for c in ours.values()) > 500


words = st.lists(st.sampled_from("abcd"), max_size=9)


@given(words, words)
def test_an_alignment_is_of_the_words_in_their_order_and_the_cheapest(
    said: list[str], heard: list[str]
) -> None:
    steps = align(said, heard)
    assert [s.reference for s in steps if s.operation != "insert"] == said
    assert [s.hypothesis for s in steps if s.operation != "delete"] == heard
    for step in steps:
        assert (step.reference == step.hypothesis) == (step.operation == "equal")
    counts = counts_of(steps)
    cost = 4 * counts.substitutions + 3 * counts.deletions + 3 * counts.insertions
    assert cost == cheapest(tuple(said), tuple(heard))


@cache
def cheapest(said: tuple[str, ...], heard: tuple[str, ...]) -> int:
    if not said or not heard:
        return 3 * len(said + heard)
    pair = cheapest(said[1:], heard[1:]) + (0 if said[0] == heard[0] else 4)
    return min(pair, cheapest(said[1:], heard) + 3, cheapest(said, heard[1:]) + 3)


def test_a_correct_word_is_worth_a_deletion_and_an_insertion() -> None:
    steps = align("a b".split(), "b c".split())
    assert [s.operation for s in steps] == ["delete", "equal", "insert"]  # not two substitutions


def test_the_readable_form_sets_what_was_heard_under_what_was_said() -> None:
    text = readable("u7", align("turn left now".split(), "turn right now please".split()))
    assert text == (
        "id: u7\n"
        "REF: turn left  now ******\n"
        "HYP: turn right now please\n"
        "          S         I\n"
    )  # fmt: skip
