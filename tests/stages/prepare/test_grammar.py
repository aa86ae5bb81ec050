"""Grammars: what they can say, and which files are refused."""

import random
from pathlib import Path

import pytest

from pipeline.errors import UserError
from stages.prepare import grammar
from stages.prepare.corpora.synthetic import DATA, GRAMMAR

SMALL = """
# a comment
sentence = <who> sleeps
    | <who> and <who> sleep
who = anna | the dog
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "grammar.txt"
    path.write_text(text)
    return path


def test_a_small_grammar_says_exactly_its_sentences(tmp_path: Path) -> None:
    rules = grammar.read(written(tmp_path, SMALL))
    rng = random.Random(1)
    said = {rules.draw(rng) for _ in range(300)}
    one = ["anna", "the dog"]
    assert said == {f"{w} sleeps" for w in one} | {f"{v} and {w} sleep" for v in one for w in one}
    assert rules.size() == 6
    assert rules.lengths() == (2, 6)
    assert rules.words() == {"anna", "the", "dog", "and", "sleep", "sleeps"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("sentence = <who> sleeps", "no rule 'who'"),
        ("who = anna", "no rule 'sentence'"),
        ("sentence = a | b |", "not well formed"),
        ("sentence = Anna", "not well formed"),
        ("sentence = <a\na = b", "not well formed"),
        ("sentence = a\nsentence = b", "stands twice"),
        ("sentence = a\nother = b", "no sentence uses: other"),
        ("sentence = <x> a\nx = b | <sentence>", "leads back to itself"),
        ("what is this?", "line 1 is no rule"),
    ],
)
def test_a_wrong_grammar_is_refused(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        grammar.read(written(tmp_path, text))


def test_a_missing_grammar_is_the_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such grammar"):
        grammar.read(tmp_path / "none.txt")


def test_the_demo_grammar_is_large_enough() -> None:
    rules = grammar.read(DATA / GRAMMAR)
    assert len(rules.words()) >= 150
    assert rules.size() > 1_000_000
    shortest, longest = rules.lengths()
    assert (shortest, longest) == (3, 9)
