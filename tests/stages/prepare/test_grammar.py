"""Grammars: what they can say, and which files are refused."""

import random
from collections import Counter
from pathlib import Path

import pytest

from pipeline.errors import UserError
from stages.prepare import grammar
from stages.prepare.corpora.synthetic import DATA, GRAMMAR

Rules = dict[str, tuple[tuple[str, ...], ...]]
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


def by_words(rules: Rules, rule: str) -> Counter[int]:
    """How many sentences there are of each length, one counted for each way to derive it."""
    found: Counter[int] = Counter()
    for alternative in set(rules[rule]):
        ways = Counter({0: 1})
        for token in alternative:
            more = by_words(rules, token[1:-1]) if token[0] == "<" else Counter({1: 1})
            both = [(a + b, n * m) for a, n in ways.items() for b, m in more.items()]
            ways = Counter()
            for words, count in both:
                ways[words] += count
        found += ways
    return found


def test_a_small_grammar_says_exactly_its_sentences(tmp_path: Path) -> None:
    rules = grammar.read(written(tmp_path, SMALL))
    rng = random.Random(1)
    said = {rules.draw(rng) for _ in range(300)}
    one = ["anna", "the dog"]
    assert said == {f"{w} sleeps" for w in one} | {f"{v} and {w} sleep" for v in one for w in one}


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
    rules = grammar.read(DATA / GRAMMAR).rules
    tokens = {t for row in rules.values() for alternative in row for t in alternative}
    assert sum(t[0] != "<" for t in tokens) >= 150
    sentences = by_words(rules, grammar.START)
    assert sum(sentences.values()) > 1_000_000
    assert (min(sentences), max(sentences)) == (3, 9)
